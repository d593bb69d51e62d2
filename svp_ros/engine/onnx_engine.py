"""ONNX Runtime."""

import torch
from torch import Tensor

from svp_ros.engine.graph import INPUTS, StereoGraph
from svp_ros.engine.onnx_export import export_onnx
from svp_ros.engine.packages import need

PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}


class OnnxEngine:
    """Runs the exported graph in ONNX Runtime, in fp32, with as many threads as torch.

    Images and maps are on the CPU; the CUDA provider, of the package onnxruntime-gpu, copies
    them itself.

    Args:
        graph: the network, on the CPU.
        device: cpu, cuda or cuda:N.
        precision: fp32.

    Raises:
        ValueError: If a package or the provider for the device is missing, or for another
            precision.
    """

    name = 'onnx'
    device = 'cpu'

    def __init__(self, graph: StereoGraph, device: str = 'cpu', precision: str = 'fp32'):
        if precision != 'fp32':
            raise ValueError(f'engine onnx has precision fp32, got {precision}')
        need('onnx', 'onnxruntime')
        import onnxruntime
        place = torch.device(device)
        provider = PROVIDERS[place.type]
        if provider not in onnxruntime.get_available_providers():
            raise ValueError(f'this onnxruntime has no {provider}: pip install onnxruntime-gpu')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.precision = precision
        self._outputs = list(graph.outputs)
        self._session = onnxruntime.InferenceSession(
            export_onnx(graph), options, providers=[provider],
            provider_options=[{'device_id': place.index or 0} if place.type == 'cuda' else {}])
        if self._session.get_providers()[0] != provider:
            raise ValueError(f'onnxruntime could not start {provider}; check that its CUDA and '
                             'cuDNN are installed')

    def __call__(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, 3) uint8 pair on the CPU -> the maps of the graph there."""
        images = {name: image.numpy() for name, image in zip(INPUTS, (left, right))}
        return tuple(map(torch.from_numpy, self._session.run(self._outputs, images)))
