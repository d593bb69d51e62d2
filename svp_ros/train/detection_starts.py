"""Which start helps detection: `python -m svp_ros.train.detection_starts --help`.

Trains the same detector from several starts at several numbers of labelled streets, all with the
same steps, and scores each on streets that no training sees. A run that was stopped continues.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
import json
from pathlib import Path
import sys
from typing import Any, Optional

import numpy as np

from svp_ros.config import load_config
from svp_ros.data.rendered import PAIRS_PER_RENDER
from svp_ros.eval.pretraining_report import read_columns
from svp_ros.model.build import read_checkpoint
from svp_ros.predictor import find_model
from svp_ros.provenance import describe_device, find_commit
from svp_ros.train.detection import DetectionTraining
from svp_ros.train.proof_runs import run_all
from svp_ros.train.runs import use_photographs

NONE = 'none'
Runs = dict[tuple[str, int, int], DetectionTraining]


def plan(config: DetectionTraining, starts: Sequence[str], budgets: Sequence[int],
         seeds: int) -> Runs:
    """Return the training of every (start, budget, seed).

    Raises:
        FileNotFoundError: If there is no such start.
        ValueError: If a budget is too small, or a start knows boxes already.
    """
    if min(budgets) < PAIRS_PER_RENDER:
        raise ValueError(f'budgets must be at least {PAIRS_PER_RENDER}, got {min(budgets)}')
    for start in starts:
        if start != NONE and read_checkpoint(find_model(start))[1].classes:
            raise ValueError(f'{start} has learnt boxes already; take starts without a detection '
                             'head')
    return {(start, budget, seed): replace(
        config, start=None if start == NONE else start, seed=seed,
        stream=replace(config.stream, pairs=budget))
        for seed in range(seeds) for budget in budgets for start in starts}


def summarise(results: dict[tuple[str, int, int], dict[str, float]]) -> list[dict[str, Any]]:
    """Mean over seeds of the last validation of every start and budget."""
    rows = []
    for start, budget in dict.fromkeys(key[:2] for key in results):
        runs = [result for key, result in results.items() if key[:2] == (start, budget)]
        rows.append({'start': start, 'pairs': budget, 'runs': len(runs), **{
            name: float(np.mean([run[name] for run in runs])) for name in runs[0]}})
    return rows


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Train, score and write the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n\n')[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--config', type=Path, required=True, help='settings of every training')
    parser.add_argument('--out', type=Path, required=True, help='folder of the runs')
    parser.add_argument('--json', type=Path, default=Path('docs/results/detection_starts.json'))
    parser.add_argument('--starts', nargs='+', default=['nano_pretrained', NONE],
                        help=f'checkpoints by path or name in models/, or {NONE}')
    parser.add_argument('--budgets', nargs='+', type=int, default=[100, 1000],
                        help='numbers of labelled pairs')
    parser.add_argument('--seeds', type=int, default=1, help='trainings of each')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time')
    parser.add_argument('--photographs', help='folder of photographs used as textures')
    args = parser.parse_args(argv)
    config = use_photographs(load_config(DetectionTraining, args.config), args.photographs)
    runs = plan(config, args.starts, args.budgets, args.seeds)
    folders = {run: '_'.join((Path(run[0]).stem, *map(str, run[1:]))) for run in runs}
    if len(set(folders.values())) < len(runs):
        raise ValueError(f'starts must differ in their file names, got {", ".join(args.starts)}')
    run_all({folders[run]: runs[run] for run in runs}, ['finetune', 'detection'], args.out,
            args.jobs, ['--cache', str(args.out / 'cache')])
    rows = summarise({run: {name: column[-1] for name, column in read_columns(
        args.out / folder / 'validate.csv').items()} for run, folder in folders.items()})
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({
        'command': ' '.join(['python -m svp_ros.train.detection_starts',
                             *(argv or sys.argv[1:])]),
        'commit': find_commit(), 'device': describe_device('cpu'), 'size': config.size,
        'steps': config.loop.steps, 'batch': config.stream.batch,
        'streets': config.validation_streets, 'rows': rows}, indent=1) + '\n')
    for row in rows:
        scores = '  '.join(f'{name} {value:.1f}' for name, value in row.items()
                           if name.endswith(('_3d', '_bev_loose')))
        print(f'{row["start"]:>16} {row["pairs"]:6} pairs  EPE {row["epe"]:.2f} px  {scores}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
