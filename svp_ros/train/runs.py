"""What every training command shares: options, run folders, processes."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
import logging
from pathlib import Path
import signal
from typing import Any, Optional, TypeVar

from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
import torch
from torch import nn
import yaml

from svp_ros.arguments import add_recording_options
from svp_ros.config import load_config
from svp_ros.data.pair_stream import DataSource
from svp_ros.data.rosbag2 import is_recording
from svp_ros.files import replace_file
from svp_ros.model.build import load_start, NetworkConfig
from svp_ros.predictor import find_model
from svp_ros.provenance import find_commit
from svp_ros.train.loop import LoopConfig, TrainingRun

log = logging.getLogger(__name__)

Config = TypeVar('Config')

PRECISIONS = ('32-true', 'bf16-mixed')
SOURCE_OPTIONS = ('data', 'left', 'right', 'left_info', 'right_info', 'rectify', 'tolerance')


def add_run_options(parser: argparse.ArgumentParser, example: str,
                    one_process: bool = False) -> Any:
    """Add the options of a run.

    Args:
        parser: of the command.
        example: a shipped configuration.
        one_process: leave out the options of runs in several processes.

    Returns:
        The argparse group of --out, for options that take its place.
    """
    parser.add_argument('--config', type=Path, help=f'YAML file, for example {example}')
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument('--out', type=Path, help='run folder')
    parser.add_argument('--resume', action='store_true', help='continue from the run folder')
    parser.add_argument('--cache', type=Path, help='folder for rendered pairs and unpacked '
                        'recordings; without it every step renders new pairs, which suits a GPU')
    parser.add_argument('--photographs', help='folder of photographs used as textures; '
                        'overrides the config')
    parser.add_argument('--workers', type=int, default=1, help='processes that prepare batches '
                        'on the CPU; 0 prepares them in the training process')
    parser.add_argument('--accelerator', default='auto', help='auto, cpu or cuda')
    if one_process:
        return place
    parser.add_argument('--devices', default='1', help='processes on this machine: a number or '
                        'auto')
    parser.add_argument('--nodes', type=int, default=1, help='machines; more than one are '
                        'started by torchrun')
    return place


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add `SOURCE_OPTIONS`: unlabelled pairs on disk and how to read them."""
    parser.add_argument('--data', action='append', default=[], metavar='PATH', help='rosbag2 '
                        'recording, or folder of rectified pairs, beside those of the config; may '
                        'be repeated, the following options then hold for all recordings')
    add_recording_options(parser)


def named_sources(parser: argparse.ArgumentParser,
                  arguments: argparse.Namespace) -> list[DataSource]:
    """Return the data that `add_source_options` read from the command line.

    Raises:
        ValueError: If they say how to read a recording, and there is none, or a value is wrong.
    """
    if not any(is_recording(Path(path)) for path in arguments.data):
        refuse_options(parser, arguments, 'no --data is a recording', *SOURCE_OPTIONS[1:])
    how = {name: getattr(arguments, name) for name in SOURCE_OPTIONS[1:]}
    return [DataSource(path, **how) for path in arguments.data]


def refuse_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace, reason: str,
                   *names: str) -> None:
    """Refuse options that would be ignored.

    Raises:
        ValueError: If one of the named options is not at its default.
    """
    given = ['--' + name.replace('_', '-') for name in names
             if getattr(arguments, name) != parser.get_default(name)]
    if given:
        raise ValueError(f'{reason}; leave out {" and ".join(given)}')


def use_photographs(config: Config, folder: Optional[str]) -> Config:
    """Return the experiment with its stream's textures from a folder, if one is given."""
    return replace(config, stream=replace(config.stream, photographs=folder)) if folder else config


def settle_config(config: Config, folder: Path, resume: bool, given: bool) -> Config:
    """Settings of a new run, or those to resume with.

    Args:
        config: what the command line asks for.
        folder: run folder.
        resume: whether to continue the run in the folder.
        given: whether `config` came from a file; else a resumed run keeps its own.

    Raises:
        FileNotFoundError: If there is no run to resume.
        ValueError: If the folder holds a run already, or more than the loop was changed.
    """
    if not resume:
        if (folder / 'last.pt').exists():
            raise ValueError(f'{folder} already holds a run; add --resume or choose another --out')
        return config
    path = folder / 'config.yaml'
    if not path.is_file():
        raise FileNotFoundError(f'nothing to resume: no {path}; start without --resume')
    own = load_config(type(config), path)
    if not given:
        return own
    was, now = to_yaml(own), to_yaml(config)
    for name in was:
        if name != 'loop' and was[name] != now[name]:
            raise ValueError(f'{folder}: {_name_change(name, was[name], now[name])}; a resumed '
                             'run may change the settings under "loop" only')
    return config


