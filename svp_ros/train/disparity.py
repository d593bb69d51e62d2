"""`svp finetune disparity`: train a disparity network on the procedural world."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

from lightning.fabric import seed_everything
import numpy as np
import torch
from torch import Tensor

from svp_ros.config import load_config
from svp_ros.data.formats import write_image
from svp_ros.data.labelled import find_scenes, Scene
from svp_ros.data.stream import batches, StreamConfig, VALIDATION_SEED, WorldStream
from svp_ros.data.world import StereoSample, World
from svp_ros.eval.disparity import evaluate_scenes
from svp_ros.eval.metrics import DisparityScore
from svp_ros.model.build import (
    build_model,
    get_size,
    NetworkConfig,
    save_checkpoint,
)
from svp_ros.pictures import colour_disparity
from svp_ros.predictor import StereoPredictor
from svp_ros.train.loop import LoopConfig
from svp_ros.train.losses import disparity_losses
from svp_ros.train.runs import (
    add_run_options,
    check_precision,
    make_fabric,
    open_run,
    refuse_options,
    settle_config,
    start_network,
    use_photographs,
)

PAIRS_PER_VALIDATION_BATCH = 4


@dataclass(frozen=True)
class DisparityTraining:
    """One experiment; `config/train/*.yaml` override these defaults.

    Args:
        size: nano, small or base.
        start: checkpoint (path or name in models/) of a disparity network, or of one that is
            pre-trained, whose weights are the start; None: fresh weights.
        seed: seed of weights, world and augmentation.
        precision: 32-true or bf16-mixed.
        validation_pairs: fixed world pairs that every validation scores.
        stream: data.
        loop: optimisation.
    """

    size: str = 'nano'
    start: Optional[str] = None
    seed: int = 0
    precision: str = 'bf16-mixed'
    validation_pairs: int = 64
    stream: StreamConfig = field(default_factory=StreamConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self):
        get_size(self.size)
        check_precision(self.precision)
        if self.validation_pairs < PAIRS_PER_VALIDATION_BATCH:
            raise ValueError(f'validation_pairs must be at least {PAIRS_PER_VALIDATION_BATCH}, '
                             f'got {self.validation_pairs}')


class Validation:
    """Score averaged weights on fixed world pairs that training never sees.

    Args:
        stream: world and size of the pairs.
        pairs: how many.
        network: architecture of the weights.
        folder: run folder.
        device: where the network runs.
        scenes: labelled pairs of real cameras that are scored as well, at network size.
    """

    def __init__(self, stream: StreamConfig, pairs: int, network: NetworkConfig, folder: Path,
                 device: torch.device, scenes: Sequence[Scene] = ()):
        world = World(stream.world, stream.photographs)
        self.samples = [
            world.sample(VALIDATION_SEED + i, PAIRS_PER_VALIDATION_BATCH, stream.height,
                         stream.width) for i in range(pairs // PAIRS_PER_VALIDATION_BATCH)]
        self.model = build_model(network).to(device).eval()
        self.network = network
        self.folder = folder
        self.device = device
        self.scenes = scenes

    @torch.inference_mode()
    def __call__(self, weights: dict[str, Tensor], samples: int) -> dict[str, float]:
        """Load the weights, write them and pictures to the run folder, return the metrics."""
        self.model.load_state_dict(weights)
        score, visible = DisparityScore(), DisparityScore()
        for sample in self.samples:
            output = self.model(sample.left.to(self.device), sample.right.to(self.device))
            predicted = output.disparity.cpu()
            valid = sample.disparity.isfinite()
            score.update(predicted, sample.disparity, valid)
            visible.update(predicted, sample.disparity, valid & ~sample.occluded)
        checkpoint = self.folder / 'average.safetensors'
        save_checkpoint(checkpoint, weights, self.network, samples=str(samples))
        write_image(self.folder / 'validation.png', _picture(sample, predicted))
        metrics = {name: score.result()[name] for name in ('epe', 'bad_1', 'bad_3')}
        metrics['epe_visible'] = visible.result()['epe']
        if self.scenes:
            predictor = StereoPredictor.load(checkpoint, str(self.device))
            mean = evaluate_scenes(predictor, self.scenes, sgbm=False)['mean']['model']
            metrics.update({f'labelled_{name}': mean[name] for name in ('epe', 'bad_3', 'd1')})
        return metrics


def _picture(sample: StereoSample, predicted: Tensor) -> np.ndarray:
    """RGB rows of left image, true disparity and predicted disparity."""
    rows = []
    for left, truth, guess in zip(sample.left, sample.disparity, predicted):
        high = truth.max().item()
        rows.append(np.hstack([
            (left * 255).byte().permute(1, 2, 0).numpy(),
            *(colour_disparity(x[0].numpy(), 0, high) for x in (truth, guess))]))
    return np.vstack(rows)


def losses_of_batch(model: torch.nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weighted terms of the loss of one batch of the stream."""
    output = model(batch['left'], batch['right'])
    return disparity_losses(output, batch['disparity'], batch['valid'], batch['occluded'])


def main(argv: Optional[list[str]] = None) -> int:
    """Entry point of `svp finetune disparity`."""
    parser = argparse.ArgumentParser(
        prog='svp finetune disparity', description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_run_options(parser, 'config/train/disparity_nano.yaml for a GPU')
    parser.add_argument('--start', help='model of the same size to start from, such as one that '
                        'is pre-trained; overrides the config')
    parser.add_argument('--labelled', type=Path, help='folder of labelled scenes, see '
                        '`svp evaluate disparity`; they are scored at every validation')
    arguments = parser.parse_args(argv)
    if arguments.resume and not arguments.config:
        refuse_options(parser, arguments, '--resume without --config keeps the settings of the '
                       'run', 'photographs', 'start')
    config = use_photographs(load_config(DisparityTraining, arguments.config),
                             arguments.photographs)
    if arguments.start:
        config = replace(config, start=arguments.start)
    folder = arguments.out
    config = settle_config(config, folder, arguments.resume, bool(arguments.config))
    scenes = find_scenes(arguments.labelled) if arguments.labelled else []
    folder.mkdir(parents=True, exist_ok=True)

    fabric = make_fabric(arguments.accelerator, arguments.devices, config.precision, folder,
                         arguments.nodes)
    seed_everything(config.seed, verbose=False)
    network = get_size(config.size)
    model, samples = start_network(build_model, network, config.start, arguments.resume)
    run = open_run(model, config.loop, folder, fabric, config, arguments.resume, samples)

    on_gpu = fabric.device.type == 'cuda' and arguments.cache is None
    stream = WorldStream(config.stream, config.seed, str(fabric.device) if on_gpu else 'cpu',
                         arguments.cache, fabric.global_rank)
    validate = (Validation(config.stream, config.validation_pairs, network, folder,
                           fabric.device, scenes) if fabric.is_global_zero else None)
    run.train(batches(stream, run.step, config.loop.steps, 0 if on_gpu else arguments.workers),
              losses_of_batch, validate)
    if fabric.is_global_zero:
        print(f'trained {config.loop.steps} steps; weights: {folder / "average.safetensors"}')
    return 0
