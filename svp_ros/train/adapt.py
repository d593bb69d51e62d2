"""`svp adapt`: tune a network to a camera with a recording of it, without labels.

Half of every batch are pairs of the recording, labelled by block matching where it is sure; the
other half are rendered pairs with the whole truth, so that nothing is forgotten. The end of the
recording is left out of the training and says whether it helped.
"""

import argparse
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
import json
from pathlib import Path
import shlex
import sys
from typing import Optional

from lightning.fabric import seed_everything
import torch
from torch import Tensor

from svp_ros.config import load_config
from svp_ros.data.formats import write_image
from svp_ros.data.labelled_stream import MixedStream
from svp_ros.data.pair_stream import DataSource, find_and_split
from svp_ros.data.stream import batches, StreamConfig, WorldStream
from svp_ros.eval.adaptation import describe_change, HeldOutPairs
from svp_ros.eval.reconstruction import spread_indices
from svp_ros.files import replace_file
from svp_ros.model.build import build_model, is_pretrained, load_start, read_checkpoint
from svp_ros.predictor import find_model, NETWORK_SIZE, StereoPredictor
from svp_ros.provenance import describe_device, find_commit
from svp_ros.train import detection, disparity
from svp_ros.train.block_labels import label_pairs, TaughtStream
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


@dataclass(frozen=True)
class AdaptConfig:
    """One adaptation; the file of `--config` overrides these defaults.

    Args:
        start: checkpoint (path or name in models/) of the network to tune.
        data: recordings, or folders of rectified pairs.
        pairs: at most so many pairs of every recording are used, evenly spread.
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
    stream: StreamConfig = field(default_factory=lambda: StreamConfig(
        height=256, width=512, batch=2, render_height=320, render_width=576, pairs=400))
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(
        steps=600, learning_rate=2e-4, warmup_steps=50, cooldown=0.6, freeze_statistics=1,
        average=0.99, log_every=20, validate_every=200))

    def __post_init__(self):
        check_precision(self.precision)
        for name in ('pairs', 'held_out_pairs', 'data_batch'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')
        if self.stream.height > self.network_height or self.stream.width > self.network_width:
            raise ValueError(f'crops of {self.stream.height}x{self.stream.width} do not fit into '
                             f'{self.network_height}x{self.network_width}, what the network sees')


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
    before = StereoPredictor(start, device, size)
    training, held_out = [], []
    for source in config.data:
        parts = find_and_split(source, (cache or folder) / 'recordings')
        for pairs, most, taught in zip(parts, (config.pairs, config.held_out_pairs),
                                       (training, held_out)):
            spread = [pairs[i] for i in spread_indices(len(pairs), most)]
            taught.append(label_pairs(before, spread, folder / 'labels'))

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

    own = HeldOutPairs(list(chain.from_iterable(held_out)))
    rendered = disparity.Validation(config.stream, config.rendered_pairs, network, folder,
                                    fabric.device)

    def validate(weights: dict[str, Tensor], samples: int) -> dict[str, float]:
        metrics = rendered(weights, samples)
        after = StereoPredictor(folder / 'average.safetensors', device, size)
        return metrics | {f'own_{name}': value for name, value in own.score(after).items()}

    losses = disparity.losses_of_batch
    if network.classes:  # rendered pairs keep the boxes in mind
        sizes = torch.tensor([item.size for item in network.classes], device=fabric.device)
        losses = partial(detection.losses_of_batch, mean_sizes=sizes, disparity_weight=1.0)
    run.train(batches(data, run.step, config.loop.steps, 0 if on_gpu else arguments.workers),
              losses, validate)
    _report(own, before, StereoPredictor(folder / 'average.safetensors', device, size), config,
            folder, argv)
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
    arguments = parser.parse_args(argv)
    if arguments.resume and not arguments.config:
        refuse_options(parser, arguments, '--resume without --config keeps the settings of the '
                       'run', *SOURCE_OPTIONS, 'start', 'photographs')
    if not arguments.data:
        refuse_options(parser, arguments, 'there is no --data that this could be about',
                       *SOURCE_OPTIONS[1:])
    config = use_photographs(load_config(AdaptConfig, arguments.config), arguments.photographs)
    config = replace(config, data=(*config.data, *named_sources(arguments)),
                     start=arguments.start or config.start)
    config = settle_config(config, arguments.out, arguments.resume, bool(arguments.config))
    if not config.data:
        raise ValueError('nothing to adapt to: name a recording or a folder of pairs with --data')
    if not arguments.resume and is_pretrained(find_model(config.start)):
        raise ValueError(f'{config.start} is a pre-trained network, which has no disparity to '
                         'tune; fine-tune it first: svp finetune disparity --start')
    return arguments, config


def _report(own: HeldOutPairs, before: StereoPredictor, after: StereoPredictor,
            config: AdaptConfig, folder: Path, argv: list[str]) -> None:
    """Say whether it helped, in words, figures and pictures."""
    scores = {'before': own.score(before), 'after': own.score(after)}
    result = {'command': 'svp adapt ' + shlex.join(argv), 'commit': find_commit(),
              'device': describe_device(after.device), 'start': before.card,
              'network_size': list(after.network_size), 'steps': config.loop.steps,
              'held_out_pairs': len(own.taught), **scores}
    write_image(folder / 'adaptation.png', own.picture(before, after))
    replace_file(folder / 'adaptation.json', (json.dumps(result, indent=2) + '\n').encode())
    print(describe_change(**scores))
    print(f'weights: {folder / "average.safetensors"}; figures and pictures beside it: '
          'adaptation.json, adaptation.png')
