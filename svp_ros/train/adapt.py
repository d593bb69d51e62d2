"""`svp adapt`: tune a network to a camera with a recording of it, without labels.

A part of every batch are pairs of the recording, labelled by block matching where it is sure; the
others are rendered pairs with the whole truth, so that nothing is forgotten. The end of the
recording is left out of the training and says whether it helped.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
import json
import logging
from pathlib import Path
import shlex
import signal
import sys
from typing import Optional

from lightning.fabric import seed_everything
import numpy as np
import torch
from torch import Tensor

from svp_ros.arguments import parse_size
from svp_ros.config import load_config
from svp_ros.data.formats import write_image
from svp_ros.data.labelled_stream import MixedStream
from svp_ros.data.pair_stream import DataSource, find_and_split
from svp_ros.data.pairs import SHORTEST_SPLIT
from svp_ros.data.stream import batches, StreamConfig, WorldStream
from svp_ros.data.world import WorldConfig
from svp_ros.eval.adaptation import describe_change, HeldOutPairs, judge
from svp_ros.eval.reconstruction import spread_indices
from svp_ros.files import replace_file
from svp_ros.model.build import (
    build_model,
    is_pretrained,
    load_start,
    NetworkConfig,
    read_checkpoint,
)
from svp_ros.predictor import find_model, NETWORK_SIZE, StereoPredictor
from svp_ros.provenance import describe_device, find_commit
from svp_ros.row_alignment import align_rows, alignment_findings, match_corners
from svp_ros.train import detection, disparity
from svp_ros.train.block_labels import label_pairs, TaughtPair, TaughtStream
from svp_ros.train.loop import LoopConfig
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
    use_photographs,
)

log = logging.getLogger(__name__)

LEAST_LABELLED = 0.2  # share of the pixels below which a recording cannot be right
CHECKED_PAIRS = 8  # of every recording, whose rows are compared


@dataclass(frozen=True)
class AdaptStream(StreamConfig):
    """Wide crops of what the node's network sees, and rendered pairs in which cars are common."""

    height: int = 256
    width: int = 512
    batch: int = 2
    render_height: int = 320
    render_width: int = 576
    pairs: int = 400
    world: WorldConfig = field(default_factory=lambda: WorldConfig(
        street=0.5, room=0.2, clutter=0.15, table=0.15))


@dataclass(frozen=True)
class AdaptLoop(LoopConfig):
    """A short run of small steps."""

    steps: int = 300
    learning_rate: float = 2e-4
    warmup_steps: int = 50
    cooldown: float = 0.6
    freeze_statistics: int = 1
    average: float = 0.99
    log_every: int = 20
    validate_every: int = 150


@dataclass(frozen=True)
class AdaptConfig:
    """One adaptation; the file of `--config` overrides these defaults.

    Args:
        start: checkpoint (path or name in models/) of the network to tune.
        data: recordings, or folders of rectified pairs; `weight` is relative to each other.
        pairs: at most so many pairs of every one are trained on, evenly spread.
        held_out_pairs: at most so many of its end, which training never sees, are scored.
        data_batch: pairs of recordings per step, beside `stream.batch` rendered ones.
        network_height: rows of what the node's network will see.
        network_width: columns of it.
        seed: seed of the rendered pairs and of the augmentation.
        precision: 32-true or bf16-mixed.
        rendered_pairs: fixed rendered pairs that every validation scores.
        stream: crops and rendered pairs.
        loop: optimisation.
    """

    start: str = 'nano'
    data: tuple[DataSource, ...] = ()
    pairs: int = 400
    held_out_pairs: int = 24
    data_batch: int = 2
    network_height: int = NETWORK_SIZE[0]
    network_width: int = NETWORK_SIZE[1]
    seed: int = 0
    precision: str = '32-true'
    rendered_pairs: int = 16
    stream: AdaptStream = field(default_factory=AdaptStream)
    loop: AdaptLoop = field(default_factory=AdaptLoop)

    def __post_init__(self):
        check_precision(self.precision)
        for name, least in (('pairs', 1), ('held_out_pairs', 1), ('data_batch', 1),
                            ('rendered_pairs', disparity.PAIRS_PER_VALIDATION_BATCH)):
            if getattr(self, name) < least:
                raise ValueError(f'{name} must be at least {least}, got {getattr(self, name)}')
        if self.stream.height > self.network_height or self.stream.width > self.network_width:
            raise ValueError(f'crops of {self.stream.height}x{self.stream.width} do not fit into '
                             f'{self.network_height}x{self.network_width}, what the network sees; '
                             'lower height and width of stream')
        if self.stream.early:
            raise ValueError('early crops are for long trainings; leave them out')


