"""CameraInfo pair -> StereoCamera, with findings that say what is wrong and how to fix it.

Only P of both cameras counts, the projection of the rectified images; K, D and R describe the raw
ones and serve rectification.py. All functions are pure.
"""

from dataclasses import dataclass, replace
import math
from typing import Optional

import numpy as np

from svp_ros.geometry import StereoCamera
from svp_ros.rectification import has_distortion

BASELINE_RANGE = 0.001, 5.0  # metres; outside, the unit is probably wrong


@dataclass(frozen=True)
class Finding:
    """One remark about the calibration.

    Args:
        kind: what it is about in one to three stable words; the key in /diagnostics.
        text: what is wrong, what was got, what would work.
        error: True if no camera could be made.
    """

    kind: str
    text: str
    error: bool = False


@dataclass(frozen=True)
class Calibration:
    """The rectified rig (None when an error was found) and what there is to say about it."""

    camera: Optional[StereoCamera]
    findings: tuple[Finding, ...]


def calibrate(left, right, baseline_override: float = 0.0, rectified: bool = True,
              image_size: Optional[tuple[int, int]] = None) -> Calibration:
    """Make a StereoCamera from two CameraInfo messages.

    Args:
        left: sensor_msgs/CameraInfo of the left camera.
        right: that of the right camera.
        baseline_override: metres; replaces the baseline of the messages when positive.
        rectified: True if the images come rectified, False if the node rectifies them itself.
        image_size: (width, height) of the images; tells drivers that announce binning or a region
            of interest but publish full images.

    Returns:
        The camera of the images as they are published (after binning and region of interest).
    """
    findings = []
    for side, info in (('left', left), ('right', right)):
        problem = _projection_problem(info)
        if problem:
            findings.append(Finding('not calibrated', f'{side}/camera_info: {problem}', True))
    if (left.width, left.height) != (right.width, right.height):
        findings.append(Finding('size of camera_info', (
            f'left and right camera_info have different sizes, {left.width}x{left.height} and '
            f'{right.width}x{right.height}; set both cameras to the same resolution'), True))
    elif rectified:
        findings += _region_errors(left, right)
    if findings:
        return Calibration(None, tuple(findings))

    findings += _pair_warnings(left, right, rectified)
    left_p, right_p = ([float(value) for value in info.p] for info in (left, right))
    baseline = left_p[3] / left_p[0] - right_p[3] / right_p[0]
    if baseline_override > 0:
        baseline = baseline_override
    elif baseline == 0:
        return Calibration(None, (*findings, Finding('zero baseline', (
            'the baseline is 0: right/camera_info has P[3] = 0, it must be -fx * baseline; '
            'calibrate the pair as stereo or set the parameter baseline_override'), True)))
    elif baseline < 0:
        findings.append(Finding('negative baseline', (
            f'the baseline is negative, {baseline:.4f} m: using {-baseline:.4f} m; P[3] of the '
            'right camera must be -fx * baseline; check that left and right are not swapped')))
        baseline = -baseline
    findings += _unit_warnings(baseline, right_p[0])
    camera = StereoCamera(fx=left_p[0], fy=left_p[5], cx=left_p[2], cy=left_p[6],
                          cx_right=right_p[2], baseline=baseline, width=left.width,
                          height=left.height)
    if camera.doffs < -1:
        farthest = camera.fx * camera.baseline / -camera.doffs
        findings.append(Finding('principal points', (
            f'cx of the right camera is {-camera.doffs:.1f} px larger than of the left: nothing '
            f'beyond {farthest:.1f} m can be matched and is published as invalid; calibrate with '
            'zero disparity at infinity, as cv2.stereoRectify does by default')))
    if rectified:
        region = _apply_region(camera, left, right)
        if region != camera and image_size == (camera.width, camera.height):
            findings.append(Finding('region or binning', (
                f'camera_info announces a region of interest or binning to {region.width}x'
                f'{region.height}, but the images have the full {camera.width}x{camera.height}: '
                'it is ignored; correct roi and binning_x, binning_y of camera_info')))
        else:
            camera = region
    return Calibration(camera, tuple(findings))


def fit_to_image(camera: StereoCamera, width: int, height: int) -> Calibration:
    """Scale the camera to images of another size than CameraInfo says."""
    if (width, height) == (camera.width, camera.height):
        return Calibration(camera, ())
    sx, sy = width / camera.width, height / camera.height
    text = (f'images are {width}x{height} but camera_info says {camera.width}x{camera.height}; '
            'intrinsics are scaled by the ratio')
    if abs(sx / sy - 1) > 0.01:
        text += ', which is wrong if the images were cropped: publish a matching camera_info'
    return Calibration(replace(camera.scaled(sx, sy), width=width, height=height),
                       (Finding('size of the images', text),))


