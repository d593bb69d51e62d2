"""`svp pretrain --experiment proof`: does the right image teach depth, and what is it worth?

Pre-trains with both images and with the left one alone, on the world and on recordings, measures
what the matching knows without labels, and fine-tunes from every start with few and many labels.
Every part is an ordinary run below the output folder: `svp pretrain` and `svp finetune disparity`
with the config.yaml that lies there would do the same. Finished parts are not done again.
"""

import argparse
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any, Optional

import numpy as np
from tqdm import tqdm
import yaml

from svp_ros.config import load_config
from svp_ros.data.labelled import find_scenes, Scene
from svp_ros.data.pair_stream import DataSource, PairStream
from svp_ros.data.pairs import Pair
from svp_ros.data.world import World
from svp_ros.eval.pretraining_report import baselines, read_columns
from svp_ros.eval.proof_report import write_proof
from svp_ros.eval.reconstruction import (
    FixedPairs,
    labelled_pairs,
    pairs_on_disk,
    score_reconstruction,
    world_pairs,
)
from svp_ros.model.build import load_reconstruction
from svp_ros.predictor import choose_device
from svp_ros.provenance import describe_device, find_commit
from svp_ros.train.disparity import DisparityTraining
from svp_ros.train.pretrain import MODES, PretrainConfig, sources_of
from svp_ros.train.runs import to_yaml

STARTS = (*MODES, 'none')


@dataclass(frozen=True)
class ProofConfig:
    """The whole experiment; `config/train/proof*.yaml` override these defaults.

    Args:
        pretrain: settings of all four pre-trainings; the two on recordings leave the world out.
        finetune: settings of all fine-tunings.
        budgets: numbers of labelled pairs; `finetune.stream.pairs` does not count.
        seeds: every fine-tuning is done once with each.
    """

    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    finetune: DisparityTraining = field(default_factory=DisparityTraining)
    budgets: tuple[int, ...] = (250, 1000, 4000)
    seeds: tuple[int, ...] = (0, 1)

    def __post_init__(self):
        if not self.budgets or not self.seeds:
            raise ValueError('budgets and seeds must name at least one value each')
        if self.pretrain.size != self.finetune.size:
            raise ValueError(f'pretrain and finetune must be of one size, got '
                             f'{self.pretrain.size} and {self.finetune.size}')


def pretraining_runs(config: ProofConfig) -> dict[str, PretrainConfig]:
    """Settings of every pre-training by folder name; `real_...` where there are recordings."""
    c, runs = config.pretrain, {}
    for mode in MODES:
        runs[f'world_{mode}'] = replace(c, mode=mode, stream=replace(c.stream, data=(), world=1.0))
        if c.stream.data:
            runs[f'real_{mode}'] = replace(c, mode=mode, stream=replace(c.stream, world=0.0))
    return runs


def finetuning_runs(config: ProofConfig, out: Path) -> dict[str, DisparityTraining]:
    """Settings of every fine-tuning by folder name."""
    runs = {}
    for seed in config.seeds:
        for budget in config.budgets:
            for start in STARTS:
                weights = out / f'world_{start}' / 'average.safetensors'
                stream = replace(config.finetune.stream, pairs=budget)
                runs[f'finetune_{start}_{budget}_{seed}'] = replace(
                    config.finetune, start=None if start == 'none' else str(weights), seed=seed,
                    stream=stream)
    return runs