def main(argv: Optional[list[str]] = None) -> int:
    """Entry point of `svp adapt`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments, config = _parse(argv)
    folder, size = arguments.out, (config.network_height, config.network_width)
    folder.mkdir(parents=True, exist_ok=True)
    fabric = make_fabric(arguments.accelerator, '1', config.precision, folder)
    device = str(fabric.device)
    on_gpu = fabric.device.type == 'cuda' and arguments.cache is None
    cache = None if on_gpu else arguments.cache or folder / 'cache'

    start = folder / 'start.safetensors'
    if not arguments.resume:
        replace_file(start, find_model(config.start).read_bytes())
    _, network, notes = read_checkpoint(start)
    _check_classes(network, config)
    before = StereoPredictor(start, device, size)
    training, held_out = _take_pairs(config, before, folder, (cache or folder) / 'recordings')

    seed_everything(config.seed, verbose=False)
    model = build_model(network)
    load_start(model, network, start)
    run = open_run(model, config.loop, folder, fabric, config, arguments.resume,
                   int(notes.get('samples', 0)))
    stream = replace(config.stream, boxes=network.class_names)
    own_stream = replace(stream, augment=replace(stream.augment, flip=0.0, upside_down=0.0))
    data = MixedStream(
        WorldStream(stream, config.seed, device if on_gpu else 'cpu', cache),
        TaughtStream(training, [source.weight for source in config.data], size, own_stream,
                     config.data_batch, config.seed))
    run.train(batches(data, run.step, config.loop.steps, 0 if on_gpu else arguments.workers),
              _losses(network, fabric.device),
              _validation(config, network, held_out, folder, fabric.device))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    after = StereoPredictor(folder / 'average.safetensors', device, size)
    _report(held_out, before, after, config, folder, argv)
    return 0


def _parse(argv: list[str]) -> tuple[argparse.Namespace, AdaptConfig]:
    """Return the command line, and the settings: it wins over the file of --config."""
    parser = argparse.ArgumentParser(
        prog='svp adapt', description=__doc__.split('\n\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_run_options(parser, 'config/train/adapt.yaml', one_process=True)
    add_source_options(parser)
    parser.add_argument('--start', help='network to tune: a name in models/ or a file; overrides '
                        'the config')
    parser.add_argument('--network-size', type=parse_size, metavar='HxW', help='what the images '
                        'are resized to, as in the node; overrides the config')
    arguments = parser.parse_args(argv)
    if arguments.resume and not arguments.config:
        refuse_options(parser, arguments, '--resume without --config keeps the settings of the '
                       'run', *SOURCE_OPTIONS, 'start', 'network_size', 'photographs')
    config = use_photographs(load_config(AdaptConfig, arguments.config), arguments.photographs)
    height, width = arguments.network_size or (config.network_height, config.network_width)
    config = replace(config, data=(*config.data, *named_sources(parser, arguments)),
                     start=arguments.start or config.start, network_height=height,
                     network_width=width)
    config = settle_config(config, arguments.out, arguments.resume, bool(arguments.config))
    if not config.data:
        raise ValueError('nothing to adapt to: name a recording or a folder of pairs with --data')
    if not arguments.resume and is_pretrained(find_model(config.start)):
        raise ValueError(f'{config.start} is a pre-trained network, which has no disparity to '
                         'tune; fine-tune it first: svp finetune disparity --start')
    return arguments, config


def _check_classes(network: NetworkConfig, config: AdaptConfig) -> None:
    """Raise ValueError if the network finds things that nothing here would show it."""
    rendered = {item.name for item in detection.KITTI_CLASSES}
    unknown = [name for name in network.class_names if name not in rendered]
    if unknown:
        raise ValueError(f'{config.start} finds {", ".join(unknown)}, which is not rendered and '
                         'would be forgotten: adapt the network that it was made from, then teach '
                         'the boxes again with svp finetune detection')


def _take_pairs(config: AdaptConfig, predictor: StereoPredictor, folder: Path, unpacked: Path
                ) -> tuple[list[list[TaughtPair]], HeldOutPairs]:
    """Label pairs of every source for training, and those of all that are held out.

    Raises:
        FileNotFoundError, ValueError: If a source holds no usable pairs.
    """
    parts = []
    for source in config.data:
        most = source.most or round(config.pairs / max(1 - source.tail, 0.1))
        training, held_out = find_and_split(replace(source, most=most), unpacked)
        if not held_out:
            raise ValueError(f'{source.path} has {len(training)} pairs, of which none is held out '
                             f'to score the result; it needs {SHORTEST_SPLIT}, and a tail above 0')
        parts.append([[pairs[i] for i in spread_indices(len(pairs), limit)] for pairs, limit in (
            (training, config.pairs), (held_out, config.held_out_pairs))])
    for source, (training, _) in zip(config.data, parts):
        _warn_of_rows(source.path, training)
    taught = [[label_pairs(predictor, pairs, folder / 'labels') for pairs in part]
              for part in parts]
    for source, (training, _) in zip(config.data, taught):
        share = np.median([np.isfinite(pair.read_matches()).mean()
                           for pair in training[:CHECKED_PAIRS]])
        if share < LEAST_LABELLED:
            raise ValueError(f'{source.path}: block matching is sure of {100 * share:.0f} % of '
                             'the pixels only; check that left and right are not swapped, that '
                             'the pair is rectified and that the scene has texture')
    training, held_out = zip(*taught)
    return list(training), HeldOutPairs(list(chain.from_iterable(held_out)))


def _warn_of_rows(path: str, pairs: Sequence) -> None:
    """Say so if the rows of a source do not line up or its eyes are swapped."""
    matches = []
    for i in spread_indices(len(pairs), CHECKED_PAIRS):
        left, right = pairs[i].load()
        matches.append(match_corners(left, right))
    for finding in alignment_findings(align_rows(np.concatenate(matches), *left.shape[1::-1])):
        log.warning('%s: %s', path, finding.text)


def _losses(network: NetworkConfig, device: torch.device) -> Callable[..., dict[str, Tensor]]:
    """Losses of disparity and, so that boxes are not forgotten, of the boxes of rendered pairs."""
    if not network.classes:
        return disparity.losses_of_batch
    sizes = torch.tensor([item.size for item in network.classes], device=device)
    return partial(detection.losses_of_batch, mean_sizes=sizes, disparity_weight=1.0)


def _validation(config: AdaptConfig, network: NetworkConfig, held_out: HeldOutPairs,
                folder: Path, device: torch.device) -> Callable[..., dict[str, float]]:
    """Score averaged weights, and write them to the run folder."""
    rendered = disparity.Validation(config.stream, config.rendered_pairs, network, folder, device)

    def validate(weights: dict[str, Tensor], samples: int) -> dict[str, float]:
        metrics = rendered(weights, samples)
        predictor = StereoPredictor(folder / 'average.safetensors', str(device),
                                    (config.network_height, config.network_width))
        own = held_out.compare({'own': predictor})['own']
        return metrics | {f'own_{name}': value for name, value in own.items()
                          if isinstance(value, float)}
    return validate


def _report(held_out: HeldOutPairs, before: StereoPredictor, after: StereoPredictor,
            config: AdaptConfig, folder: Path, argv: list[str]) -> None:
    """Say whether it helped, in words, figures and pictures."""
    scores = held_out.compare({'before': before, 'after': after})
    result = {'command': 'svp adapt ' + shlex.join(argv), 'commit': find_commit(),
              'device': describe_device(after.device),
              'start': {**before.card, 'name': Path(config.start).stem},
              'network_size': list(after.network_size), 'steps': config.loop.steps,
              'held_out_pairs': len(held_out.taught), 'verdict': judge(**scores), **scores}
    write_image(folder / 'adaptation.png', held_out.picture(before, after))
    replace_file(folder / 'adaptation.json', (json.dumps(result, indent=2) + '\n').encode())
    print(describe_change(**scores))
    if after.classes:
        print('Boxes were not scored: svp evaluate detection does it with labels')
    print(f'weights: {folder / "average.safetensors"}; figures and pictures beside it: '
          'adaptation.json, adaptation.png')
