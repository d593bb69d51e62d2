"""Time the network per engine, precision, size and batch, and the whole predictor."""

from copy import deepcopy
import hashlib
import logging
from typing import Optional

import numpy as np
import torch

from svp_ros.benchmark.baselines import opencv_matchers, photograph, STAND_IN_GFLOP, StandIn
from svp_ros.benchmark.timing import add_ratios, interleave, percentiles
from svp_ros.engine.choose import make_engine
from svp_ros.model.build import build_model, load_checkpoint, SIZES
from svp_ros.model.network import DisparityNetwork
from svp_ros.predictor import find_model, StereoPredictor

logger = logging.getLogger(__name__)
EAGER = 'torch_eager'


def load_network(name: str) -> tuple[DisparityNetwork, Optional[str]]:
    """Network of a checkpoint and its SHA-256, or a size that has none with random weights."""
    try:
        path = find_model(name)
    except FileNotFoundError:
        if name not in SIZES:
            raise
        return build_model(SIZES[name]).eval(), None
    return load_checkpoint(path)[0], hashlib.sha256(path.read_bytes()).hexdigest()


def measure_networks(models: list[str], configurations: list[tuple[str, str]],
                     sizes: list[tuple[int, int]], batches: list[int], device: str,
                     rounds: int, stand_in: bool = True) -> dict:
    """Time engines on noise, in turn with the baselines at the first size.

    Args:
        models: names in models/, paths, or sizes of the network.
        configurations: (engine, precision) pairs; those that do not work here are listed.
        sizes: (height, width) of the network's input, multiples of 32.
        batches: pairs per call.
        device: cpu, cuda or cuda:N.
        rounds: measurements of each.
        stand_in: also time the plain network of STAND_IN_GFLOP, which takes seconds on a CPU.

    Returns:
        `networks`: rows with model, engine, precision, size, batch, percentiles and `ratios` to
        each baseline; `baselines`: percentiles by name; `not_measured`: reasons by name.
    """
    rows, contenders, missing = [], {}, {}
    for model in models:
        network, sha256 = load_network(model)
        for height, width in sizes:
            image = torch.rand(1, 3, height, width, device=device)
            row = {'model': model, 'engine': EAGER, 'precision': 'fp32',
                   'size': [height, width], 'batch': 1}
            rows.append(row)
            contenders[_name(row)] = _eager(deepcopy(network).to(device), image)
            for engine, precision in configurations:
                for batch in batches:
                    row = {'model': model, 'engine': engine, 'precision': precision,
                           'size': [height, width], 'batch': batch}
                    try:
                        made = make_engine(network, (height, width), engine, precision,
                                           device, batch, sha256)
                    except ValueError as error:
                        missing[f'{engine} {precision}'] = str(error)
                        continue
                    rows.append(row)
                    contenders[_name(row)] = _run(made, batch, height, width)
                    logger.info('made %s', _name(row))
    baselines = opencv_matchers(*photograph(*sizes[0]))
    if stand_in:
        plain = StandIn().to(device).eval()
        baselines[f'stand_in_{STAND_IN_GFLOP:.0f}_gflop'] = _eager(
            plain, torch.rand(1, 3, *sizes[0], device=device))
    times = interleave({**baselines, **contenders}, rounds)
    summaries = {name: percentiles(times[name]) for name in baselines}
    for row in rows:
        row.update(percentiles(times[_name(row)]))
    add_ratios(rows, summaries)
    return {'networks': rows, 'baselines': summaries, 'not_measured': missing}


def measure_predictor(model: str, device: str, size: tuple[int, int], engine: str,
                      precision: str, inputs: list[tuple[int, int]], rounds: int) -> list[dict]:
    """Time `predict` by stage on photographs of several sizes.

    Returns:
        For each input size, percentiles of the whole call, the median of each stage in
        milliseconds and `overhead`: preprocessing and postprocessing over inference.
    """
    predictor = StereoPredictor.load(model, device, size, engine, precision)
    table = []
    for height, width in inputs:
        pair = photograph(height, width)
        stages = []
        times = interleave({'predict': lambda pair=pair, stages=stages: stages.append(
            predictor.predict(*pair).timing)}, rounds)['predict']
        medians = {stage: float(np.median([timing[stage] for timing in stages[1:]]))
                   for stage in stages[0]}
        table.append({'model': model, 'engine': predictor.engine.name, 'precision': precision,
                      'network_size': list(size), 'input': [height, width], **percentiles(times),
                      **{f'{stage}_ms': value for stage, value in medians.items()},
                      'overhead': (medians['preprocess'] + medians['postprocess'])
                      / medians['inference']})
    return table


def _eager(network: torch.nn.Module, image: torch.Tensor):
    def run() -> None:
        with torch.inference_mode():
            network(image, image)
        if image.is_cuda:
            torch.cuda.synchronize(image.device)
    return run


def _run(engine, batch: int, height: int, width: int):
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8,
                            generator=generator).to(engine.device) for _ in range(2)]

    def run() -> None:
        engine(*images)
        if images[0].is_cuda:
            torch.cuda.synchronize(images[0].device)
    return run


def _name(row: dict) -> str:
    return (f'{row["model"]} {row["engine"]} {row["precision"]} '
            f'{row["size"][0]}x{row["size"][1]} batch {row["batch"]}')
