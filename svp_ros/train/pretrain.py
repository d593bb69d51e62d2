"""`svp pretrain`: masked stereo pre-training, which needs pairs but no labels.

Up to nine tenths of the left image are hidden and rebuilt from the rest and the right image;
after CroCo (Weinzaepfel et al. 2022, arXiv 2210.10716), with a convolutional stem and with matches
along the rows that say what to copy.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
import shlex
import sys
from typing import Optional

from lightning.fabric import seed_everything
import torch
from torch import Tensor
from torch.utils.data import Dataset

from svp_ros.config import load_config
from svp_ros.data.pair_stream import DataSource, PairStream, PairStreamConfig
from svp_ros.data.pairs import find_pairs
from svp_ros.data.rosbag2 import is_recording
from svp_ros.data.stream import batches, make_generator
from svp_ros.data.transforms import Batch
from svp_ros.data.world import World
from svp_ros.eval.reconstruction import (
    FixedPairs,
    pairs_on_disk,
    score_reconstruction,
    world_pairs,
)
from svp_ros.model.build import (
    build_reconstruction,
    get_size,
    NetworkConfig,
    RECONSTRUCTION,
    save_checkpoint,
)
from svp_ros.predictor import choose_device
from svp_ros.train.loop import LoopConfig
from svp_ros.train.masking import count_hidden, hide_patches, reconstruction_errors
from svp_ros.train.runs import (
    add_run_options,
    add_source_options,
    check_precision,
    make_fabric,
    named_sources,
    open_run,
    refuse_options,
    settle_config,
    SOURCE_OPTIONS,
    start_network,
)

MODES = ('stereo', 'left_only')
EXPERIMENTS = ('proof', 'throughput')


@dataclass(frozen=True)
class PretrainConfig:
    """One experiment; `config/train/pretrain.yaml` overrides these defaults.

    Args:
        size: nano, small or base.
        mode: stereo, or left_only, the control whose right features are zero.
        start: checkpoint (path or name in models/) to start from; None: fresh weights.
        seed: seed of weights, data and masks.
        precision: 32-true or bf16-mixed.
        mask_ratio: share of hidden 16-pixel patches in validation, and the largest in training.
        least_mask_ratio: smallest in training; every batch draws its own between the two. None:
            0.4, or mask_ratio if that is less.
        colours: weight of the error of the colours.
        structure: weight of the error of the normalised patches.
        validation_pairs: fixed pairs of the world, and at most as many of the other data, that
            every validation scores.
        stream: data.
        loop: optimisation.
    """

    size: str = 'nano'
    mode: str = 'stereo'
    start: Optional[str] = None
    seed: int = 0
    precision: str = 'bf16-mixed'
    mask_ratio: float = 0.9
    least_mask_ratio: Optional[float] = None
    colours: float = 0.3
    structure: float = 2.0
    validation_pairs: int = 64
    stream: PairStreamConfig = field(default_factory=PairStreamConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self):
        get_size(self.size)
        check_precision(self.precision)
        if self.mode not in MODES:
            raise ValueError(f'mode must be {" or ".join(MODES)}, got {self.mode}')
        least, most = self.mask_ratios
        for ratio in (most, least):
            count_hidden(self.stream.height, self.stream.width, ratio)
        if least > most:
            raise ValueError(f'least_mask_ratio {least} must not be above mask_ratio {most}')
        if min(self.colours, self.structure) < 0 or self.colours + self.structure == 0:
            raise ValueError('colours and structure are weights: none negative, one positive; got '
                             f'{self.colours} and {self.structure}')
        if self.validation_pairs < 2:
            raise ValueError(f'validation_pairs must be at least 2, got {self.validation_pairs}')


    @property
    def mask_ratios(self) -> tuple[float, float]:
        """Smallest and largest share of hidden patches in training."""
        least = self.least_mask_ratio
        return min(0.4, self.mask_ratio) if least is None else least, self.mask_ratio


class MaskedStream(Dataset):
    """Batches of pairs with the masks of the left images; `stream[step]` is always the same."""

    def __init__(self, pairs: PairStream, ratios: tuple[float, float]):
        self.pairs = pairs
        self.ratios = ratios

    def __getitem__(self, step: int) -> Batch:
        batch = self.pairs[step]
        B, _, H, W = batch['left'].shape
        generator = make_generator(self.pairs.seed, step, self.pairs.rank, 1)
        ratio = torch.empty(()).uniform_(*self.ratios, generator=generator).item()
        mask = hide_patches(B, H, W, ratio, generator)
        return {**batch, 'patch_mask': mask.to(batch['left'].device)}


class Validation:
    """Score averaged weights on fixed pairs of the world and of the data on disk.

    Args:
        config: the experiment.
        network: architecture of the weights.
        folder: run folder.
        device: where the network runs.
        sets: pairs by the name of their source.
    """

    def __init__(self, config: PretrainConfig, network: NetworkConfig, folder: Path,
                 device: torch.device, sets: dict[str, FixedPairs]):
        self.config = config
        self.network = network
        self.folder = folder
        self.model = build_reconstruction(network).to(device).eval()
        self.sets = sets

    def __call__(self, weights: dict[str, Tensor], samples: int) -> dict[str, float]:
        """Load the weights, write them to the run folder, return the metrics."""
        self.model.load_state_dict(weights)
        save_checkpoint(self.folder / 'average.safetensors', weights, self.network,
                        kind=RECONSTRUCTION, samples=str(samples))
        left_only = self.config.mode == 'left_only'
        return {f'{source}_{name}': value for source, pairs in self.sets.items()
                for name, value in score_reconstruction(
                    self.model, pairs, self.config.mask_ratio, left_only).items()}


def validation_sets(config: PretrainConfig, on_disk: Sequence) -> dict[str, FixedPairs]:
    """Fixed pairs of every kind of source: `world` and `data`."""
    c, sets = config.stream, {}
    if c.world:
        sets['world'] = world_pairs(World(c.world_config, c.photographs),
                                    config.validation_pairs, c.height, c.width)
    if on_disk:
        sets['data'] = pairs_on_disk(on_disk, config.validation_pairs, c.height, c.width)
    return sets


def make_losses(config: PretrainConfig):
    """Weighted terms of the loss, a function of model and batch."""
    weights = {'colours': config.colours, 'structure': config.structure}

    def losses(model: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
        left = batch['left']
        output = model(left, batch['right'], batch['patch_mask'], config.mode == 'left_only')
        errors = reconstruction_errors(output, model.backbone.normalise(left),
                                       batch['patch_mask'])
        return {name: weights[name] * error for name, error in errors.items() if weights[name]}
    return losses


def train(config: PretrainConfig, folder: Path, accelerator: str = 'auto', devices: str = '1',
          nodes: int = 1, cache: Optional[Path] = None, workers: int = 1,
          resume: bool = False) -> None:
    """Run one experiment to its last step.

    Args:
        config: the experiment.
        folder: run folder; average.safetensors, last.pt and the logs are kept there.
        accelerator: auto, cpu or cuda.
        devices: processes on this machine, a number or auto.
        nodes: machines.
        cache: folder for rendered pairs and unpacked recordings.
        workers: processes that prepare batches.
        resume: continue from last.pt.

    Raises:
        FileNotFoundError, ValueError: If data or settings cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fabric = make_fabric(accelerator, devices, config.precision, folder, nodes)
    seed_everything(config.seed, verbose=False)
    network = get_size(config.size)
    model, samples = start_network(build_reconstruction, network, config.start, resume)
    on_gpu = fabric.device.type == 'cuda' and cache is None
    stream = PairStream(config.stream, config.seed, str(fabric.device) if on_gpu else 'cpu',
                        cache, fabric.global_rank, (cache or folder) / 'recordings')
    run = open_run(model, config.loop, folder, fabric, config, resume, samples)
    validate = None
    if fabric.is_global_zero:
        sets = validation_sets(config, stream.validation)
        validate = Validation(config, network, folder, fabric.device, sets)
    masked = MaskedStream(stream, config.mask_ratios)
    run.train(batches(masked, run.step, config.loop.steps, 0 if on_gpu else workers),
              make_losses(config), validate)
    if fabric.is_global_zero:
        print(f'trained {config.loop.steps} steps; weights: {folder / "average.safetensors"}')


