"""Disparity errors: end-point error, bad-n and D1, for one map or pooled over many."""

from typing import Union

import numpy as np
import torch

Array = Union[np.ndarray, torch.Tensor]


def epe(disparity: Array, target: Array, valid: Array) -> float:
    """Mean absolute disparity error over the valid pixels, in pixels.

    Args:
        disparity: prediction, any shape, pixels.
        target: ground truth, the same shape.
        valid: bool, the same shape, True where the ground truth is known.

    Raises:
        ValueError: If shapes differ, nothing is valid, or a prediction there is not finite.
    """
    error, _ = _valid_errors(disparity, target, valid)
    return float(error.mean())


def bad(disparity: Array, target: Array, valid: Array, threshold: float) -> float:
    """Percentage of valid pixels with an error above `threshold` pixels; raises like `epe`."""
    error, _ = _valid_errors(disparity, target, valid)
    return 100.0 * float((error > threshold).mean())


def d1(disparity: Array, target: Array, valid: Array) -> float:
    """Percentage of valid pixels with error > 3 px and > 5 % of the truth; raises like `epe`.

    Source: KITTI 2015 stereo benchmark, D1-all.
    """
    error, truth = _valid_errors(disparity, target, valid)
    return 100.0 * float(_is_d1_outlier(error, truth).mean())


class DisparityScore:
    """Pool the errors of many maps: every valid pixel counts once."""

    thresholds = (1, 2, 3)

    def __init__(self):
        self.pixels = 0
        self._error_sum = 0.0
        self._bad = dict.fromkeys(self.thresholds, 0)
        self._d1 = 0

    def update(self, disparity: Array, target: Array, valid: Array) -> None:
        """Add one map or batch; raises like `epe`."""
        error, truth = _valid_errors(disparity, target, valid)
        self.pixels += error.size
        self._error_sum += float(error.sum())
        for threshold in self.thresholds:
            self._bad[threshold] += int((error > threshold).sum())
        self._d1 += int(_is_d1_outlier(error, truth).sum())

    def result(self) -> dict:
        """Return epe (px), bad_1, bad_2, bad_3, d1 (percent) and the number of pixels.

        Raises:
            ValueError: If nothing was added.
        """
        if not self.pixels:
            raise ValueError('no valid pixel was scored; call update() first')
        scores = {'epe': self._error_sum / self.pixels}
        for threshold, count in self._bad.items():
            scores[f'bad_{threshold}'] = 100.0 * count / self.pixels
        return {**scores, 'd1': 100.0 * self._d1 / self.pixels, 'pixels': self.pixels}


class Reliability:
    """How often a disparity is right, against how sure the network said it was.

    A confidence is calibrated if `right` rises with it, and exact if both are equal.
    """

    edges = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)

    def __init__(self):
        self._sums = np.zeros((len(self.edges) - 1, 3))  # pixels, confidence, right

    def update(self, confidence: np.ndarray, right: np.ndarray) -> None:
        """Add confidences in [0, 1] and whether the disparity was right (bool), any shape."""
        confidence = confidence.ravel()
        bin_ = np.digitize(confidence, self.edges[1:-1])
        for column, weights in enumerate((None, confidence, right.ravel())):
            self._sums[:, column] += np.bincount(bin_, weights, len(self._sums))

    def result(self) -> list[dict]:
        """Return pixels, mean confidence and the percentage right of every bin with pixels."""
        return [{'from': low, 'to': high, 'pixels': int(pixels),
                 'mean_confidence': confidence / pixels, 'right': 100 * right / pixels}
                for low, high, (pixels, confidence, right) in zip(
                    self.edges, self.edges[1:], self._sums) if pixels]


def _is_d1_outlier(error: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return (error > 3.0) & (error > 0.05 * truth)


def _valid_errors(disparity: Array, target: Array,
                  valid: Array) -> tuple[np.ndarray, np.ndarray]:
    disparity, target, valid = (
        array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
        for array in (disparity, target, valid))
    if not disparity.shape == target.shape == valid.shape:
        raise ValueError(f'disparity, target and valid must have one shape, got {disparity.shape},'
                         f' {target.shape} and {valid.shape}')
    if valid.dtype != bool:
        raise ValueError(f'valid must be bool, got {valid.dtype}')
    if not valid.any():
        raise ValueError('no valid pixel: the ground truth is empty')
    truth = target[valid].astype(np.float64)
    error = np.abs(disparity[valid] - truth)
    if not np.isfinite(error).all():
        raise ValueError(f'{int((~np.isfinite(error)).sum())} of {error.size} valid pixels have '
                         'no finite prediction or truth; fill the holes before scoring')
    return error, truth
