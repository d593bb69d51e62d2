"""`svp finetune disparity`: train a disparity network on the procedural world."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
import logging
from pathlib import Path
import signal
from typing import Optional

from lightning.fabric import Fabric, seed_everything
from lightning.fabric.loggers import TensorBoardLogger
import numpy as np
import torch
from torch import Tensor
import yaml

from svp_ros.config import load_config
from svp_ros.data.formats import write_image
from svp_ros.data.labelled import find_scenes, Scene
from svp_ros.data.stream import batches, StreamConfig, WorldStream
from svp_ros.data.world import StereoSample, World, WorldConfig
from svp_ros.eval.disparity import evaluate_scenes
from svp_ros.eval.metrics import DisparityScore
from svp_ros.model.build import (
    build_model,
    get_size,
    load_checkpoint,
    NetworkConfig,
    save_checkpoint,
)
from svp_ros.pictures import colour_disparity
from svp_ros.predictor import find_model, StereoPredictor
from svp_ros.provenance import find_commit
from svp_ros.train.loop import LoopConfig, TrainingRun
from svp_ros.train.losses import disparity_losses

log = logging.getLogger(__name__)

VALIDATION_SEED = 2 ** 31  # training draws smaller ones
PAIRS_PER_VALIDATION_BATCH = 4


@dataclass(frozen=True)
class DisparityTraining:
    """One experiment; `config/train/*.yaml` override these defaults.

    Args:
        size: nano, small or base.
        start: checkpoint (path or name in models/) whose weights are the start; None: fresh.
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
        if self.precision not in ('32-true', 'bf16-mixed'):
            raise ValueError(f'precision must be 32-true or bf16-mixed, got {self.precision}')
        if self.validation_pairs < PAIRS_PER_VALIDATION_BATCH:
            raise ValueError(f'validation_pairs must be at least {PAIRS_PER_VALIDATION_BATCH}, '
                             f'got {self.validation_pairs}')


