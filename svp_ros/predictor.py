"""StereoPredictor: a pair of uint8 images in; disparity, confidence and boxes as numpy out."""

from dataclasses import dataclass
from pathlib import Path
import time
from typing import Optional, Union

import numpy as np
import torch

from svp_ros.boxes import Boxes
from svp_ros.engine.choose import make_engine
from svp_ros.engine.graph import CONFIDENT_WITHIN
from svp_ros.engine.images import finish_maps, PairBuffer
from svp_ros.files import sha256_of
from svp_ros.geometry import camera_row, StereoCamera
from svp_ros.model.build import load_checkpoint
from svp_ros.model.detection import CELL, decode_boxes
from svp_ros.model.network import STRIDE
from svp_ros.resources import find_resource

__all__ = ['CONFIDENT_WITHIN', 'LEAST_SCORE', 'NETWORK_SIZE', 'StereoPredictor', 'StereoResult',
           'choose_device', 'find_model']
NETWORK_SIZE = (480, 640)
LEAST_SCORE = 0.02


@dataclass(frozen=True)
class StereoResult:
    """What the network says about one pair, at the size of the input images.

    Attributes:
        disparity: (H, W) float32, pixels, x_left - x_right > 0; NaN where the network declares
            that the right image does not show the point.
        disparity_filled: (H, W) float32, the network's best guess everywhere.
        confidence: (H, W) float32 in [0, 1], estimated probability that the disparity is within
            3 pixels of the network's input size.
        boxes: 3D boxes whose score is at least LEAST_SCORE, best first; None without camera or
            detection head.
        timing: milliseconds of the stages preprocess, inference and postprocess.
    """

    disparity: np.ndarray
    disparity_filled: np.ndarray
    confidence: np.ndarray
    boxes: Optional[Boxes]
    timing: dict[str, float]


def choose_device(device: str = 'auto') -> str:
    """Turn auto, cpu, cuda or cuda:N into a device that is there.

    Raises:
        ValueError: If CUDA was asked for and is not there, or the name means nothing.
    """
    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ''
    if kind not in ('cpu', 'cuda'):
        raise ValueError(f'device must be auto, cpu, cuda or cuda:N, got "{device}"')
    if kind == 'cuda' and not torch.cuda.is_available():
        raise ValueError(f'device "{device}" was asked for but torch sees no CUDA GPU; '
                         'use auto or cpu')
    if kind == 'cuda' and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise ValueError(f'device "{device}" was asked for but torch sees '
                         f'{torch.cuda.device_count()} CUDA GPU(s), counted from cuda:0')
    return device


def find_model(name: Union[str, Path]) -> Path:
    """Path of a checkpoint from its path or from its name in models/.

    Raises:
        FileNotFoundError: If there is neither; the message lists the models there are.
    """
    if Path(name).is_file():
        return Path(name)
    models = find_resource('models')
    path = models / f'{name}.safetensors'
    if not path.is_file():
        there = ', '.join(sorted(p.stem for p in models.glob('*.safetensors'))) or 'none'
        raise FileNotFoundError(f'no model "{name}": it is no file, and the shipped models are '
                                f'{there}')
    return path


