"""The shipped network on images of other shapes than the ones it was trained on."""

import cv2
import numpy as np
import pytest

from svp_ros.predictor import NETWORK_SIZE, StereoPredictor

SHAPES = [(375, 1242), (480, 752), (720, 1280), (360, 640), (640, 480), (1242, 375)]


def render_pair(height, width):
    """A textured box in front of a textured wall: images and true disparity."""
    scale = width / 640
    far, near = round(12 * scale), round(40 * scale)
    wall, box = (texture(height, width + far, seed, scale) for seed in (0, 1))
    left, right = wall[:, :width].copy(), wall[:, far:].copy()
    truth = np.full((height, width), far, np.float32)
    y, x, h, w = height // 4, width // 3, height // 2, width // 3
    left[y:y + h, x:x + w] = right[y:y + h, x - near:x - near + w] = box[:h, :w]
    truth[y:y + h, x:x + w] = near
    return left, right, truth


def texture(height, width, seed, scale):
    """Smooth coloured noise of several sizes, (height, width, 3) uint8."""
    generator = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cell in (4, 12, 40):
        size = max(2, round(width / (cell * scale))), max(2, round(height / (cell * scale)))
        noise = generator.uniform(-1, 1, (size[1], size[0], 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (128 + 50 * image).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('height, width, network_size', [
    *((height, width, NETWORK_SIZE) for height, width in SHAPES),
    (375, 1242, (192, 640)), (480, 752, (384, 512))])
def test_a_box_before_a_wall_is_found_in_every_shape(height, width, network_size):
    left, right, truth = render_pair(height, width)
    result = StereoPredictor.load('nano', 'cpu', network_size).predict(left, right)
    assert result.disparity.shape == result.confidence.shape == (height, width)
    error = np.abs(result.disparity_filled - truth) * 640 / width
    box = truth == truth.max()
    assert np.median(error[box]) < 0.5 and np.median(error[~box]) < 0.5
    assert (error > 3).mean() < 0.06
    assert np.isfinite(result.disparity).mean() > 0.85 and np.median(result.confidence) > 0.9
