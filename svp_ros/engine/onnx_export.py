"""The graph as ONNX."""

import io
from typing import Sequence
import warnings

import torch
from torch import nn, Tensor

from svp_ros.engine.graph import INPUTS, StereoGraph
from svp_ros.engine.packages import need

OPSET = 18


def export_onnx(graph: StereoGraph) -> bytes:
    """Write the whole network as one ONNX model.

    Inputs `left` and `right`: (batch, height, width, 3) uint8 RGB. Outputs `disparity`,
    `confidence` and `no_match`: (batch, 1, height, width) float32, and `detection` if there is
    such a head: (batch, classes + 12, height / 4, width / 4), see `StereoGraph`. The batch is
    dynamic, height and width are those of the graph; opset 18.

    Raises:
        ValueError: If the package onnx is missing.
    """
    return export_part(graph, graph.example(batch=2), INPUTS, graph.outputs, dynamic_batch=True)


def export_part(module: nn.Module, example: Sequence[Tensor], inputs: Sequence[str],
                outputs: Sequence[str], dynamic_batch: bool = False) -> bytes:
    """Write a module on the CPU as an ONNX model with named inputs and outputs.

    The exporter by tracing is used: it needs no package but onnx, works with every torch that we
    support and keeps the batch dynamic, which torch.export specialises.
    """
    need('onnx')
    axes = {name: {0: 'batch'} for name in (*inputs, *outputs)} if dynamic_batch else None
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # sizes are constant here; we compare what comes out
        torch.onnx.export(module, tuple(example), buffer, input_names=list(inputs),
                          output_names=list(outputs), dynamic_axes=axes, opset_version=OPSET,
                          dynamo=False)
    return buffer.getvalue()