class StereoPredictor:
    """Runs one network on rectified pairs of any size; owns resizing and the way back.

    Args:
        path: checkpoint.
        device: auto, cpu, cuda or cuda:N.
        network_size: (height, width) that images are resized to; sizes that are no multiples of
            32 are padded on the right and bottom.
        engine: torch, onnx, openvino, or auto, which times those that work and takes the fastest.
        precision: fp32, bf16, fp16 or int8, where the engine has it.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the checkpoint, device, size, engine or precision cannot be used.
    """

    def __init__(self, path: Path, device: str = 'auto',
                 network_size: tuple[int, int] = NETWORK_SIZE, engine: str = 'torch',
                 precision: str = 'fp32'):
        if min(network_size) < 2 * STRIDE:
            raise ValueError(f'network_size must be at least {2 * STRIDE}x{2 * STRIDE}, got '
                             f'{network_size[0]}x{network_size[1]}')
        on_cpu = engine == 'openvino' or precision == 'int8'
        self.device = choose_device('cpu' if device == 'auto' and on_cpu else device)
        self.network_size = tuple(network_size)
        model, self.config, notes = load_checkpoint(path)
        sha256 = sha256_of(path)
        padded = tuple(-(-length // STRIDE) * STRIDE for length in network_size)
        self.engine = make_engine(model, padded, engine, precision, self.device, sha256=sha256)
        self._mean_sizes = torch.tensor([item.size for item in self.config.classes],
                                        device=self.engine.device)
        self._pair = PairBuffer(self.engine.device, self.network_size, padded)
        self.card = {
            'name': path.stem, 'sha256': sha256,
            'parameters': sum(p.numel() for p in model.parameters()),
            'engine': self.engine.name, 'precision': self.engine.precision, **notes}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the objects that the network finds; none without a detection head."""
        return self.config.class_names

    @classmethod
    def load(cls, model: Union[str, Path], device: str = 'auto',
             network_size: tuple[int, int] = NETWORK_SIZE, engine: str = 'torch',
             precision: str = 'fp32') -> 'StereoPredictor':
        """Load a model by its name in models/ or by path; arguments and errors as above."""
        return cls(find_model(model), device, network_size, engine, precision)

    @torch.inference_mode()
    def predict(self, left: np.ndarray, right: np.ndarray,
                camera: Optional[StereoCamera] = None) -> StereoResult:
        """Estimate disparity, confidence and 3D boxes of the left image.

        Args:
            left: (H, W, 3) uint8 RGB or (H, W) uint8 grey, rectified.
            right: likewise, the same size.
            camera: rig of these images; needed for boxes, not for disparity.

        Raises:
            ValueError: If an image is empty, of the wrong type or shape, or the sizes differ.
        """
        left, right = _check_image(left, 'left'), _check_image(right, 'right')
        if left.shape[:2] != right.shape[:2]:
            raise ValueError(f'left and right must be of one size, got '
                             f'{left.shape[1]}x{left.shape[0]} and '
                             f'{right.shape[1]}x{right.shape[0]}')
        H, W = left.shape[:2]
        if camera is not None and (camera.width, camera.height) != (W, H):
            raise ValueError(f'images are {W}x{H} but the camera is '
                             f'{camera.width}x{camera.height}; use camera.scaled()')
        clock = _Stopwatch(self.engine.device)
        images = self._pair.fill(left, right)
        preprocess = clock.lap()
        maps = self.engine(*images)
        inference = clock.lap()
        boxes = self._boxes(maps[3], camera) if self.classes and camera else None
        disparity, filled, confidence = finish_maps(maps[:3], self.network_size, (H, W))
        return StereoResult(
            disparity=disparity, disparity_filled=filled, confidence=confidence, boxes=boxes,
            timing={'preprocess': preprocess, 'inference': inference, 'postprocess': clock.lap()})

    def _boxes(self, maps: torch.Tensor, camera: StereoCamera) -> Boxes:
        h, w = self.network_size
        maps = maps[..., :-(-h // CELL), :-(-w // CELL)]  # the rest is padding
        row = torch.tensor([camera_row(camera.scaled(w / camera.width, h / camera.height))],
                           dtype=torch.float32, device=maps.device)
        box3d, score, label = (x[0].cpu() for x in decode_boxes(maps, row, self._mean_sizes))
        kept = (score >= LEAST_SCORE) & box3d.isfinite().all(dim=1)
        return Boxes(box3d[kept].numpy(), [self.classes[i] for i in label[kept]],
                     score[kept].numpy())


class _Stopwatch:
    """Milliseconds between laps, after the device has finished its work."""

    def __init__(self, device: str):
        self.device = device
        self.start = time.perf_counter()

    def lap(self) -> float:
        if self.device.startswith('cuda'):
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        elapsed, self.start = 1e3 * (now - self.start), now
        return elapsed


def _check_image(image: np.ndarray, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB or (H, W) grey."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise ValueError(f'{name} must be a uint8 numpy array, got '
                         f'{getattr(image, "dtype", type(image).__name__)}')
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3):
        raise ValueError(f'{name} must be (H, W, 3) or (H, W), got {image.shape}')
    if image.size == 0:
        raise ValueError(f'{name} is empty: {image.shape[1]}x{image.shape[0]}')
    return image
