"""How good the labels of `svp adapt` are, on scenes whose truth is known.

`python -m svp_ros.eval.label_quality --data LABELLED --json FILE` prints and writes it.
"""

import argparse
import json
from pathlib import Path
import sys
from typing import Optional

import numpy as np

from svp_ros.data.labelled import find_scenes
from svp_ros.eval.metrics import DisparityScore
from svp_ros.predictor import StereoPredictor
from svp_ros.provenance import find_commit
from svp_ros.train.block_labels import label_pair

METRICS = ('epe', 'bad_1', 'bad_3')


def measure(predictor: StereoPredictor, scenes: list) -> dict[str, dict]:
    """Score the labels of scenes, by data set.

    Returns:
        By set: `scenes`, `coverage` (percent of the pixels with truth that have a label), and
        means over scenes of epe (px), bad_1 and bad_3 (percent) of the `labels` and of the
        `network`, both at the labelled pixels.
    """
    rows: dict[str, list[dict]] = {}
    for scene in scenes:
        left, right, truth, valid = scene.load()
        label, unmatched = label_pair(predictor, left, right)
        known = valid & np.isfinite(label) & ~unmatched
        row = {'coverage': 100 * known.sum() / valid.sum()}
        guess = predictor.predict(left, right).disparity_filled
        for name, disparity in (('labels', label), ('network', guess)):
            score = DisparityScore()
            score.update(disparity, truth, known)
            row[name] = score.result()
        rows.setdefault(scene.name.split('/')[0], []).append(row)
    return {name: {
        'scenes': len(some), 'coverage': float(np.mean([row['coverage'] for row in some])),
        **{what: {key: float(np.mean([row[what][key] for row in some])) for key in METRICS}
           for what in ('labels', 'network')}} for name, some in sorted(rows.items())}


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', required=True, help='as for svp evaluate disparity')
    parser.add_argument('--model', default='nano')
    parser.add_argument('--json', type=Path, help='also write the figures')
    arguments = parser.parse_args(argv)
    predictor = StereoPredictor.load(arguments.model)
    sets = measure(predictor, find_scenes(arguments.data))
    print(f'{"":22} {"scenes":>6} {"labelled":>9} {"labels":>24} {"network there":>24}')
    for name, row in sets.items():
        figures = [f'{row[what]["epe"]:5.2f} px {row[what]["bad_1"]:5.1f} % '
                   f'{row[what]["bad_3"]:5.1f} %' for what in ('labels', 'network')]
        print(f'{name:22} {row["scenes"]:6} {row["coverage"]:7.1f} % {figures[0]:>24} '
              f'{figures[1]:>24}')
    if arguments.json:
        result = {'command': ' '.join(['python -m svp_ros.eval.label_quality',
                                       *(sys.argv[1:] if argv is None else argv)]),
                  'commit': find_commit(), 'model': predictor.card, 'sets': sets}
        arguments.json.write_text(json.dumps(result, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
