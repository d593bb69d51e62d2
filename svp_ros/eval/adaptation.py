"""Whether a network has become better on pairs of a camera, without ground truth."""

from collections.abc import Mapping, Sequence

import numpy as np

from svp_ros.eval.bag_metrics import photometric_error
from svp_ros.eval.disparity import compare_eyes
from svp_ros.eval.metrics import DisparityScore
from svp_ros.pictures import colour_disparity, stack_pictures
from svp_ros.predictor import StereoPredictor
from svp_ros.train.block_labels import read_label, TaughtPair

PICTURES = 4
TITLES = ('left', 'before', 'after', 'taken for the truth')
# Less is better; in the order of the report.
MEASURES = {'photometric_error': 'photometric error, grey levels',
            'left_right': 'left-right difference, px',
            'left_right_above_1': 'left-right difference above 1 px, %',
            'epe': 'difference to block matching, px',
            'bad_1': 'difference to block matching above 1 px, %',
            'bad_3': 'difference to block matching above 3 px, %'}


class HeldOutPairs:
    """Pairs of a camera that training never sees.

    Args:
        taught: at least one.
    """

    def __init__(self, taught: Sequence[TaughtPair]):
        self.taught = taught

    def score(self, predictor: StereoPredictor) -> dict[str, float]:
        """Return `MEASURES`: means over pairs, and over all labelled pixels for the last ones.

        The photometric error is that of the best guess of every pixel whose match is inside the
        right image.
        """
        errors, eyes, labelled = [], DisparityScore(), DisparityScore()
        for taught in self.taught:
            left, right = taught.pair.load()
            result = predictor.predict(left, right)
            errors.append(np.nanmean(photometric_error(left, right, result.disparity_filled)))
            eyes.merge(compare_eyes(predictor, left, right, result))
            label = read_label(taught)
            known = np.isfinite(label)
            if known.any():
                labelled.update(result.disparity_filled, label, known)
        scores = {'photometric_error': float(np.mean(errors))}
        if eyes.pixels:
            scores |= {'left_right': eyes.result()['epe'],
                       'left_right_above_1': eyes.result()['bad_1']}
        if labelled.pixels:
            scores |= {name: labelled.result()[name] for name in ('epe', 'bad_1', 'bad_3')}
        return scores

    def picture(self, before: StereoPredictor, after: StereoPredictor) -> np.ndarray:
        """RGB rows of a left image, the disparities of two networks and the label."""
        rows = []
        for taught in self.taught[::-(-len(self.taught) // PICTURES)]:
            left, right = taught.pair.load()
            maps = [*(predictor.predict(left, right).disparity for predictor in (before, after)),
                    read_label(taught)]
            high = np.nanpercentile(maps[1], 99)
            rows.append([left, *(colour_disparity(x, 0, high) for x in maps)])
        return stack_pictures(TITLES, rows, width=320)


def describe_change(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Table of two results of `HeldOutPairs.score` and what follows from it."""
    lines = [f'{"on held-out pairs of the recording":46} {"before":>8} {"after":>8}']
    lines += [f'{title:46} {before[name]:8.2f} {after[name]:8.2f}'
              for name, title in MEASURES.items() if name in before and name in after]
    better = after['photometric_error'] <= before['photometric_error'] and (
        after.get('left_right', 0) <= before.get('left_right', 0))
    lines.append('better by both measures that need no label: take it' if better else
                 'not better by both measures that need no label: keep the network it came from, '
                 'or try another recording')
    return '\n'.join(lines)
