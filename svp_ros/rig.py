"""A stereo rig as messages describe it: CameraInfo of both eyes makes rectified image pairs."""

from dataclasses import dataclass
import math
from time import monotonic
from typing import Optional

import cv2
import numpy as np

from svp_ros.calibration import calibrate, Finding, fit_to_image
from svp_ros.geometry import StereoCamera
from svp_ros.rectification import Rectifier, wants_rectification


@dataclass(frozen=True)
class RectifiedPair:
    """Two rectified images, their camera if known, and the left pixels that a raw one covers."""

    left: np.ndarray
    right: np.ndarray
    camera: Optional[StereoCamera]
    inside: Optional[np.ndarray] = None


class StereoRig:
    """Turn image pairs into rectified pairs with their camera.

    Args:
        topics: resolved names of the topics, by `left/camera_info`, `left/image_rect`, ...
        rectify: 'auto', 'on' or 'off'.
        baseline_override: metres, 0 to take the baseline of CameraInfo.
        size: (width, height) of all outputs, which may change; None keeps that of the images.
        patience_s: after so many seconds of pairs without CameraInfo they are taken for rectified
            pairs of an unknown camera, unless `rectify` is on.
    """

    def __init__(self, topics: dict[str, str], rectify: str = 'auto',
                 baseline_override: float = 0.0, size: Optional[tuple[int, int]] = None,
                 patience_s: float = math.inf):
        self.findings: tuple[Finding, ...] = ()
        self.camera: Optional[StereoCamera] = None
        self._topics = topics
        self._rectify = rectify
        self._baseline_override = baseline_override
        self.size = size
        self._patience_s = patience_s
        self._waiting_since: Optional[float] = None
        self._infos = {}
        self._made_for = None
        self._rectifiers = None

    @property
    def rectifies(self) -> bool:
        """Whether the images are rectified here."""
        return self._rectifiers is not None

    @property
    def missing(self) -> list[str]:
        """Sides of which no CameraInfo has come yet."""
        return [side for side in ('left', 'right') if side not in self._infos]

    def update(self, side: str, info) -> None:
        """Cache the CameraInfo of 'left' or 'right'."""
        self._infos[side] = info

    def rectified_pair(self, left: np.ndarray, right: np.ndarray) -> RectifiedPair:
        """Return the pair as the network wants it.

        Raises:
            ValueError: If CameraInfo is missing or unusable, or the images do not fit together.
        """
        if left.shape[:2] != right.shape[:2]:
            sizes = ' and '.join(f'{image.shape[1]}x{image.shape[0]}' for image in (left, right))
            raise ValueError(f'left and right images have different sizes, {sizes}; '
                             'set both cameras to the same resolution')
        self._calibrate(left.shape[1], left.shape[0])
        inside = None
        if self._rectifiers:
            left, right = self._rectifiers[0](left), self._rectifiers[1](right)
            inside = self._rectifiers[0].inside
        size = self.size
        if size is None or size == left.shape[1::-1]:
            return RectifiedPair(left, right, self.camera, inside)
        width, height = size
        left, right = (cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                       for image in (left, right))
        if inside is not None:
            inside = cv2.resize(np.uint8(255) * inside, size,
                                interpolation=cv2.INTER_AREA) == 255
        camera = self.camera and self.camera.scaled(width / self.camera.width,
                                                    height / self.camera.height)
        return RectifiedPair(left, right, camera, inside)

    def _calibrate(self, width: int, height: int) -> None:
        missing = [self._topics[f'{side}/camera_info'] for side in self.missing]
        if missing:
            self._do_without(f'no camera_info on {" and ".join(missing)}')
            return
        left, right = self._infos['left'], self._infos['right']
        made_for = _fingerprint(left), _fingerprint(right), width, height
        if self._made_for != made_for:
            self._rebuild(left, right, width, height)
            self._made_for = made_for
        if self.camera is None:
            raise ValueError('; '.join(finding.text for finding in self.findings if finding.error))

    def _do_without(self, text: str) -> None:
        """Raise ValueError until the patience is at its end."""
        now = monotonic()
        self._waiting_since = self._waiting_since or now
        waits = self._rectify == 'on' or now - self._waiting_since < self._patience_s
        if not waits:
            text += (': disparity in pixels only, with f and T of 0 and of images that must be '
                     'rectified; no depth, no cloud, no boxes')
        self.findings = (Finding('no camera_info', text, True),)
        if waits:
            raise ValueError(text)

    def _rebuild(self, left, right, width: int, height: int) -> None:
        raw = [wants_rectification(self._rectify, self._topics[f'{side}/image_rect'], info)
               for side, info in (('left', left), ('right', right))]
        calibration = calibrate(left, right, self._baseline_override, not any(raw),
                                (width, height))
        self.findings, self.camera = calibration.findings, calibration.camera
        self._rectifiers = None
        if self.camera is None:
            return
        try:
            if any(raw):
                self._rectifiers = [Rectifier(info, width, height) for info in (left, right)]
        except ValueError as error:
            self.findings += (Finding('rectification', str(error), True),)
            self.camera = None
            return
        fitted = fit_to_image(self.camera, width, height)
        self.camera = fitted.camera
        self.findings += fitted.findings


def _fingerprint(info) -> bytes:
    """All that counts of a CameraInfo; unlike ==, NaN equals NaN and the stamp does not matter."""
    roi = info.roi
    numbers = (info.height, info.width, info.binning_x, info.binning_y, roi.x_offset,
               roi.y_offset, roi.height, roi.width, *info.k, *info.r, *info.p, *info.d)
    return info.distortion_model.encode() + np.array(numbers, np.float64).tobytes()
