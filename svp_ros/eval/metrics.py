"""Disparity errors: end-point error, bad-n and D1, for one map or pooled over many."""

from typing import Union

import numpy as np
import torch

from svp_ros.geometry import disparity_to_depth, StereoCamera

DEPTH_BANDS = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)

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

    def merge(self, other: 'DisparityScore') -> None:
        """Add the pixels of another score."""
        self.pixels += other.pixels
        self._error_sum += other._error_sum
        for threshold, count in other._bad.items():
            self._bad[threshold] += count
        self._d1 += other._d1

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


class DepthBandScore:
    """Pool disparity errors by true depth in metres."""

    off = 0.1  # share of the true depth beyond which a depth counts as wrong

    def __init__(self):
        self._scores = [DisparityScore() for _ in DEPTH_BANDS]
        self._off = [0] * len(DEPTH_BANDS)

    def update(self, disparity: np.ndarray, target: np.ndarray, valid: np.ndarray,
               camera: StereoCamera) -> None:
        """Add one (H, W) map; points at infinity do not count; raises like `epe`."""
        truth, depth = (disparity_to_depth(x, camera) for x in (target, disparity))
        with np.errstate(invalid='ignore'):
            off = np.abs(depth - truth) > self.off * truth
        for i, (low, high) in enumerate(zip(DEPTH_BANDS, (*DEPTH_BANDS[1:], np.inf))):
            band = valid & (truth >= low) & (truth < high)
            if band.any():
                self._scores[i].update(disparity, target, band)
                self._off[i] += int(off[band].sum())

    def result(self) -> list[dict]:
        """Return the scores of every band that has pixels, from near to far.

        `from_m` and `to_m` (None: no end) in metres, what `DisparityScore` returns, and
        `depth_off`: percentage of the depths that are wrong by more than 10 %.
        """
        return [{'from_m': low, 'to_m': high, **score.result(),
                 'depth_off': 100.0 * off / score.pixels}
                for low, high, score, off in zip(
                    DEPTH_BANDS, (*DEPTH_BANDS[1:], None), self._scores, self._off)
                if score.pixels]


class Sparsification:
    """Bad-3 of the pixels that are left when the least confident ones are dropped.

    Confidences are counted in narrow bins, so that any number of images can be pooled; pixels of
    one bin are dropped in random order, that is, in equal parts.
    """

    shares = (0, 5, 10, 20, 30, 40, 50)  # percent dropped
    threshold = 3.0
    _highest = 17.0  # -log(1 - confidence) of the largest float32 below 1
    _bins = 3400

    def __init__(self):
        self._counts = np.zeros((self._bins, 2))  # pixels, bad ones

    def update(self, confidence: np.ndarray, error: np.ndarray) -> None:
        """Add confidences in [0, 1] and absolute errors in pixels of the image, any shape."""
        with np.errstate(divide='ignore'):
            level = -np.log1p(-confidence.ravel().astype(np.float64))
        bin_ = np.minimum(level * (self._bins / self._highest), self._bins - 1).astype(np.int64)
        self._counts[:, 0] += np.bincount(bin_, minlength=self._bins)
        self._counts[:, 1] += np.bincount(bin_, error.ravel() > self.threshold, self._bins)

    def result(self) -> list[dict]:
        """Return `dropped` (percent) and `bad_3` (percent of the others) for every share.

        Raises:
            ValueError: If nothing was added.
        """
        pixels, bad_ones = np.cumsum(np.vstack([[0, 0], self._counts]), axis=0).T
        if not pixels[-1]:
            raise ValueError('no pixel was added; call update() first')
        curve = []
        for share in self.shares:
            dropped = pixels[-1] * share / 100
            left = bad_ones[-1] - np.interp(dropped, pixels, bad_ones)
            curve.append({'dropped': share, 'bad_3': 100 * left / (pixels[-1] - dropped)})
        return curve


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