def _name_change(name: str, was: Any, now: Any) -> str:
    """Say which setting at or below `name` differs first."""
    if isinstance(was, list) and any(isinstance(item, dict) for item in (*was, *now)):
        if len(was) != len(now):
            return f'{name} had {len(was)} entries, now {len(now)}'
        was, now = dict(enumerate(was)), dict(enumerate(now))
    if isinstance(was, dict) and isinstance(now, dict) and was.keys() == now.keys():
        key = next(key for key in was if was[key] != now[key])
        return _name_change(f'{name}.{key}', was[key], now[key])
    return f'{name} was {was}, now {now}'


def make_fabric(accelerator: str, devices: str, precision: str, folder: Path,
                nodes: int = 1) -> Fabric:
    """Launch the processes of a run.

    Raises:
        ValueError: If the accelerator is not there or a number is wrong.
    """
    if accelerator not in ('auto', 'cpu', 'cuda'):
        raise ValueError(f'--accelerator must be auto, cpu or cuda, got {accelerator}')
    if accelerator == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--accelerator cuda was asked for but torch sees no CUDA GPU')
    if devices != 'auto' and not (devices.isdigit() and int(devices)):
        raise ValueError(f'--devices must be auto or a positive number, got {devices}')
    if nodes < 1:
        raise ValueError(f'--nodes must be at least 1, got {nodes}')
    fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision,
                    num_nodes=nodes,
                    loggers=TensorBoardLogger(folder, name='', version='tensorboard'))
    fabric.launch()
    if (fabric.device.type == 'cpu' and precision == 'bf16-mixed'
            and torch.backends.cpu.get_cpu_capability() == 'AVX2'):
        log.warning('this CPU has no bf16: every step takes many times longer than with '
                    'precision: 32-true in the file of --config')
    return fabric


def open_run(model: nn.Module, loop: LoopConfig, folder: Path, fabric: Fabric, config: Any,
             resume: bool, samples: int) -> TrainingRun:
    """Make the run, load its checkpoint if it resumes, note its settings, obey Ctrl-C."""
    run = TrainingRun(model, loop, folder, fabric, samples)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.stop())
    if resume:
        run.resume()
    if fabric.is_global_zero:
        if not resume:  # of a run that was killed before its first checkpoint
            for kind in ('train', 'validate'):
                (folder / f'{kind}.csv').unlink(missing_ok=True)
        replace_file(folder / 'config.yaml', yaml.safe_dump(to_yaml(config)).encode())
        replace_file(folder / 'commit', f'{find_commit() or "unknown"}\n'.encode())
    return run


def to_yaml(config: Any) -> dict:
    """Settings as plain dicts and lists."""
    return _plain(asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def start_network(build: Callable[[NetworkConfig], nn.Module], network: NetworkConfig,
                  start: Optional[str], resume: bool) -> tuple[nn.Module, int]:
    """Fresh weights, or those of the checkpoint that the experiment starts from.

    A resumed run has its own and no longer needs that checkpoint.

    Args:
        build: makes the network.
        network: its architecture.
        start: checkpoint to start from, by path or name in models/.
        resume: whether the run is resumed.

    Returns:
        The network, and the samples that its weights have seen so far.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the start is a network of another size.
    """
    model, samples = build(network), 0
    if start and not resume:
        path = find_model(start)
        count, notes = load_start(model, network, path)
        samples = int(notes.get('samples', 0))
        log.info('starting from %d of %d tensors of %s', count, len(model.state_dict()), path)
    return model, samples


def check_precision(precision: str) -> None:
    """Raise ValueError unless Fabric's precision is one that the networks train in."""
    if precision not in PRECISIONS:
        raise ValueError(f'precision must be {" or ".join(PRECISIONS)}, got {precision}')
