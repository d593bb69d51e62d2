"""The trainings of the proof: their settings, and how they are started."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
import os
from pathlib import Path
import subprocess
import sys
from typing import Any, Union

from tqdm import tqdm
import yaml

from svp_ros.config import load_config
from svp_ros.data.pair_stream import PairStreamConfig
from svp_ros.data.rendered import PAIRS_PER_RENDER
from svp_ros.data.stream import crops_at, StreamConfig
from svp_ros.data.world import WorldConfig
from svp_ros.data.world.world import KINDS
from svp_ros.eval.pretraining_report import read_columns
from svp_ros.files import sha256_of
from svp_ros.predictor import find_model
from svp_ros.train.disparity import DisparityTraining
from svp_ros.train.pretrain import MODES, PretrainConfig
from svp_ros.train.runs import to_yaml

STARTS = (*MODES, 'none')
START_NOTE = 'start.sha256'  # of the start checkpoint, in the folder of a run
Training = Union[PretrainConfig, DisparityTraining]


def _without_clutter() -> PretrainConfig:
    return PretrainConfig(stream=PairStreamConfig(world_config=WorldConfig(clutter=0.0)))


def _clutter() -> DisparityTraining:
    world = WorldConfig(room=0.0, street=0.0, table=0.0)
    return DisparityTraining(stream=StreamConfig(world=world))


@dataclass(frozen=True)
class ProofConfig:
    """The whole experiment; `config/train/proof*.yaml` override these defaults.

    Args:
        pretrain: settings of all four pre-trainings; the two on real pairs leave the world out.
        finetune: settings of all fine-tunings, on kinds of scene that pre-training has not seen.
        budgets: numbers of labelled pairs; `finetune.stream.pairs` does not count.
        seeds: every fine-tuning is done once with each.
    """

    pretrain: PretrainConfig = field(default_factory=_without_clutter)
    finetune: DisparityTraining = field(default_factory=_clutter)
    budgets: tuple[int, ...] = (250, 1000, 4000)
    seeds: tuple[int, ...] = (0, 1)

    def __post_init__(self):
        if not self.budgets or not self.seeds:
            raise ValueError('budgets and seeds must name at least one value each')
        if self.pretrain.size != self.finetune.size:
            raise ValueError(f'pretrain and finetune must be of one size, got '
                             f'{self.pretrain.size} and {self.finetune.size}')
        worlds = self.pretrain.stream.world_config, self.finetune.stream.world
        shared = [kind for kind in KINDS if all(getattr(world, kind) for world in worlds)]
        if shared:
            raise ValueError(
                f'fine-tuning must be on new kinds of scene, but {", ".join(shared)} is in both '
                'worlds; set its weight to 0 in pretrain.stream.world_config or '
                'finetune.stream.world')
        _, used = crops_at(self.finetune.stream, self.finetune.loop.steps)
        for budget in self.budgets:
            if not PAIRS_PER_RENDER <= budget <= used:
                raise ValueError(
                    f'budgets must lie between {PAIRS_PER_RENDER} and {used}, the pairs that '
                    f'{self.finetune.loop.steps} steps of finetune use, got {budget}')


def pretraining_runs(config: ProofConfig) -> dict[str, PretrainConfig]:
    """Settings of every pre-training by folder name; `real_...` where there are pairs on disk."""
    c, runs = config.pretrain, {}
    for mode in MODES:
        runs[f'world_{mode}'] = replace(c, mode=mode, stream=replace(c.stream, data=(), world=1.0))
        if c.stream.data:
            runs[f'real_{mode}'] = replace(c, mode=mode, stream=replace(c.stream, world=0.0))
    return runs


def finetuning_runs(config: ProofConfig,
                    out: Path) -> dict[tuple[str, int, int], DisparityTraining]:
    """Settings of every fine-tuning by start, budget and seed."""
    runs = {}
    for seed in config.seeds:
        for budget in config.budgets:
            for start in STARTS:
                weights = out / f'world_{start}' / 'average.safetensors'
                runs[start, budget, seed] = replace(
                    config.finetune, start=None if start == 'none' else str(weights), seed=seed,
                    stream=replace(config.finetune.stream, pairs=budget))
    return runs


def finetuning_folder(start: str, budget: int, seed: int) -> str:
    """Name of the folder of a fine-tuning."""
    return f'finetune_{start}_{budget}_{seed}'


def check_settings(folder: Path, settings: Training) -> None:
    """Raise ValueError if the folder holds a run of other settings; its start may have moved."""
    if (folder / 'config.yaml').exists():
        own = load_config(type(settings), folder / 'config.yaml')
        changes = _changes(to_yaml(own), {**to_yaml(settings), 'start': own.start})
        if changes:
            raise ValueError(f'{folder} holds a run of other settings, {"; ".join(changes)}; '
                             'choose another --out or remove it')


def is_finished(folder: Path, settings: Training) -> bool:
    """Whether the run with these settings has been trained to its end.

    Raises:
        ValueError: If the folder holds a run of other settings or of another start checkpoint
            than there is now.
    """
    check_settings(folder, settings)
    noted = folder / START_NOTE
    if (folder / 'config.yaml').exists() and settings.start and not (
            noted.exists() and noted.read_text() == sha256_of(find_model(settings.start))):
        raise ValueError(f'{folder} holds a run that did not start from what {settings.start} is '
                         'now; remove it to train it again')
    return read_columns(folder / 'validate.csv').get('step', [0])[-1] == settings.loop.steps


def run_all(runs: Mapping[str, Training], command: list[str], out: Path, jobs: int,
            options: Iterable[str] = ()) -> None:
    """Train every run that is not finished in a process of its own, `jobs` at a time.

    Args:
        runs: settings by folder name.
        command: sub-command of `svp`.
        out: folder of the folders.
        jobs: processes at a time; they share the cores.
        options: of the command.

    Raises:
        ChildProcessError: If one fails; what is finished stays finished.
        ValueError: As `is_finished`, before anything is trained.
    """
    unfinished = [name for name in runs if not is_finished(out / name, runs[name])]
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    environment = {'OMP_NUM_THREADS': str(threads), **os.environ}

    def train(name: str) -> None:
        folder, settings = out / name, runs[name]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / 'settings.yaml'
        path.write_text(yaml.safe_dump(to_yaml(settings)))
        resume = ['--resume'] if (folder / 'last.pt').exists() else []
        if settings.start and not resume:
            (folder / START_NOTE).write_text(sha256_of(find_model(settings.start)))
        with (folder / 'output.txt').open('a') as output:
            done = subprocess.run(
                [sys.executable, '-m', 'svp_ros', *command, '--config', str(path), '--out',
                 str(folder), *options, *resume], stdout=output, stderr=subprocess.STDOUT,
                env=environment, check=False)
        if done.returncode:
            last = (folder / 'output.txt').read_text().strip().splitlines()[-1:]
            raise ChildProcessError(f'{folder} ended with {done.returncode}: {"".join(last)}')

    with ThreadPoolExecutor(jobs) as pool:
        for _ in tqdm(pool.map(train, unfinished), ' '.join(command), len(runs),
                      initial=len(runs) - len(unfinished), unit='run'):
            pass


def _changes(was: Any, now: Any, name: str = '') -> list[str]:
    """Say which settings of nested mappings differ."""
    if isinstance(was, dict):
        return [change for key in was
                for change in _changes(was[key], now[key], f'{name}.{key}' if name else key)]
    return [] if was == now else [f'{name} {was} instead of {now}']
