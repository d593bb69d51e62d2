"""`svp export`: write a model as ONNX and check it, or prepare its int8 network for OpenVINO.

The ONNX model takes `left` and `right`, (batch, height, width, 3) uint8 RGB of a rectified pair,
and gives `disparity` (pixels of these images), `confidence` and `no_match` (a logit, positive
where the right image does not show the point), (batch, 1, height, width) float32. The batch is
dynamic, height and width are fixed; opset 18.
"""

import argparse
from pathlib import Path
from typing import Optional

import numpy as np
import torch

from svp_ros.arguments import parse_arguments, parse_size
from svp_ros.engine.graph import INPUTS, StereoGraph
from svp_ros.engine.images import resize
from svp_ros.engine.onnx_export import export_onnx, OPSET
from svp_ros.engine.packages import need
from svp_ros.files import replace_file, sha256_of
from svp_ros.model.build import load_checkpoint
from svp_ros.predictor import find_model, NETWORK_SIZE

# px, probability, logit, logits and px and metres
TOLERANCES = {'disparity': 0.01, 'confidence': 0.001, 'no_match': 0.01, 'detection': 0.02}


def check_onnx(content: bytes, graph: StereoGraph) -> dict[str, float]:
    """Compare an ONNX model with the network on photographs, with 1 and with 2 pairs.

    Returns:
        Largest absolute difference by output.

    Raises:
        ValueError: If a package is missing or the model differs.
    """
    need('onnxruntime')
    import onnxruntime
    from skimage.data import stereo_motorcycle
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    pair = [resize(image, (graph.height, graph.width))[None] for image in stereo_motorcycle()[:2]]
    worst = dict.fromkeys(graph.outputs, 0.0)
    for batch in (1, 2):
        # the second pair is the first one upside down
        images = [np.ascontiguousarray(np.concatenate((image, image[:, ::-1]))[:batch])
                  for image in pair]
        with torch.inference_mode():
            expected = graph(*map(torch.from_numpy, images))
        for name, ours, theirs in zip(graph.outputs, expected, session.run(
                list(graph.outputs), dict(zip(INPUTS, images)))):
            worst[name] = max(worst[name], float(np.abs(ours.numpy() - theirs).max()))
    for name, difference in worst.items():
        if not difference <= TOLERANCES[name]:
            raise ValueError(f'the ONNX model differs from the network: {name} by up to '
                             f'{difference:.2g}')
    return worst


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command; returns the exit code."""
    arguments = _parse(argv)
    path = find_model(arguments.model)
    graph = StereoGraph(load_checkpoint(path)[0], *arguments.network_size)
    size = f'{graph.height}x{graph.width}'
    if arguments.precision == 'int8':
        from svp_ros.engine.quantisation import folder_pairs, quantised_file, world_pairs
        pairs = list(folder_pairs(arguments.calibration, graph.height, graph.width)
                     if arguments.calibration else ())
        pairs += world_pairs(graph.height, graph.width)
        file = quantised_file(graph, sha256_of(path), pairs)
        print(f'{path.stem} at {size} in int8 for engine openvino is ready: {file}')
        return 0
    out = arguments.out or Path(f'{path.stem}_{size}.onnx')
    content = export_onnx(graph)
    worst = check_onnx(content, graph)
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, content)
    print(f'{out}: {path.stem} at {size}, opset {OPSET}, dynamic batch, '
          f'{len(content) / 2 ** 20:.1f} MiB; largest difference from PyTorch: '
          + ', '.join(f'{name} {value:.1g}' for name, value in worst.items()))
    return 0


def _parse(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        'svp export', description='Write a model as ONNX and compare it with PyTorch, or prepare '
        'its int8 network for engine openvino.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--model', default='nano', help='name in models/ or a .safetensors file')
    parser.add_argument('--network-size', type=parse_size, default=NETWORK_SIZE, metavar='HxW',
                        help='size of the images, multiples of 32')
    parser.add_argument('--precision', choices=('fp32', 'int8'), default='fp32',
                        help="fp32 writes ONNX; int8 calibrates for OpenVINO, into the user's "
                        'cache, where the predictor finds it')
    parser.add_argument('--out', type=Path, metavar='FILE.onnx',
                        help='file to write (default: MODEL_HxW.onnx here)')
    parser.add_argument('--calibration', type=Path, metavar='DIR',
                        help='with int8: folder of your own pairs, beside the rendered ones')
    arguments = parse_arguments(parser, argv)
    if arguments.calibration and arguments.precision != 'int8':
        raise ValueError('--calibration is for --precision int8')
    if arguments.out and arguments.precision == 'int8':
        raise ValueError("--out is for ONNX; the int8 network goes into the user's cache")
    return arguments
