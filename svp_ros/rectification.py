"""Rectification of raw images, from K, D, R and P of their CameraInfo."""

import re

import cv2
import numpy as np

WORD = re.compile('[A-Z]?[a-z]+|[A-Z]+')
COEFFICIENTS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14),
                'equidistant': (4,), 'fisheye': (4,)}


def has_distortion(info) -> bool:
    """Tell whether a CameraInfo has a lens distortion that is not zero."""
    return any(coefficient != 0 for coefficient in info.d)


def is_rectified(topic: str) -> bool:
    """Whether the name of a topic says that its images are rectified.

    Of its parts, the last one that says anything counts: image_rect, image_rect_raw and
    color/rect/image are rectified; image_raw, image_unrect and rect/image_raw are not.
    """
    for part in reversed(topic.removesuffix('/compressed').split('/')):
        words = {word.lower() for word in WORD.findall(part)}
        if words & {'rect', 'rectified'}:
            return True
        if words & {'raw', 'unrect', 'unrectified'}:
            return False
    return False


def wants_rectification(mode: str, topic: str, info) -> bool:
    """Decide whether the node rectifies the images of `topic` (a resolved name).

    CameraInfo cannot tell: image_proc republishes it with D unchanged beside its rectified images.
    So mode `auto` trusts the name.
    """
    if mode == 'auto':
        return has_distortion(info) and not is_rectified(topic)
    return mode == 'on'


class Rectifier:
    """Look-up maps of one camera, built once.

    Args:
        info: sensor_msgs/CameraInfo with K, D, R and P.
        width: width of the raw images, pixels.
        height: height of the raw images.

    Raises:
        ValueError: If the size, the distortion model or a matrix cannot be used.
    """

    def __init__(self, info, width: int, height: int):
        if (width, height) != (info.width, info.height):
            raise ValueError(
                f'cannot rectify images of {width}x{height} with a camera_info for '
                f'{info.width}x{info.height}; publish full-size images or rectify them before')
        model = info.distortion_model or 'plumb_bob'
        if model not in COEFFICIENTS:
            raise ValueError(f'distortion_model "{model}" cannot be rectified; known models are '
                             f'{", ".join(COEFFICIENTS)}')
        if has_distortion(info) and len(info.d) not in COEFFICIENTS[model]:
            raise ValueError(f'distortion_model {model} takes '
                             f'{" or ".join(map(str, COEFFICIENTS[model]))} coefficients, D has '
                             f'{len(info.d)}')
        k, r = np.reshape(info.k, (3, 3)), np.reshape(info.r, (3, 3))
        if not all(np.isfinite(values).all() for values in (info.k, info.r, info.p, info.d)):
            raise ValueError('K, D, R or P of camera_info holds NaN or infinity; recalibrate')
        if k[0, 0] <= 0 or not np.isclose(np.linalg.det(r), 1, atol=1e-3):
            raise ValueError('K or R of camera_info is not set; calibrate the stereo pair')
        p = np.reshape(info.p, (3, 4))[:, :3]
        d = np.array(info.d) if has_distortion(info) else np.zeros(4)
        lens = cv2.fisheye if model in ('equidistant', 'fisheye') else cv2
        self._maps = lens.initUndistortRectifyMap(k, d, r, p, (width, height), cv2.CV_16SC2)
        self.inside = self(np.full((height, width), 255, np.uint8)) == 255

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Rectify (H, W) or (H, W, 3) uint8; what no raw pixel covers is black (not `inside`)."""
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR)
