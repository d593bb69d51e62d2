"""Camera images -> the network's input, and its maps back to the size of the camera.

Images cross to the device once, as bytes, and the results cross back once. On a GPU resizing runs
there, with the same weights as OpenCV's on the CPU.
"""

from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as F


class PairBuffer:
    """Room for one resized pair, used again for every pair.

    Args:
        device: where the network takes its images.
        size: (height, width) that images are resized to.
        padded: (height, width) of the network's input; the border is repeated on the right and
            bottom.
    """

    def __init__(self, device: str, size: tuple[int, int], padded: tuple[int, int]):
        self._device, self._size, self._padded = device, size, padded
        self._on_cpu = torch.device(device).type == 'cpu'
        self._staging = torch.empty((2, *padded, 3), dtype=torch.uint8)

    def fill(self, left: np.ndarray, right: np.ndarray) -> tuple[Tensor, Tensor]:
        """(H, W, 3) or (H, W) uint8 pair of any size -> (1, h, w, 3) uint8 each on the device.

        They are overwritten by the next call.
        """
        if not self._on_cpu:
            return tuple(self._upload([left, right]).split(1))
        h, w = self._size
        for image, room in zip((left, right), self._staging.numpy()):
            room[:h, :w] = _as_colour(resize(image, (h, w)))
            room[:h, w:] = room[:h, w - 1:w]
            room[h:] = room[h - 1]
        return tuple(self._staging.split(1))

    def _upload(self, images: list[np.ndarray]) -> Tensor:
        shape = (2, *images[0].shape[:2], 3)
        if self._staging.shape != shape or not self._staging.is_pinned():
            self._staging = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        for image, room in zip(images, self._staging.numpy()):
            room[:] = image if image.ndim == 3 else image[..., None]
        pair = resize_on_device(self._staging.to(self._device, non_blocking=True), self._size)
        rows, columns = (torch.arange(to, device=pair.device).clamp(max=length - 1)
                         for to, length in zip(self._padded, self._size))
        return pair if self._padded == self._size else pair[:, rows][:, :, columns]


def finish_maps(maps: tuple[Tensor, Tensor, Tensor], size: tuple[int, int],
                input_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Undo padding and resizing.

    Args:
        maps: disparity, confidence and no_match of the network, (1, 1, h, w), padded.
        size: (height, width) without padding.
        input_size: (height, width) of the camera's images.

    Returns:
        (H, W) float32 arrays of their own: disparity in pixels of the camera, NaN where the
        network declares no match; the same without NaN; confidence.
    """
    (h, w), (H, W) = size, input_size
    if maps[0].device.type == 'cpu':
        filled, confidence, no_match = (_enlarge(map_[0, 0, :h, :w].numpy(), input_size)
                                        for map_ in maps)
        filled *= np.float32(W / w)
        disparity = np.full_like(filled, np.nan)
        cv2.copyTo(filled, ((no_match <= 0) & (filled > 0)).view(np.uint8), disparity)
        return disparity, filled, confidence
    pair = torch.cat(maps, dim=1)[..., :h, :w]
    if size != input_size:
        pair = F.interpolate(pair, size=input_size, mode='bilinear', align_corners=False)
    filled, confidence, no_match = pair[0]
    filled = filled * (W / w)
    disparity = filled.masked_fill((no_match > 0) | (filled <= 0), torch.nan)
    results = torch.stack((disparity, filled, confidence))
    # Pinned memory is kept by torch's allocator; what is returned stays the caller's.
    host = torch.empty((3, H, W), dtype=torch.float32, pin_memory=True)
    host.copy_(results, non_blocking=True)
    torch.cuda.synchronize(results.device)
    return tuple(host.numpy())


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a uint8 image: area means along sides that shrink, linear along those that grow."""
    shrunk = tuple(map(min, image.shape[:2], size))
    if shrunk != image.shape[:2]:
        image = cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != size:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    return image


def resize_on_device(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Do as `resize` does, with (B, H, W, 3) uint8 on a device."""
    H, W = images.shape[1:3]
    if (H, W) == size:
        return images
    rows, columns = (resize_weights(length, to, images.device)
                     for length, to in zip((H, W), size))
    resized = torch.einsum('hH,bHWc,wW->bhwc', rows, images.float(), columns)
    return resized.round_().to(torch.uint8)


@lru_cache(maxsize=8)
def resize_weights(length: int, to: int, device: torch.device) -> Tensor:
    """(to, length) weights of the old pixels in the new ones, those of OpenCV."""
    old, new = (torch.arange(n, dtype=torch.float64) for n in (length, to))
    new = new[:, None]
    scale = length / to
    if to <= length:  # the part of an old pixel that the new one covers
        weights = (torch.minimum(old + 1, (new + 1) * scale)
                   - torch.maximum(old, new * scale)).clamp(min=0)
        return (weights / scale).float().to(device)
    centre = ((new + 0.5) * scale - 0.5).clamp(0, length - 1)
    return (1 - (old - centre).abs()).clamp(min=0).float().to(device)


def _as_colour(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else image[..., None]


def _enlarge(map_: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize linearly into a new array."""
    if map_.shape == size:
        return map_.copy()
    return cv2.resize(map_, size[::-1], interpolation=cv2.INTER_LINEAR)
