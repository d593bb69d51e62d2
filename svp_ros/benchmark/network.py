"""Time the network per engine, precision, size and batch, and the whole predictor."""

from collections.abc import Callable, Sequence
from copy import deepcopy
import logging
from pathlib import Path
from typing import Optional

import numpy as np
import torch

from svp_ros.benchmark.bars import EAGER
from svp_ros.benchmark.baselines import opencv_matchers, photograph, STAND_IN, StandIn
from svp_ros.benchmark.cost import add_floor, count_cost, measure_rates
from svp_ros.benchmark.peers import load_peer
from svp_ros.benchmark.timing import add_ratios, interleave, percentiles
from svp_ros.engine.choose import make_engine
from svp_ros.files import sha256_of
from svp_ros.model.build import build_model, load_checkpoint, SIZES
from svp_ros.model.network import DisparityNetwork
from svp_ros.predictor import find_model, StereoPredictor

logger = logging.getLogger(__name__)


def load_network(name: str) -> tuple[DisparityNetwork, Optional[str]]:
    """Network of a checkpoint and its SHA-256, or a size that has none with random weights."""
    try:
        path = find_model(name)
    except FileNotFoundError:
        if name not in SIZES:
            raise
        return build_model(SIZES[name]).eval(), None
    return load_checkpoint(path)[0], sha256_of(path)


def measure_networks(models: list[str], configurations: list[tuple[str, str]],
                     size: tuple[int, int], device: str, rounds: int, stand_in: bool = True,
                     peers: Sequence[str] = ()) -> dict:
    """Time engines on a pair of noise, in turn with the baselines.

    Args:
        models: names in models/, paths, or sizes of the network.
        configurations: (engine, precision) pairs; those that do not work here are listed.
        size: (height, width) of the network's input, multiples of 32.
        device: cpu, cuda or cuda:N.
        rounds: measurements of each.
        stand_in: also time the plain network of STAND_IN_GFLOP, which takes seconds on a CPU.
        peers: `module:function` of other networks, see `load_peer`.

    Returns:
        `networks`: rows with model, engine, precision, size, batch, percentiles, `ratios` to each
        baseline and the roofline (see `add_floor`); `baselines`: percentiles by name; `rates` of
        the device; `not_measured`: reasons by name.
    """
    rows, contenders, costs, missing = [], {}, {}, {}
    for model in models:
        network, sha256 = load_network(model)
        model = Path(model).stem
        image = torch.rand(1, 3, *size, device=device)
        eager = deepcopy(network).to(device)
        costs[model] = count_cost(eager, image, image)
        row = {'model': model, 'engine': EAGER, 'precision': 'fp32', 'size': list(size),
               'batch': 1}
        rows.append(row)
        contenders[_name(row)] = _eager(eager, image)
        for engine, precision in configurations:
            try:
                row, run = prepare(model, network, sha256, engine, precision, size, 1, device)
            except ValueError as error:
                missing[f'{model} {engine} {precision}'] = str(error)
                continue
            rows.append(row)
            contenders[_name(row)] = run
    baselines = opencv_matchers(*photograph(*size))
    if stand_in:
        baselines[STAND_IN] = _eager(StandIn().to(device).eval(),
                                     torch.rand(1, 3, *size, device=device))
    for peer in peers:
        try:
            baselines[peer] = load_peer(peer, device, *size)
        except ValueError as error:
            missing[peer] = str(error)
    times = interleave({**baselines, **contenders}, rounds)
    rates = measure_rates(device, [precision for _, precision in configurations])
    summaries = {name: percentiles(times[name]) for name in baselines}
    for row in rows:
        row.update(percentiles(times[_name(row)]))
        add_floor(row, *costs[row['model']], rates)
    add_ratios(rows, summaries)
    return {'networks': rows, 'baselines': summaries, 'rates': rates, 'not_measured': missing}


def measure_scaling(model: str, configurations: list[tuple[str, str]],
                    sizes: list[tuple[int, int]], batches: list[int], device: str,
                    rounds: int) -> tuple[list[dict], dict[str, str]]:
    """Time one pair at several sizes, and several pairs in one pass at the first size.

    Returns:
        Rows with model, engine, precision, size, batch, percentiles of the pass and
        `ms_per_pair`; and why others are missing, by name.
    """
    network, sha256 = load_network(model)
    model = Path(model).stem
    cases = dict.fromkeys([*((size, 1) for size in sizes),
                           *((sizes[0], batch) for batch in batches)])
    rows, contenders, missing = [], {}, {}
    for engine, precision in configurations:
        for size, batch in cases:
            try:
                row, run = prepare(model, network, sha256, engine, precision, size, batch, device)
            except ValueError as error:
                name = f'scaling {engine} {precision} {size[0]}x{size[1]} batch {batch}'
                missing[name] = str(error)
                continue
            rows.append(row)
            contenders[_name(row)] = run
    times = interleave(contenders, rounds)
    for row in rows:
        row.update(percentiles(times[_name(row)]))
        row['ms_per_pair'] = row['p50_ms'] / row['batch']
    return rows, missing


def prepare(model: str, network: DisparityNetwork, sha256: Optional[str], engine: str,
            precision: str, size: tuple[int, int], batch: int,
            device: str) -> tuple[dict, Callable[[], None]]:
    """Make an engine and its pass on noise.

    Returns:
        What it is, on a GPU with the memory that it took (`gpu_mib`), and the pass.

    Raises:
        ValueError: If it does not work here.
    """
    row = {'model': model, 'engine': engine, 'precision': precision, 'size': list(size),
           'batch': batch}
    before = _gpu_bytes(device)
    made = make_engine(network, size, engine, precision, device, batch, sha256)
    run = _run(made, batch, *size)
    try:
        run()
    except Exception as error:  # of other people's packages, or out of memory
        raise ValueError(f'the first pass fails: {type(error).__name__}: {error}') from error
    if before is not None:
        row['gpu_mib'] = (_gpu_bytes(device) - before) / 2 ** 20
    logger.info('made %s', _name(row))
    return row, run


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
        table.append({'model': Path(model).stem, 'engine': predictor.engine.name,
                      'precision': precision, 'network_size': list(size),
                      'input': [height, width], **percentiles(times),
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


def _gpu_bytes(device: str) -> Optional[int]:
    """Bytes of the GPU that are in use, whoever holds them; None on a CPU."""
    if torch.device(device).type == 'cpu':
        return None
    torch.cuda.empty_cache()  # what PyTorch keeps for later is not in use
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _name(row: dict) -> str:
    h, w = row['size']
    return f'{row["model"]} {row["engine"]} {row["precision"]} {h}x{w} batch {row["batch"]}'
