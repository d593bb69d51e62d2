"""Whether a network has become better on pairs of a camera, without ground truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from svp_ros.eval.bag_metrics import photometric_error
from svp_ros.eval.disparity import eye_difference
from svp_ros.eval.metrics import DisparityScore
from svp_ros.pictures import colour_disparity, stack_pictures
from svp_ros.predictor import StereoPredictor
from svp_ros.train.block_labels import TaughtPair

PICTURES = 4
TITLES = ('left', 'before', 'after', 'taken for the truth')
MEASURES = {'photometric_error': 'photometric error, grey levels',
            'left_right': 'left-right difference, px',
            'left_right_above_1': 'left-right difference above 1 px, %',
            'epe': 'difference to block matching, px',
            'bad_1': 'difference to block matching above 1 px, %',
            'bad_3': 'difference to block matching above 3 px, %',
            'matched': 'declared as matched, %',
            'confidence': 'mean confidence, %'}
MOST = 2 / 3  # share of the pairs in which both label-free measures have to fall, or to rise
BETTER, WORSE, UNCLEAR = 'better', 'worse', 'no clear change'
ADVICE = {BETTER: 'take it, if another recording says so too (svp evaluate bag)',
          WORSE: 'keep the network that it came from',
          UNCLEAR: 'compare both on another recording (svp evaluate bag)'}


@dataclass(frozen=True)
class _Maps:
    """What one network says about a pair, (H, W): NaN where a figure does not exist."""

    photometric: np.ndarray
    left_right: np.ndarray
    filled: np.ndarray
    matched: np.ndarray
    confidence: np.ndarray


class HeldOutPairs:
    """Pairs of a camera that training never sees.

    Args:
        taught: at least one.
    """

    def __init__(self, taught: Sequence[TaughtPair]):
        self.taught = taught

    def compare(self, networks: Mapping[str, StereoPredictor]) -> dict[str, dict]:
        """Score networks on the same pixels: those for which a figure of every one exists.

        Returns:
            By name of the network: those of `MEASURES` that exist, over all pixels of all pairs;
            and by pair `photometric_errors` and `left_rights`, None where there is no pixel.
        """
        scores = {name: _Score() for name in networks}
        for taught in self.taught:
            left, right = taught.pair.load()
            label = taught.read_matches()
            maps = {name: _look(predictor, left, right) for name, predictor in networks.items()}
            common = {kind: np.isfinite(np.stack([getattr(m, kind) for m in maps.values()])).all(0)
                      for kind in ('photometric', 'left_right')}
            for name, score in scores.items():
                score.add(maps[name], common, label)
        return {name: score.result() for name, score in scores.items()}

    def picture(self, before: StereoPredictor, after: StereoPredictor) -> np.ndarray:
        """RGB rows of a left image, the disparities of two networks and the label."""
        rows = []
        for taught in self.taught[::-(-len(self.taught) // PICTURES)]:
            left, right = taught.pair.load()
            maps = [*(predictor.predict(left, right).disparity for predictor in (before, after)),
                    taught.read_matches()]
            high = np.nanpercentile(maps[1], 99)
            rows.append([left, *(colour_disparity(x, 0, high) for x in maps)])
        return stack_pictures(TITLES, rows, width=320)


class _Score:
    """Figures of one network, pair after pair."""

    def __init__(self):
        self.photometric, self.left_right = [], []
        self.eyes, self.labelled = DisparityScore(), DisparityScore()
        self.matched, self.confidence = [], []

    def add(self, maps: _Maps, common: Mapping[str, np.ndarray], label: np.ndarray) -> None:
        for kind, values in (('photometric', self.photometric), ('left_right', self.left_right)):
            pixels = getattr(maps, kind)[common[kind]]
            values.append(float(pixels.mean()) if pixels.size else None)
        if common['left_right'].any():
            self.eyes.update(maps.left_right, np.zeros_like(label), common['left_right'])
        known = np.isfinite(label)
        if known.any():
            self.labelled.update(maps.filled, label, known)
        self.matched.append(100 * float(maps.matched.mean()))
        self.confidence.append(100 * float(maps.confidence.mean()))

    def result(self) -> dict:
        scores = {'matched': float(np.mean(self.matched)),
                  'confidence': float(np.mean(self.confidence)),
                  'photometric_errors': self.photometric, 'left_rights': self.left_right}
        errors = [value for value in self.photometric if value is not None]
        if errors:
            scores['photometric_error'] = float(np.mean(errors))
        if self.eyes.pixels:
            eyes = self.eyes.result()
            scores |= {'left_right': eyes['epe'], 'left_right_above_1': eyes['bad_1']}
        if self.labelled.pixels:
            labelled = self.labelled.result()
            scores |= {name: labelled[name] for name in ('epe', 'bad_1', 'bad_3')}
        return scores


def _look(predictor: StereoPredictor, left: np.ndarray, right: np.ndarray) -> _Maps:
    result = predictor.predict(left, right)
    photometric = photometric_error(left, right, result.disparity_filled,
                                    inside=left.any(axis=2))
    return _Maps(np.where(left.any(axis=2), photometric, np.nan),
                 eye_difference(predictor, left, right, result), result.disparity_filled,
                 np.isfinite(result.disparity), result.confidence)


def judge(before: Mapping, after: Mapping) -> str:
    """BETTER if both label-free measures fall in `MOST` of the pairs, WORSE if they rise so."""
    changes = [np.array([new - old for old, new in zip(before[name], after[name])
                         if old is not None and new is not None])
               for name in ('photometric_errors', 'left_rights')]
    if all(len(change) and (change < 0).mean() >= MOST for change in changes):
        return BETTER
    if all(len(change) and (change > 0).mean() >= MOST for change in changes):
        return WORSE
    return UNCLEAR


def describe_change(before: Mapping, after: Mapping) -> str:
    """Table of the results of two networks and what follows from it."""
    lines = [f'{"on held-out pairs of the recording":46} {"before":>8} {"after":>8}']
    lines += [f'{title:46} {before[name]:8.2f} {after[name]:8.2f}'
              for name, title in MEASURES.items() if name in before and name in after]
    verdict = judge(before, after)
    return '\n'.join([*lines, f'{verdict}: {ADVICE[verdict]}'])