def _projection_problem(info) -> str:
    values = (info.p[0], info.p[2], info.p[3], info.p[5], info.p[6])
    if not all(math.isfinite(value) for value in values):
        return 'P holds NaN or infinity; recalibrate the camera'
    if info.p[0] <= 0 or info.p[5] <= 0:
        return (f'P[0] = {info.p[0]:g} and P[5] = {info.p[5]:g} must be positive focal lengths; '
                'the camera is not calibrated: run camera_calibration and load its result')
    if info.width == 0 or info.height == 0:
        return 'width or height is 0; set the size of the calibrated image'
    return ''


def _pair_warnings(left, right, rectified: bool) -> list[Finding]:
    findings = []
    if abs(left.p[0] / right.p[0] - 1) > 1e-3:
        findings.append(Finding('focal lengths', (
            f'P[0] differs, {left.p[0]:g} left and {right.p[0]:g} right: a rectified pair has one '
            'focal length; calibrate both cameras together')))
    if abs(left.p[6] - right.p[6]) > 0.5:
        findings.append(Finding('rows', (
            f'P[6] differs by {abs(left.p[6] - right.p[6]):.1f} px: rows of a rectified pair must '
            'line up; calibrate both cameras together')))
    for side, info in (('left', left), ('right', right)):
        identity = np.allclose(info.r, np.eye(3).ravel(), atol=1e-6) or not any(info.r)
        raw = np.allclose(np.reshape(info.p, (3, 4))[:, :3].ravel(), info.k, rtol=1e-4)
        if rectified and has_distortion(info) and identity and raw:
            findings.append(Finding(f'{side} unrectified', (
                f'{side}/camera_info looks unrectified: D is not 0, R is the identity and P '
                'repeats K; calibrate as a stereo pair and rectify the images')))
    return findings


def _unit_warnings(baseline: float, focal_length: float) -> list[Finding]:
    low, high = BASELINE_RANGE
    if low <= baseline <= high:
        return []
    text = f'a baseline of {baseline:.6g} m is unlikely; '
    if baseline > high:
        text += (f'P[3] is in pixel * metres, not millimetres, in which it would be '
                 f'{baseline / 1000:.4g} m: set the parameter baseline_override to it or '
                 'recalibrate in metres')
    else:
        text += (f'P[3] must be -fx * baseline; if it holds the baseline alone, that is '
                 f'{baseline * focal_length:.4g} m: set the parameter baseline_override to it or '
                 'correct P[3]')
    return [Finding('unit of the baseline', text)]


def _region_errors(left, right) -> list[Finding]:
    """What region of interest and binning of the two eyes must have in common."""
    texts = []
    values = [(max(info.binning_x, 1), max(info.binning_y, 1)) for info in (left, right)]
    if values[0] != values[1]:
        texts.append('binning differs, {}x{} left and {}x{} right: set both cameras alike'.format(
            *values[0], *values[1]))
    regions = [(info.roi.width or info.width, info.roi.height or info.height)
               for info in (left, right)]
    if regions[0] != regions[1]:
        texts.append('the regions of interest have different sizes, {}x{} left and {}x{} right: '
                     'set both cameras alike'.format(*regions[0], *regions[1]))
    elif left.roi.y_offset != right.roi.y_offset:
        texts.append(f'the regions of interest start at rows {left.roi.y_offset} and '
                     f'{right.roi.y_offset}: rows of a rectified pair must line up; set both '
                     'cameras alike')
    return [Finding('region or binning', f'camera_info: {text}', True) for text in texts]


def _apply_region(camera: StereoCamera, left, right) -> StereoCamera:
    """Follow the region of interest and the binning of CameraInfo (first crop, then bin)."""
    if left.roi.width and left.roi.height:
        camera = replace(
            camera, cx=camera.cx - left.roi.x_offset, cy=camera.cy - left.roi.y_offset,
            cx_right=camera.cx_right - right.roi.x_offset,
            width=left.roi.width, height=left.roi.height)
    if max(left.binning_x, left.binning_y) > 1:
        camera = camera.scaled(1 / max(left.binning_x, 1), 1 / max(left.binning_y, 1))
    return camera
