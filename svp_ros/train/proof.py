"""`svp pretrain --experiment proof`: does the right image teach depth, and what is it worth?

Pre-trains with both images and with the left one alone, on the world and on real pairs, measures
what that teaches about disparity without labels, and fine-tunes from every start with few and
many labels. Every part is an ordinary run below the output folder: `svp pretrain` and
`svp finetune disparity` with the config.yaml that lies there, and the same --cache, do the same.
Finished parts are not done again.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
import json
from pathlib import Path
from typing import Optional

import numpy as np

from svp_ros.config import load_config
from svp_ros.data.labelled import find_scenes, Scene
from svp_ros.data.overlap import find_overlap
from svp_ros.data.pair_stream import DataSource, find_source, PairStream, unpack_source
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
from svp_ros.train.proof_runs import (
    check_settings,
    finetuning_folder,
    finetuning_runs,
    pretraining_runs,
    ProofConfig,
    run_all,
)
from svp_ros.train.runs import to_yaml


def measure(config: ProofConfig, out: Path, sets: dict[str, FixedPairs], device: str) -> dict:
    """Collect the figures of all runs.

    Args:
        config: the experiment.
        out: its folder.
        sets: of `proof_sets`.
        device: where the networks run.

    Returns:
        `reconstruction`: {run: {set: score_reconstruction(...)}}, `ratio`: {run: {set: {error:
        stereo / left_only}}}, `depth`: {set: {what: epe and bad_3}}, `finetuning`: a list of
        {start, budget, seed, epe, bad_3, curve}, `gain`: by budget, `minutes`: by run.
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
    for start, budget, seed in finetuning_runs(config, out):
        log = read_columns(out / finetuning_folder(start, budget, seed) / 'validate.csv')
        rows.append({'start': start, 'budget': budget, 'seed': seed,
                     'epe': log['epe'][-1], 'bad_3': log['bad_3'][-1],
                     'curve': {name: log[name] for name in ('step', 'epe', 'bad_3')}})
    gain = {str(budget): {
        f'{metric}_of_stereo_against_{other}': 1 - _mean(rows, 'stereo', budget, metric)
        / _mean(rows, other, budget, metric)
        for metric in ('epe', 'bad_3') for other in ('left_only', 'none')}
        for budget in config.budgets}
    minutes = {name: training_minutes(out / name) for name in (
        *scores, *(finetuning_folder(*run) for run in finetuning_runs(config, out)))}
    return {'reconstruction': scores, 'ratio': ratio, 'depth': depth, 'finetuning': rows,
            'gain': gain, 'minutes': minutes}


def training_minutes(folder: Path) -> float:
    """Time that the logged steps of a run took, without validation."""
    log = read_columns(folder / 'train.csv')
    return float(np.dot(np.diff(log['step'], prepend=0), log['step_s']) / 60)


def unpack_recordings(config: ProofConfig, folder: Path) -> ProofConfig:
    """Unpack recordings once, so that all trainings read the same images in folders."""
    return _with_data(config, [unpack_source(source, folder)
                               for source in config.pretrain.stream.data])


def leave_out_labelled(config: ProofConfig,
                       scenes: Sequence[Scene]) -> tuple[ProofConfig, list[str]]:
    """Take the images of labelled scenes out of the pairs on disk; recordings are unpacked.

    Returns:
        The settings and the pairs that were taken out, SEQUENCE/NAME.
    """
    data, left_out = [], []
    for source in config.pretrain.stream.data if scenes else ():
        names = [f'{pair.sequence}/{pair.name}'
                 for pair in find_overlap(find_source(source), scenes)]
        data.append(replace(source, leave_out=(*source.leave_out, *names)))
        left_out += names
    return (_with_data(config, data) if left_out else config), left_out


def find_validation(config: ProofConfig) -> list[Pair]:
    """Pairs on disk that no training sees; recordings are unpacked."""
    stream = config.pretrain.stream
    return PairStream(replace(stream, world=0.0), 0).validation if stream.data else []


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


def run_proof(arguments: argparse.Namespace, sources: Sequence[DataSource], command: str) -> None:
    """Do everything and write proof.json, curves.csv, pictures and report.html.

    Args:
        arguments: of `svp pretrain`.
        sources: the data that they name.
        command: its command line.

    Raises:
        FileNotFoundError, ValueError: If settings or data cannot be used, or the folder holds
            runs of other settings.
        ChildProcessError: If a run fails.
    """
    config = load_config(ProofConfig, arguments.config)
    config = use_sources(config, sources, arguments.photographs)
    if arguments.jobs < 1:
        raise ValueError(f'--jobs must be at least 1, got {arguments.jobs}')
    out = arguments.out
    cache = arguments.cache or out / 'cache'
    device = choose_device(arguments.accelerator)
    scenes = find_scenes(arguments.labelled) if arguments.labelled else []
    config = unpack_recordings(config, cache / 'recordings')
    config, left_out = leave_out_labelled(config, scenes)
    pairs = find_validation(config)
    pretraining = pretraining_runs(config)
    finetuning = {finetuning_folder(*key): run
                  for key, run in finetuning_runs(config, out).items()}
    for name, run in {**pretraining, **finetuning}.items():
        check_settings(out / name, run)

    out.mkdir(parents=True, exist_ok=True)
    options = ['--accelerator', arguments.accelerator, '--devices', arguments.devices]
    # a budget of labels needs a finite store; without one a GPU renders new pairs by itself
    store = ['--cache', str(cache)]
    run_all(pretraining, ['pretrain'], out, arguments.jobs,
            options if device.startswith('cuda') else options + store)
    run_all(finetuning, ['finetune', 'disparity'], out, arguments.jobs, options + store)
    sets = proof_sets(config, scenes, pairs)
    result = {'command': command, 'commit': find_commit(), 'device': describe_device(device),
              'config': to_yaml(config), 'left_out': left_out,
              **measure(config, out, sets, device)}
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
    lines = [f'{source}, measured on {key}: colours {ratio["colours"]:.2f} and structure '
             f'{ratio["structure"]:.2f} of the error of left_only'
             for source, by_set in result['ratio'].items() for key, ratio in by_set.items()]
    lines += [f'disparity without labels on {key}: ' + ', '.join(
        f'{name} {score["epe"]:.2f} px / {score["bad_3"]:.1f} %' for name, score in scores.items())
        for key, scores in result['depth'].items()]
    lines += [f'{budget} labelled pairs: EPE {100 * gain["epe_of_stereo_against_none"]:.0f} % '
              'below no pre-training, '
              f'{100 * gain["epe_of_stereo_against_left_only"]:.0f} % below left_only'
              for budget, gain in result['gain'].items()]
    return '\n'.join(lines)


def _mean(rows: list[dict], start: str, budget: int, metric: str) -> float:
    return float(np.mean([row[metric] for row in rows
                          if row['start'] == start and row['budget'] == budget]))


def _with_data(config: ProofConfig, data: Sequence[DataSource]) -> ProofConfig:
    stream = replace(config.pretrain.stream, data=tuple(data))
    return replace(config, pretrain=replace(config.pretrain, stream=stream))
