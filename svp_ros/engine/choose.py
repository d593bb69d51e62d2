"""Make an engine by name, or the fastest of those that work."""

import logging
import time
from typing import Optional, Protocol

import torch
from torch import Tensor

from svp_ros.engine.graph import StereoGraph
from svp_ros.engine.onnx_engine import OnnxEngine
from svp_ros.engine.openvino_engine import OpenVinoEngine
from svp_ros.engine.quantisation import quantised_file
from svp_ros.engine.tensorrt_engine import TensorRtEngine
from svp_ros.engine.torch_engine import TorchEngine
from svp_ros.model.network import DisparityNetwork

logger = logging.getLogger(__name__)
ENGINES = ('torch', 'onnx', 'openvino', 'tensorrt')
PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')
ROUNDS = 4


class Engine(Protocol):
    """Runs one network on images of one size.

    Attributes:
        name: one of ENGINES.
        precision: one of PRECISIONS.
        device: torch device on which it takes images and leaves maps.
    """

    name: str
    precision: str
    device: str

    def __call__(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, 3) uint8 pair -> the maps of `StereoGraph`.

        The maps may be overwritten by the next call.
        """


def make_engine(network: DisparityNetwork, size: tuple[int, int], engine: str = 'torch',
                precision: str = 'fp32', device: str = 'cpu', batch: int = 1,
                sha256: Optional[str] = None) -> Engine:
    """Prepare a network for images of one size.

    Args:
        network: in eval mode, on the CPU; it is copied.
        size: (height, width) of the images, multiples of 32.
        engine: one of ENGINES, or auto: those that work here are timed and the fastest is taken.
        precision: one of PRECISIONS.
        device: cpu, cuda or cuda:N.
        batch: pairs per call.
        sha256: of the checkpoint; under it the int8 network is kept for the next time.

    Raises:
        ValueError: If the engine does not work here, with what would.
    """
    if precision not in PRECISIONS:
        raise ValueError(f'precision must be one of {", ".join(PRECISIONS)}, got "{precision}"')
    if engine == 'auto':
        return _fastest(network, size, precision, device, batch, sha256)
    graph = StereoGraph(network, *size)
    if engine == 'torch':
        return TorchEngine(graph, device, precision, batch)
    if engine not in ENGINES:
        raise ValueError(f'engine must be auto, {", ".join(ENGINES)}, got "{engine}"')
    if engine == 'openvino' and torch.device(device).type != 'cpu':
        raise ValueError(f'engine openvino runs on the CPU, got device {device}; use cpu')
    try:
        if engine == 'onnx':
            return OnnxEngine(graph, device, precision)
        if engine == 'tensorrt':
            return TensorRtEngine(graph, device, precision, batch)
        file = quantised_file(graph, sha256) if precision == 'int8' else None
        return OpenVinoEngine(graph, precision, batch, file)
    except ValueError:
        raise
    except Exception as error:  # of other people's packages, which may be broken in any way
        raise ValueError(f'engine {engine} does not work here: {type(error).__name__}: '
                         f'{error}') from error


def _fastest(network: DisparityNetwork, size: tuple[int, int], precision: str, device: str,
             batch: int, sha256: Optional[str]) -> Engine:
    engines, reasons = {}, []
    images = StereoGraph(network, *size).example(batch)
    for name in ENGINES:
        try:
            engine = make_engine(network, size, name, precision, device, batch, sha256)
            _time(engine, images)  # the first pass may fail, and is slower
            engines[name] = engine
        except Exception as error:  # of other people's packages, as above
            reasons.append(f'{name}: {error}')
    if not engines:
        raise ValueError(f'no engine runs {precision} on {device}: {"; ".join(reasons)}')
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            times[name].append(1000 * _time(engine, images))
    best = sorted((min(values), name) for name, values in times.items())
    chosen = engines[best[0][1]]
    table = [f'{name} {ms:.1f} ms' for ms, name in best]
    logger.info('engine %s, the fastest in %s on %s: %s', chosen.name, precision, device,
                '; '.join(table + reasons))
    return chosen


def _time(engine: Engine, images: tuple[Tensor, Tensor]) -> float:
    start = time.perf_counter()
    maps = engine(*(image.to(engine.device) for image in images))
    maps[0].cpu()  # waits for a GPU
    return time.perf_counter() - start