class Validation:
    """Score averaged weights on fixed world pairs that training never sees.

    Args:
        config: the experiment.
        network: architecture of the weights.
        folder: run folder.
        device: where the network runs.
        scenes: labelled pairs of real cameras that are scored as well, at network size.
    """

    def __init__(self, config: DisparityTraining, network: NetworkConfig, folder: Path,
                 device: torch.device, scenes: Sequence[Scene] = ()):
        c = config.stream
        world = World(WorldConfig(), c.photographs)
        self.samples = [
            world.sample(VALIDATION_SEED + i, PAIRS_PER_VALIDATION_BATCH, c.height, c.width)
            for i in range(config.validation_pairs // PAIRS_PER_VALIDATION_BATCH)]
        self.model = build_model(network).to(device).eval()
        self.network = network
        self.folder = folder
        self.device = device
        self.scenes = scenes

    @torch.inference_mode()
    def __call__(self, weights: dict[str, Tensor]) -> dict[str, float]:
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
        save_checkpoint(checkpoint, weights, self.network)
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


def start_network(config: DisparityTraining) -> tuple[torch.nn.Module, NetworkConfig]:
    """Fresh weights, or those of the checkpoint that the experiment starts from.

    Raises:
        ValueError: If the start is a network of another size.
    """
    network = get_size(config.size)
    if config.start is None:
        return build_model(network), network
    model, found, _ = load_checkpoint(find_model(config.start))
    if found != network:
        raise ValueError(f'start {config.start} is no "{config.size}" network: it has {found}')
    log.info('starting from all weights of %s', config.start)
    return model, network


def main(argv: Optional[list[str]] = None) -> int:
    """Entry point of `svp finetune disparity`."""
    parser = argparse.ArgumentParser(
        prog='svp finetune disparity', description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--config', type=Path, help='YAML file, for example '
                        'config/train/disparity.yaml; the defaults are those of nano')
    parser.add_argument('--out', type=Path, required=True, help='run folder')
    parser.add_argument('--resume', action='store_true', help='continue from the run folder')
    parser.add_argument('--cache', type=Path, help='folder for rendered pairs; without it every '
                        'step renders new ones, which suits a GPU')
    parser.add_argument('--photographs', help='folder of photographs used as textures; '
                        'overrides the config')
    parser.add_argument('--labelled', type=Path, help='folder of labelled scenes, see '
                        '`svp evaluate disparity`; they are scored at every validation')
    parser.add_argument('--workers', type=int, default=1, help='processes that prepare batches '
                        'on the CPU; 0 prepares them in the training process')
    parser.add_argument('--accelerator', default='auto', help='auto, cpu or cuda')
    parser.add_argument('--devices', default='1', help='processes: a number or auto')
    arguments = parser.parse_args(argv)
    config = load_config(DisparityTraining, arguments.config)
    if arguments.photographs:
        config = replace(config, stream=replace(config.stream,
                                                photographs=arguments.photographs))
    folder = arguments.out
    if arguments.resume:
        config = _config_of_run(folder, config if arguments.config else None)
    elif (folder / 'last.pt').exists():
        raise ValueError(f'{folder} already holds a run; add --resume or choose another --out')
    scenes = find_scenes(arguments.labelled) if arguments.labelled else []
    folder.mkdir(parents=True, exist_ok=True)

    fabric = _make_fabric(arguments.accelerator, arguments.devices, config.precision, folder)
    fabric.launch()
    seed_everything(config.seed, verbose=False)
    model, network = start_network(config)
    run = TrainingRun(model, config.loop, folder, fabric)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.stop())
    if arguments.resume:
        run.resume()
    if fabric.is_global_zero:
        (folder / 'config.yaml').write_text(yaml.safe_dump(_plain(asdict(config))))
        (folder / 'commit').write_text((find_commit() or 'unknown') + '\n')

    on_gpu = fabric.device.type == 'cuda' and arguments.cache is None
    stream = WorldStream(config.stream, config.seed, str(fabric.device) if on_gpu else 'cpu',
                         arguments.cache, fabric.global_rank)
    validate = (Validation(config, network, folder, fabric.device, scenes)
                if fabric.is_global_zero else None)
    run.train(batches(stream, run.step, config.loop.steps, 0 if on_gpu else arguments.workers),
              losses_of_batch, validate)
    if fabric.is_global_zero:
        print(f'trained {config.loop.steps} steps; weights: {folder / "average.safetensors"}')
    return 0


def _config_of_run(folder: Path, config: Optional[DisparityTraining]) -> DisparityTraining:
    """Settings to resume with: the run's own; `config` may change those of the loop only."""
    path = folder / 'config.yaml'
    if not path.is_file():
        raise FileNotFoundError(f'nothing to resume: no {path}; start without --resume')
    own = load_config(DisparityTraining, path)
    if config is None:
        return own
    for item in fields(DisparityTraining):
        was, now = getattr(own, item.name), getattr(config, item.name)
        if item.name != 'loop' and was != now:
            raise ValueError(f'{folder} was started with {item.name} {was}, got {now}; a resumed '
                             'run may change the settings under "loop" only')
    return config


def _make_fabric(accelerator: str, devices: str, precision: str, folder: Path) -> Fabric:
    if accelerator not in ('auto', 'cpu', 'cuda'):
        raise ValueError(f'--accelerator must be auto, cpu or cuda, got {accelerator}')
    if accelerator == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--accelerator cuda was asked for but torch sees no CUDA GPU')
    if devices != 'auto' and not (devices.isdigit() and int(devices)):
        raise ValueError(f'--devices must be auto or a positive number, got {devices}')
    return Fabric(accelerator=accelerator, devices=devices, precision=precision,
                  loggers=TensorBoardLogger(folder, name='', version='tensorboard'))


def _plain(value):
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
