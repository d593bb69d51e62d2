"""PyTorch: eager on the CPU, a captured CUDA graph on a GPU."""

from contextlib import nullcontext
import logging

import torch
from torch import nn, Tensor

from svp_ros.engine.graph import StereoGraph

logger = logging.getLogger(__name__)
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
WARM_UPS = 3


class TorchEngine:
    """Runs the graph in PyTorch.

    In bf16 and fp16 convolutions and projections are in that type; the arithmetic of disparities,
    which does not fit it, leaves autocast in the model. On a GPU the kernels of one pass are
    captured once and then replayed, so the maps are overwritten by the next call.

    Args:
        graph: the network; it is moved to the device.
        device: cpu, cuda or cuda:N.
        precision: fp32 or bf16; fp16 on a GPU.
        batch: pairs per call.

    Raises:
        ValueError: If the device does not have this precision.
    """

    name = 'torch'

    def __init__(self, graph: StereoGraph, device: str, precision: str = 'fp32', batch: int = 1):
        on_gpu = torch.device(device).type == 'cuda'
        choices = tuple(DTYPES) if on_gpu else ('fp32', 'bf16')
        if precision not in choices:
            raise ValueError(f'engine torch has precision {", ".join(choices)} on '
                             f'{"a GPU" if on_gpu else "the CPU"}, got {precision}')
        self.device, self.precision = device, precision
        self._graph = graph.to(device, memory_format=torch.channels_last)
        self._dtype = DTYPES[precision]
        if precision != 'fp32':
            for module in self._graph.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    module.to(self._dtype)  # once, instead of in every pass
        self._replay = self._capture(batch) if on_gpu else None

    @torch.inference_mode()
    def __call__(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, 3) uint8 pair on the device -> the maps of the graph there."""
        if self._replay is None:
            return self._forward(left, right)
        inputs, cuda_graph, maps = self._replay
        for own, image in zip(inputs, (left, right)):
            own.copy_(image, non_blocking=True)
        cuda_graph.replay()
        return maps

    def _forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        low = self.precision != 'fp32'
        kind = torch.device(self.device).type
        with torch.autocast(kind, self._dtype, cache_enabled=False) if low else nullcontext():
            return self._graph(left, right)

    @torch.inference_mode()
    def _capture(self, batch: int):
        """Return the static inputs, the CUDA graph and its outputs; None if it cannot be made."""
        with torch.cuda.device(self.device):
            inputs = tuple(image.to(self.device) for image in self._graph.example(batch))
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # libraries choose algorithms and allocate before
                for _ in range(WARM_UPS):
                    self._forward(*inputs)
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.synchronize()
            cuda_graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(cuda_graph, capture_error_mode='thread_local'):
                    maps = self._forward(*inputs)
            except RuntimeError as error:
                logger.warning('no CUDA graph, every kernel is launched by itself, which is '
                               'slower: %s', str(error).splitlines()[0])
                return None
            return inputs, cuda_graph, maps