def run_all(runs: dict[str, Any], command: list[str], out: Path, jobs: int,
            options: Iterable[str] = ()) -> None:
    """Train every run in a process of its own, `jobs` at a time.

    Raises:
        ChildProcessError: If one fails; what is finished stays finished.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def train(name: str) -> str:
        folder = out / name
        if read_columns(folder / 'validate.csv').get('step', [0])[-1] == runs[name].loop.steps:
            return name
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / 'settings.yaml'
        settings.write_text(yaml.safe_dump(to_yaml(runs[name])))
        resume = ['--resume'] if (folder / 'last.pt').exists() else []
        with (folder / 'output.txt').open('a') as output:
            done = subprocess.run(
                [sys.executable, '-m', 'svp_ros', *command, '--config', str(settings), '--out',
                 str(folder), *options, *resume], stdout=output, stderr=subprocess.STDOUT,
                env={**os.environ, 'OMP_NUM_THREADS': str(threads)}, check=False)
        if done.returncode:
            last = (folder / 'output.txt').read_text().strip().splitlines()[-1:]
            raise ChildProcessError(f'{folder} ended with {done.returncode}: {"".join(last)}')
        return name

    with ThreadPoolExecutor(jobs) as pool:
        for _ in tqdm(pool.map(train, runs), ' '.join(command), len(runs), unit='run'):
            pass


def measure(config: ProofConfig, out: Path, sets: dict[str, FixedPairs], device: str) -> dict:
    """Collect the figures of all runs.

    Args:
        config: the experiment.
        out: its folder.
        sets: of `proof_sets`.
        device: where the networks run.

    Returns:
        `reconstruction`: {run: {set: score_reconstruction(...)}}, `ratio`: {run: {set: {error:
        stereo / left only}}}, `depth`: {set: {what: epe and bad_3}}, `finetuning`: a list of
        {start, budget, seed, epe, bad_3}, `gain`: by budget.
    """
    c = config.pretrain
    scores: dict = {}
    for name, run in pretraining_runs(config).items():
        model, network = load_reconstruction(out / name / 'average.safetensors')
        model.to(device)
        scores[name] = {
            key: score_reconstruction(model, pairs, c.mask_ratio, run.mode == 'left_only')
            for key, pairs in sets.items()}
    ratio = {source: {key: {error: scores[f'{source}_stereo'][key][error]
                            / scores[f'{source}_left_only'][key][error]
                            for error in ('colours', 'structure')} for key in sets}
             for source in ('world', 'real') if f'{source}_stereo' in scores}
    depth = {}
    for key, pairs in sets.items():
        if pairs.disparity is not None:
            depth[key] = baselines(pairs, network)
            for source in ratio:
                depth[key][f'{source}_stereo'] = {
                    metric: scores[f'{source}_stereo'][key][metric] for metric in ('epe', 'bad_3')}
    rows = []
    for name in finetuning_runs(config, out):
        _, start, budget, seed = name.replace('left_only', 'left-only').split('_')
        log = read_columns(out / name / 'validate.csv')
        rows.append({'start': start, 'budget': int(budget), 'seed': int(seed),
                     'epe': log['epe'][-1], 'bad_3': log['bad_3'][-1]})
    gain = {str(budget): {
        f'{metric}_of_stereo_against_{other}': 1 - _mean(rows, 'stereo', budget, metric)
        / _mean(rows, other, budget, metric)
        for metric in ('epe', 'bad_3') for other in ('left-only', 'none')}
        for budget in config.budgets}
    return {'reconstruction': scores, 'ratio': ratio, 'depth': depth, 'finetuning': rows,
            'gain': gain}


def find_validation(config: ProofConfig, recordings: Path) -> list[Pair]:
    """Pairs on disk that no training sees; recordings are unpacked into a folder."""
    stream = config.pretrain.stream
    if not stream.data:
        return []
    return PairStream(replace(stream, world=0.0), 0, unpacked=recordings).validation


def proof_sets(config: ProofConfig, scenes: Sequence[Scene],
               pairs: Sequence[Pair]) -> dict[str, FixedPairs]:
    """Make the validation pairs: world, new_kind, real_tail, real_sequence, real_labelled."""
    c, stream = config.pretrain, config.pretrain.stream
    count, shape = c.validation_pairs, (stream.height, stream.width)
    sets = {name: world_pairs(World(world, stream.photographs), count, *shape)
            for name, world in (('world', stream.world_config),
                                ('new_kind', config.finetune.stream.world))}
    whole = {name for source in stream.data for name in source.held_out}
    for name, chosen in (('real_tail', [p for p in pairs if p.sequence not in whole]),
                         ('real_sequence', [p for p in pairs if p.sequence in whole])):
        if chosen:
            sets[name] = pairs_on_disk(chosen, count, *shape)
    if scenes:
        sets['real_labelled'] = labelled_pairs(scenes, *shape)
    return sets


def run_proof(arguments: argparse.Namespace, command: str) -> None:
    """Do everything and write proof.json, curves.csv, pictures and report.html.

    Args:
        arguments: of `svp pretrain`.
        command: its command line.

    Raises:
        FileNotFoundError, ValueError: If settings or data cannot be used.
        ChildProcessError: If a run fails.
    """
    config = load_config(ProofConfig, arguments.config)
    config = use_sources(config, sources_of(arguments), arguments.photographs)
    if arguments.jobs < 1:
        raise ValueError(f'--jobs must be at least 1, got {arguments.jobs}')
    out = arguments.out
    cache = arguments.cache or out / 'cache'
    scenes = find_scenes(arguments.labelled) if arguments.labelled else []
    pairs = find_validation(config, cache / 'recordings')
    out.mkdir(parents=True, exist_ok=True)
    options = ['--cache', str(cache), '--accelerator', arguments.accelerator,
               '--devices', arguments.devices]
    run_all(pretraining_runs(config), ['pretrain'], out, arguments.jobs, options)
    run_all(finetuning_runs(config, out), ['finetune', 'disparity'], out, arguments.jobs, options)
    device = choose_device(arguments.accelerator)
    sets = proof_sets(config, scenes, pairs)
    result = {'command': command, 'commit': find_commit(), 'device': describe_device(device),
              'config': to_yaml(config), **measure(config, out, sets, device)}
    (out / 'proof.json').write_text(json.dumps(result, indent=1) + '\n')
    write_proof(out, result, sets, config.pretrain.mask_ratio)
    print(summarise(result))
    print(f'report: {out / "report.html"}')


def use_sources(config: ProofConfig, data: Sequence[DataSource],
                photographs: Optional[str]) -> ProofConfig:
    """Add sources of the command line to those of the config; photographs are for every part."""
    stream, finetuning = config.pretrain.stream, config.finetune.stream
    stream = replace(stream, data=(*stream.data, *data),
                     photographs=photographs or stream.photographs)
    finetuning = replace(finetuning, photographs=photographs or finetuning.photographs)
    return replace(config, pretrain=replace(config.pretrain, stream=stream),
                   finetune=replace(config.finetune, stream=finetuning))


def summarise(result: dict) -> str:
    """Say in a few lines what came out."""
    lines = [f'{source}, measured on {key}: hidden pixels {ratio["colours"]:.2f} of left only '
             f'(textures {ratio["structure"]:.2f})'
             for source, by_set in result['ratio'].items() for key, ratio in by_set.items()]
    lines += [f'matching on {key}: ' + ', '.join(
        f'{name} {score["epe"]:.2f} px / {score["bad_3"]:.1f} %' for name, score in scores.items())
        for key, scores in result['depth'].items()]
    lines += [f'{budget} labelled pairs: EPE {100 * gain["epe_of_stereo_against_none"]:.0f} % '
              'below no pre-training, '
              f'{100 * gain["epe_of_stereo_against_left-only"]:.0f} % below left only'
              for budget, gain in result['gain'].items()]
    return '\n'.join(lines)


def _mean(rows: list[dict], start: str, budget: int, metric: str) -> float:
    return float(np.mean([row[metric] for row in rows
                          if row['start'] == start and row['budget'] == budget]))
