"""TensorRT on an NVIDIA GPU, through its provider in ONNX Runtime."""

from collections.abc import Iterator
from contextlib import contextmanager
import hashlib
from importlib.util import find_spec
import logging
from pathlib import Path
import sys
import tempfile

import torch
from torch import Tensor

from svp_ros.engine.graph import FEATURES, INPUTS, StereoGraph
from svp_ros.engine.onnx_export import export_part
from svp_ros.engine.packages import need
from svp_ros.files import cache_folder

logger = logging.getLogger(__name__)
# CUDA takes what TensorRT refuses, such as the conversion of bytes.
PROVIDERS = 'TensorrtExecutionProvider', 'CUDAExecutionProvider'
MEMORY = 'cuda'  # of what goes from one part to the next
PRECISIONS = 'fp32', 'fp16'


class TensorRtEngine:
    """Runs the exported graph in TensorRT.

    fp16 is for the backbone: the head runs apart, in fp32, because disparities and positions do
    not fit it. TensorRT builds itself for the GPU at the first start, which takes minutes, and is
    kept in the user's cache folder, by the exported graph: its own key is made of names alone.

    Images and maps are on the CPU; what goes from the backbone to the head stays on the GPU.

    Args:
        graph: the network, on the CPU.
        device: cuda or cuda:N.
        precision: fp32, which may be TF32 inside, or fp16.
        batch: pairs per call.

    Raises:
        ValueError: If the device is no GPU or a package is missing, or for another precision.
    """

    name = 'tensorrt'
    device = 'cpu'

    def __init__(self, graph: StereoGraph, device: str = 'cuda', precision: str = 'fp32',
                 batch: int = 1):
        place = torch.device(device)
        if place.type != 'cuda':
            raise ValueError(f'engine tensorrt runs on a CUDA GPU, got device {device}')
        if precision not in PRECISIONS:
            raise ValueError(f'engine tensorrt has precision {", ".join(PRECISIONS)}, got '
                             f'{precision}')
        need('onnx', 'onnxruntime')
        import onnxruntime
        if PROVIDERS[0] not in onnxruntime.get_available_providers():
            raise ValueError(f'this onnxruntime has no {PROVIDERS[0]}: pip install '
                             'onnxruntime-gpu tensorrt')
        if find_spec('tensorrt'):
            import tensorrt  # noqa: F401  loads the libraries of its wheel
        self.precision = precision
        self._onnxruntime, self._index = onnxruntime, place.index or 0
        self._outputs = list(graph.outputs)
        images = graph.example(batch)
        if precision == 'fp32':
            parts = [(export_part(graph, images, INPUTS, graph.outputs), self._outputs, False)]
        else:
            with torch.no_grad():
                features = graph.backbone_part(*images)
            parts = [
                (export_part(graph.backbone_part, images, INPUTS, FEATURES), FEATURES, True),
                (export_part(graph.head_part, features, FEATURES, graph.outputs), self._outputs,
                 False)]
        digest = hashlib.sha256(b''.join((*(model for model, *_ in parts), _describe(place))))
        with _built_once(
                cache_folder() / f'{digest.hexdigest()[:16]}-trt-{precision}') as folder:
            options = {'device_id': self._index, 'trt_engine_cache_enable': True,
                       'trt_engine_cache_path': str(folder), 'trt_timing_cache_enable': True,
                       'trt_timing_cache_path': str(folder)}
            self._parts = [(self._start(model, {**options, 'trt_fp16_enable': fp16}), outputs)
                           for model, outputs, fp16 in parts]

    def __call__(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, 3) uint8 pair on the CPU -> the maps of the graph there."""
        values = {name: self._onnxruntime.OrtValue.ortvalue_from_numpy(image.numpy())
                  for name, image in zip(INPUTS, (left, right))}
        for session, outputs in self._parts:
            binding = session.io_binding()
            for port in session.get_inputs():
                binding.bind_ortvalue_input(port.name, values[port.name])
            place = ('cpu', 0) if outputs is self._outputs else (MEMORY, self._index)
            for name in outputs:
                binding.bind_output(name, *place)
            session.run_with_iobinding(binding)
            values = dict(zip(outputs, binding.get_outputs()))
        return tuple(torch.from_numpy(values[name].numpy()) for name in self._outputs)

    def _start(self, model: bytes, options: dict):
        settings = self._onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        session = self._onnxruntime.InferenceSession(
            model, settings, list(zip(PROVIDERS, (options, {'device_id': self._index}))))
        if session.get_providers()[0] != PROVIDERS[0]:
            raise ValueError(f'onnxruntime could not start {PROVIDERS[0]}; check that CUDA, cuDNN '
                             'and TensorRT are installed')
        return session


def _describe(device: torch.device) -> bytes:
    """Say for what an engine is built, other than its graph."""
    gpu = torch.cuda.get_device_name(device) if torch.cuda.is_available() else ''
    import onnxruntime
    tensorrt = sys.modules.get('tensorrt')
    return repr((gpu, onnxruntime.__version__, getattr(tensorrt, '__version__', ''))).encode()


@contextmanager
def _built_once(folder: Path) -> Iterator[Path]:
    """Give the folder of the engines, or one to build them in, which takes its place.

    So neither a build that is cut off nor a second one beside it leaves half an engine there.
    """
    if folder.is_dir():
        yield folder
        return
    logger.info('TensorRT builds itself for this GPU, which takes minutes, once: it is kept in %s',
                folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'{folder.name}-', dir=folder.parent,
                                     ignore_cleanup_errors=True) as place:
        building = Path(place) / folder.name
        building.mkdir()
        yield building
        try:
            building.rename(folder)
        except OSError:
            if not folder.is_dir():  # else the one beside it was faster
                raise