def sources_of(parser: argparse.ArgumentParser,
               arguments: argparse.Namespace) -> list[DataSource]:
    """Data sources that the command line names.

    Raises:
        FileNotFoundError: If a sequence is to be held out and a folder holds no pairs.
        ValueError: If a sequence to be held out is in none of them.
    """
    sources = named_sources(parser, arguments)
    if not arguments.held_out:
        return sources
    # a recording is one sequence: if it were held out, nothing would be left for training
    sequences = [set() if is_recording(Path(path)) else
                 {pair.sequence for pair in find_pairs(path)} for path in arguments.data]
    known = set().union(*sequences)
    unknown = sorted(set(arguments.held_out) - known)
    if unknown:
        raise ValueError(f'no sequence {", ".join(unknown)} to hold out; there are '
                         f'{", ".join(sorted(known)) or "none in recordings"}')
    return [replace(source, held_out=tuple(x for x in arguments.held_out if x in names))
            for source, names in zip(sources, sequences)]


def check_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Raise ValueError if an option would be ignored beside the others."""
    refuse = partial(refuse_options, parser, arguments)
    if arguments.show:
        refuse('--show reads a run and does nothing else', 'config', 'resume', 'photographs',
               'workers', 'devices', 'nodes', *SOURCE_OPTIONS, 'held_out', 'mode', 'experiment',
               'labelled', 'jobs')
    elif arguments.experiment == 'proof':
        refuse('the proof trains both modes on one machine, and continues when it is started '
               'again', 'mode', 'resume', 'workers', 'nodes')
    elif arguments.experiment == 'throughput':
        refuse('the throughput is that of some steps of one process', 'resume', 'devices',
               'nodes', 'labelled', 'jobs')
    else:
        refuse('only --experiment proof needs labels and runs several trainings', 'labelled',
               'jobs')
    if not arguments.data:
        refuse('sequences of --data can be held out, and there is none', 'held_out')
    if arguments.resume and not arguments.config:
        refuse('--resume without --config keeps the settings of the run', *SOURCE_OPTIONS,
               'held_out', 'mode', 'photographs')


def main(argv: Optional[list[str]] = None) -> int:
    """Entry point of `svp pretrain`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog='svp pretrain', description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    place = add_run_options(parser, 'config/train/pretrain.yaml')
    place.add_argument('--show', type=Path, metavar='RUN', help='write report.html into this '
                       'folder of a run that has validated, and do nothing else')
    add_source_options(parser)
    parser.add_argument('--held-out', action='append', default=[], metavar='SEQUENCE',
                        help='sequence of --data that validates as a whole, beside the last fifth '
                        'of the others; may be repeated')
    parser.add_argument('--mode', choices=MODES, help='overrides the config')
    parser.add_argument('--experiment', choices=EXPERIMENTS, help='throughput: time reading and '
                        'training on --data for some steps, write the figures to the .json file '
                        'or folder --out; proof: the experiment of config/train/proof*.yaml, '
                        'with both modes and fine-tuning, into the folder --out')
    parser.add_argument('--labelled', type=Path, help='folder of labelled scenes on which the '
                        'proof measures depth, see `svp evaluate disparity`')
    parser.add_argument('--jobs', type=int, default=1, help='trainings of the proof at a time')
    arguments = parser.parse_args(argv)
    check_options(parser, arguments)
    if arguments.show:
        from svp_ros.eval.pretraining_report import show_run
        print(show_run(arguments.show, choose_device(arguments.accelerator), arguments.cache))
        return 0
    if arguments.experiment == 'proof':
        from svp_ros.train.proof import run_proof
        run_proof(arguments, sources_of(parser, arguments), 'svp pretrain ' + shlex.join(argv))
        return 0
    config = load_config(PretrainConfig, arguments.config)
    stream = replace(config.stream, data=(
        *config.stream.data, *sources_of(parser, arguments)),
        photographs=arguments.photographs or config.stream.photographs)
    config = replace(config, stream=stream, mode=arguments.mode or config.mode)
    if arguments.experiment == 'throughput':
        from svp_ros.train.throughput import write_throughput
        write_throughput(config, arguments.out, argv, accelerator=arguments.accelerator,
                         cache=arguments.cache, workers=arguments.workers)
        return 0
    config = settle_config(config, arguments.out, arguments.resume, bool(arguments.config))
    train(config, arguments.out, arguments.accelerator, arguments.devices, arguments.nodes,
          arguments.cache, arguments.workers, arguments.resume)
    return 0
