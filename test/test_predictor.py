import numpy as np
import pytest
import torch

from svp_ros.geometry import StereoCamera
from svp_ros.model.build import load_checkpoint
from svp_ros.predictor import choose_device, StereoPredictor


@pytest.fixture(scope='module')
def predictor(tiny_model):
    return StereoPredictor.load(tiny_model, device='cpu', network_size=(96, 128))


def images(height=96, width=128, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 255, (2, height, width, 3), dtype=np.uint8)


def test_at_network_size_the_predictor_is_the_network(predictor, tiny_model):
    left, right = images()
    model, _, _ = load_checkpoint(tiny_model)
    with torch.inference_mode():
        output = model(*(torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255
                         for x in (left, right)))
    result = predictor.predict(left, right)
    np.testing.assert_allclose(result.disparity_filled, output.disparity[0, 0], atol=1e-4)
    scale = np.exp(output.log_scale[0, 0].numpy())
    np.testing.assert_allclose(result.confidence, 1 - np.exp(-3 / scale), atol=1e-5)
    unseen = (output.no_match[0, 0] > 0) | (output.disparity[0, 0] <= 0)
    assert np.array_equal(np.isnan(result.disparity), unseen.numpy())


@pytest.mark.parametrize('height, width', [(96, 128), (50, 333), (201, 90), (720, 1280)])
def test_results_have_the_size_of_the_input(predictor, height, width):
    result = predictor.predict(*images(height, width))
    for map_ in (result.disparity, result.disparity_filled, result.confidence):
        assert map_.shape == (height, width) and map_.dtype == np.float32
    assert np.isfinite(result.disparity_filled).all()
    assert 0 <= result.confidence.min() <= result.confidence.max() <= 1
    assert set(result.timing) == {'preprocess', 'inference', 'postprocess'}


def test_disparity_scales_with_the_width(predictor):
    """The same pair shown twice as wide has twice the disparity."""
    left, right = images()
    narrow = predictor.predict(left, right).disparity_filled
    wide = predictor.predict(*(np.repeat(x, 2, axis=1) for x in (left, right))).disparity_filled
    np.testing.assert_allclose((wide[:, ::2] + wide[:, 1::2]) / 2, 2 * narrow,
                               atol=0.15 * narrow.max() + 0.1)


def test_odd_network_sizes_are_padded_on_the_right_and_bottom(tiny_model):
    odd = StereoPredictor.load(tiny_model, device='cpu', network_size=(90, 120))
    left, right = images(90, 120)
    padded = StereoPredictor.load(tiny_model, device='cpu', network_size=(96, 128))
    expected = padded.predict(*(np.pad(x, ((0, 6), (0, 8), (0, 0)), mode='edge')
                                for x in (left, right))).disparity_filled[:90, :120]
    np.testing.assert_allclose(odd.predict(left, right).disparity_filled, expected, atol=1e-4)


def test_grey_images_equal_their_colour_copies(predictor):
    left, right = images()[..., 0]
    colour = predictor.predict(*(np.repeat(x[..., None], 3, axis=2) for x in (left, right)))
    for grey in (left, right), (left[..., None], right[..., None]):
        result = predictor.predict(*grey)
        assert np.array_equal(result.disparity_filled, colour.disparity_filled)


GOOD = np.zeros((96, 128, 3), np.uint8)
CAMERA = StereoCamera(100, 100, 64, 48, 0.1, 64, 48)


@pytest.mark.parametrize('left, right, camera, message', [
    (GOOD, GOOD[:90], None, 'of one size, got 128x96 and 128x90'),
    (GOOD.astype(np.float32), GOOD, None, 'left must be a uint8 numpy array, got float32'),
    (GOOD, [[1]], None, 'right must be a uint8 numpy array, got list'),
    (GOOD[..., :2], GOOD, None, r'left must be \(H, W, 3\) or \(H, W\), got \(96, 128, 2\)'),
    (GOOD[:0], GOOD[:0], None, 'left is empty: 128x0'),
    (GOOD, GOOD, CAMERA, 'images are 128x96 but the camera is 64x48'),
])
def test_bad_input_is_explained(predictor, left, right, camera, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict(left, right, camera)


def test_unknown_models_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match='no model "giant".*shipped models are'):
        StereoPredictor.load('giant')
    (tmp_path / 'text.safetensors').write_text('no weights')
    with pytest.raises(ValueError, match='not a readable .safetensors'):
        StereoPredictor.load(tmp_path / 'text.safetensors')


def test_devices(tiny_model):
    assert choose_device('auto') == ('cuda' if torch.cuda.is_available() else 'cpu')
    with pytest.raises(ValueError, match='must be auto, cpu, cuda or cuda:N, got "tpu"'):
        choose_device('tpu')
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='torch sees no CUDA GPU'):
            choose_device('cuda')
    with pytest.raises(ValueError, match='engine must be auto, torch, .*, got "magic"'):
        StereoPredictor.load(tiny_model, engine='magic')
    with pytest.raises(ValueError, match='network_size must be at least 64x64, got 32x640'):
        StereoPredictor.load(tiny_model, network_size=(32, 640))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')
def test_a_gpu_gives_the_disparity_of_the_cpu(predictor, tiny_model):
    left, right = images()
    gpu = StereoPredictor.load(tiny_model, device='cuda', network_size=(96, 128))
    np.testing.assert_allclose(gpu.predict(left, right).disparity_filled,
                               predictor.predict(left, right).disparity_filled, atol=0.05)
