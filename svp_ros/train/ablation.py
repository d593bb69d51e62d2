"""What each group of the world brings: `python -m svp_ros.train.ablation --help`.

Trains one network on the whole world and one for every group that is left out, all with the same
steps, and scores them on labelled pairs of real cameras. A run that was stopped continues.
"""

import argparse
from dataclasses import replace
import json
from pathlib import Path
import sys
from typing import Any, Optional, Sequence

import numpy as np

from svp_ros.config import load_config, make_config
from svp_ros.data.labelled import find_scenes, Scene
from svp_ros.eval.disparity import evaluate_scenes
from svp_ros.predictor import StereoPredictor
from svp_ros.provenance import describe_device, find_commit
from svp_ros.train.disparity import DisparityTraining
from svp_ros.train.proof_runs import run_all
from svp_ros.train.runs import to_yaml, use_photographs

METRICS = ('epe', 'bad_1', 'bad_3', 'd1')

# Group -> settings of WorldConfig (and of AugmentConfig) without it.
WORLD_GROUPS: dict[str, dict[str, Any]] = {
    'rooms': {'room': 0.0},
    'streets': {'street': 0.0},
    'clutter': {'clutter': 0.0},
    'tables': {'table': 0.0},
    'fields': {'field_share': 0.0},
    'wide disparities': {'max_disparity': [0.04, 0.12]},
    'blank surfaces': {'plain_share': 0.0},
    'photographs': {'photograph_share': 0.0},
    'natural textures': {'natural_share': 0.0},
    'repeated motifs': {'repeat_share': 0.0},
    'curved surfaces': {'curved_share': 0.0},
    'thin structure': {'thin_share': 0.0},
    'foliage': {'foliage_share': 0.0},
    'highlights': {'gloss_share': 0.0},
    'reflections': {'reflective_share': 0.0},
    'shadows': {'shadow_share': 0.0},
    'night': {'night_share': 0.0},
    'exposure difference': {'exposure_difference': 0.0},
    'tone curve': {'contrast': [0.0, 0.0]},
    'vignetting': {'vignetting': [0.0, 0.0]},
    'lens blur and defocus': {'blur': [0.0, 0.0], 'defocus_share': 0.0},
    'motion blur': {'motion_share': 0.0},
    'sharpening': {'sharpen_share': 0.0},
    'sensor noise': {'noise': [1e-6, 1e-6]},
    'one colour per pixel': {'bayer_share': 0.0},
    'compression': {'jpeg_share': 0.0},
}
AUGMENT_GROUPS: dict[str, dict[str, Any]] = {
    'sensor noise': {'noise': 0.0},
    'compression': {'jpeg': 0.0},
    'lens blur and defocus': {'blur': 0.0},
    'rectification error': {'misalign': 0.0},
    'grey cameras': {'grey': 0.0},
}
GROUPS = tuple(dict.fromkeys([*WORLD_GROUPS, *AUGMENT_GROUPS]))
WHOLE = 'nothing'


def leave_out(config: DisparityTraining, groups: Sequence[str]) -> DisparityTraining:
    """Return the training without some groups.

    Raises:
        ValueError: If there is no such group.
    """
    values = to_yaml(config)
    for group in groups:
        if group not in GROUPS:
            raise ValueError(f'no group "{group}"; there are {", ".join(GROUPS)}')
        values['stream']['world'].update(WORLD_GROUPS.get(group, {}))
        values['stream']['augment'].update(AUGMENT_GROUPS.get(group, {}))
    return make_config(DisparityTraining, values)


def plan(config: DisparityTraining, groups: Sequence[str], seeds: int
         ) -> dict[tuple[str, int], DisparityTraining]:
    """Return the training of every (left-out group, seed), the whole world first."""
    return {(group, seed): replace(leave_out(config, [] if group == WHOLE else [group]), seed=seed)
            for seed in range(seeds) for group in (WHOLE, *groups)}


def score(checkpoint: Path, scenes: Sequence[Scene], device: str) -> dict[str, Any]:
    """Score on labelled scenes: the mean over all, and over those of each folder of the data."""
    rows = evaluate_scenes(StereoPredictor.load(checkpoint, device), scenes, sgbm=False)['scenes']
    sets: dict[str, list] = {'all': rows}
    for row in rows:
        sets.setdefault(row['name'].partition('/')[0], []).append(row)
    return {name: {metric: float(np.mean([row['model'][metric] for row in part]))
                   for metric in METRICS} for name, part in sets.items()}


def summarise(scores: dict[tuple[str, int], dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds, and how much worse the mean is than with the whole world."""
    groups = list(dict.fromkeys(group for group, _ in scores))
    summary: dict[str, Any] = {}
    for group in groups:
        runs = [sets for (name, _), sets in scores.items() if name == group]
        summary[group] = {'runs': len(runs), **{
            name: {metric: float(np.mean([run[name][metric] for run in runs]))
                   for metric in METRICS} for name in runs[0]}}
    for group in groups:
        summary[group]['worse'] = {metric: summary[group]['all'][metric]
                                   - summary[WHOLE]['all'][metric] for metric in METRICS}
    return summary


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Train, score and write the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n\n')[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--labelled', type=Path, required=True,
                        help='labelled scenes, see `svp evaluate disparity`')
    parser.add_argument('--out', type=Path, required=True, help='folder of the runs')
    parser.add_argument('--json', type=Path, default=Path('docs/results/world_ablation.json'))
    parser.add_argument('--config', type=Path,
                        default=Path('config/train/disparity_nano_cpu.yaml'))
    parser.add_argument('--steps', type=int, default=2000, help='of every training')
    parser.add_argument('--seeds', type=int, default=1, help='trainings per group')
    parser.add_argument('--groups', nargs='+', default=GROUPS, metavar='GROUP',
                        help='those to leave out, one at a time')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time')
    parser.add_argument('--photographs', help='folder of photographs used as textures')
    parser.add_argument('--cache', action='store_true',
                        help='keep rendered pairs in OUT/cache, for a CPU')
    parser.add_argument('--device', default='cpu', help='of the scoring')
    args = parser.parse_args(argv)
    scenes = find_scenes(args.labelled)
    config = use_photographs(load_config(DisparityTraining, args.config), args.photographs)
    config = replace(
        config, validation_pairs=4,
        loop=replace(config.loop, steps=args.steps, validate_every=args.steps))
    runs = plan(config, args.groups, args.seeds)
    folders = {run: f'{run[0].replace(" ", "_")}_{run[1]}' for run in runs}
    options = ['--cache', str(args.out / 'cache')] if args.cache else []
    run_all({folders[run]: runs[run] for run in runs}, ['finetune', 'disparity'], args.out,
            args.jobs, options)
    summary = summarise({run: score(args.out / folder / 'average.safetensors', scenes, args.device)
                         for run, folder in folders.items()})
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({
        'command': ' '.join(['python -m svp_ros.train.ablation', *(argv or sys.argv[1:])]),
        'commit': find_commit(), 'device': describe_device(args.device), 'size': config.size,
        'steps': args.steps, 'batch': config.stream.batch, 'scenes': len(scenes),
        'settings': {group: {'world': WORLD_GROUPS.get(group, {}),
                             'augment': AUGMENT_GROUPS.get(group, {})} for group in args.groups},
        'left_out': summary}, indent=1) + '\n')
    for group, row in sorted(summary.items(), key=lambda item: -item[1]['worse']['bad_3']):
        print(f'without {group:22} EPE {row["all"]["epe"]:6.2f} px  bad-3 '
              f'{row["all"]["bad_3"]:5.1f} %  ({row["worse"]["bad_3"]:+.1f})')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
