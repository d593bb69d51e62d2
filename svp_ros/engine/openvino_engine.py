"""OpenVINO on a CPU."""

from pathlib import Path
from typing import Optional

import torch
from torch import Tensor

from svp_ros.engine.graph import FEATURES, INPUTS, StereoGraph
from svp_ros.engine.onnx_export import export_onnx, export_part
from svp_ros.engine.packages import need

PRECISIONS = ('fp32', 'bf16', 'int8')


class OpenVinoEngine:
    """Runs the exported graph in OpenVINO, with as many threads as torch.

    bf16 is for the backbone: the head runs apart, in fp32, because OpenVINO would round the
    disparities themselves, which do not fit 8 mantissa bits. int8 is for all convolutions and
    projections.

    Args:
        graph: the network, on the CPU.
        precision: fp32, bf16 where the CPU has it, or int8.
        batch: pairs per call.
        quantised: OpenVINO file of the int8 network, see `quantisation`.

    Raises:
        ValueError: If a package is missing or the CPU does not have this precision.
    """

    name = 'openvino'
    device = 'cpu'

    def __init__(self, graph: StereoGraph, precision: str = 'fp32', batch: int = 1,
                 quantised: Optional[Path] = None):
        if precision not in PRECISIONS:
            raise ValueError(f'engine openvino has precision {", ".join(PRECISIONS)}, got '
                             f'{precision}')
        need('openvino', 'onnx')
        import openvino
        self.precision = precision
        core = openvino.Core()
        if precision == 'bf16':
            if 'BF16' not in core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
                raise ValueError('this CPU has no bf16; use fp32 or int8')
            images = graph.example(batch)
            with torch.no_grad():
                features = graph.backbone_part(*images)
            parts = [(export_part(graph.backbone_part, images, INPUTS, FEATURES), 'bf16'),
                     (export_part(graph.head_part, features, FEATURES, graph.outputs), 'f32')]
        else:
            parts = [(str(quantised) if precision == 'int8' else export_onnx(graph), 'f32')]
        self._parts, self._outputs = [], graph.outputs
        for source, hint in parts:
            model = core.read_model(source)
            if len(parts) == 1:
                model.reshape({name: [batch, graph.height, graph.width, 3] for name in INPUTS})
            compiled = core.compile_model(model, 'CPU', {
                'INFERENCE_PRECISION_HINT': hint, 'PERFORMANCE_HINT': 'LATENCY',
                'INFERENCE_NUM_THREADS': torch.get_num_threads()})
            self._parts.append(compiled.create_infer_request())

    def __call__(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, 3) uint8 pair on the CPU -> the maps of the graph there.

        The maps are overwritten by the next call.
        """
        arrays = dict(zip(INPUTS, (left.numpy(), right.numpy())))
        for request in self._parts:
            request.infer([next(arrays[name] for name in port.names if name in arrays)
                           for port in request.model_inputs], share_inputs=True)
            arrays = {name: request.get_output_tensor(index).data
                      for index, port in enumerate(request.model_outputs) for name in port.names}
        return tuple(torch.from_numpy(arrays[name]) for name in self._outputs)
