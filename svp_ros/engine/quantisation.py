"""Post-training quantisation to int8 for OpenVINO, through NNCF."""

from collections.abc import Iterable, Iterator
import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional

import numpy as np
import torch

from svp_ros.data.pairs import find_pairs
from svp_ros.engine.graph import INPUTS, StereoGraph
from svp_ros.engine.images import resize
from svp_ros.engine.onnx_export import export_onnx
from svp_ros.engine.packages import need
from svp_ros.files import cache_folder, replace_file, sha256_of

logger = logging.getLogger(__name__)
WORLD_PAIRS = 24
FORMAT = 1  # raise it when networks are quantised differently, so that no kept one is used
# Comparing features and mixing tokens: products of two activations in the head and its matching.
MATCHING = r'.*/head(/matching)?/MatMul.*'
Pair = tuple[np.ndarray, np.ndarray]


def quantised_file(graph: StereoGraph, sha256: Optional[str],
                   pairs: Optional[Iterable[Pair]] = None) -> Path:
    """Find the int8 network of a checkpoint, or make it; that takes minutes.

    Args:
        graph: the network.
        sha256: of the checkpoint, under which it is kept.
        pairs: (H, W, 3) uint8 pairs of the graph's size to calibrate with; the network is then
            made anew. By default what is there is used, or else rendered pairs are.

    Returns:
        OpenVINO file in the user's cache folder.

    Raises:
        ValueError: If a package is missing, or the network is of no checkpoint.
    """
    need('openvino', 'nncf', 'onnx')
    if sha256 is None:
        raise ValueError('int8 is for networks of a checkpoint, these weights are random')
    path = cache_folder() / f'{sha256[:16]}-{graph.height}x{graph.width}-int8-{FORMAT}.xml'
    files, checksum = (path.with_suffix('.bin'), path), path.with_suffix('.sha256')
    if pairs is None:
        if checksum.is_file():
            if all(map(Path.is_file, files)) and sha256_of(*files) == checksum.read_text():
                return path
            logger.warning('%s is damaged: its SHA-256 is not that of %s; it is made anew', path,
                           checksum)
        logger.info('calibrating the int8 network on %d rendered pairs, which takes 1 to 15 '
                    'minutes, once: it is kept in %s', WORLD_PAIRS, path.parent)
        pairs = world_pairs(graph.height, graph.width)
    import openvino
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as temporary:
        new = Path(temporary) / path.name
        openvino.save_model(quantise(graph, pairs), new, compress_to_fp16=False)
        checksum.unlink(missing_ok=True)
        for file in files:
            os.replace(new.with_suffix(file.suffix), file)
        replace_file(checksum, sha256_of(*files).encode())
    return path


def quantise(graph: StereoGraph, pairs: Iterable[Pair]):
    """Return the int8 OpenVINO model of a graph, calibrated on (H, W, 3) uint8 pairs.

    Convolutions and projections are quantised; matching and the arithmetic on disparities, which
    are neither, stay in fp32.

    Source: NNCF, Apache-2.0, post-training quantisation with the transformer preset.
    """
    import nncf
    import openvino
    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(export_onnx(graph))
    model.reshape({name: [1, graph.height, graph.width, 3] for name in INPUTS})
    data = [{name: image[None] for name, image in zip(INPUTS, pair)} for pair in pairs]
    return nncf.quantize(
        model, nncf.Dataset(data), subset_size=len(data), model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED, ignored_scope=nncf.IgnoredScope(patterns=[MATCHING]))


def world_pairs(height: int, width: int, count: int = WORLD_PAIRS) -> Iterator[Pair]:
    """Render pairs of the procedural world."""
    from svp_ros.data.world import World
    world = World()
    for seed in range(count):
        sample = world.sample(seed, 1, height, width)
        yield tuple((255 * image[0].permute(1, 2, 0)).round().to(torch.uint8).numpy()
                    for image in (sample.left, sample.right))


def folder_pairs(folder: Path, height: int, width: int, count: int = 64) -> Iterator[Pair]:
    """Read at most `count` pairs of a folder, evenly spread.

    Raises:
        FileNotFoundError, ValueError: If there is no pair, or one is unreadable.
    """
    found = find_pairs(folder)
    count = min(count, len(found))
    for index in range(count):
        yield tuple(resize(image, (height, width))
                    for image in found[index * len(found) // count].load())
