"""`svp render`: Write pairs of the procedural world, with ground truth, to a folder or a rosbag2.

A folder holds unrelated scenes, each with left.png, right.png, disp.pfm, disp_right.pfm,
occluded.png, camera.json and boxes.json (box3d: x, y, z, l, h, w, ry; box2d: left, top, right,
bottom in pixels; truncation 0 to 1; occlusion 0 to 3 as in KITTI). A bag holds one scene seen by
a moving camera.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import asdict
import json
from pathlib import Path
from typing import Optional

import numpy as np
from tqdm import tqdm

from svp_ros.arguments import parse_size
from svp_ros.config import load_config
from svp_ros.data.bags import StereoBagWriter
from svp_ros.data.formats import write_image, write_pfm
from svp_ros.data.world import StereoSample, World, WorldConfig
from svp_ros.pictures import colour_disparity, join_pictures
from svp_ros.predictor import choose_device

KINDS = ('street', 'room', 'clutter', 'table', 'mixed')
FIRST_STAMP = 1_000_000_000  # nanoseconds
PREVIEW_ROWS = 16
BOX_VALUES = ('instance', 'box3d', 'box2d', 'truncation', 'occlusion')


def render_scenes(world: World, seed: int, count: int, height: int, width: int,
                  kind: str) -> Iterator[StereoSample]:
    """Render `count` unrelated scenes one by one; scene n does not depend on `count`."""
    for index in range(count):
        scene_seed = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
        yield world.sample(scene_seed, 1, height, width, None if kind == 'mixed' else kind)


def write_folder(out: Path, samples: Iterable[StereoSample]) -> Iterator[StereoSample]:
    """Write each sample of batch size 1 to out/scene_000000, ... and pass it on."""
    for index, sample in enumerate(samples):
        folder = out / f'scene_{index:06d}'
        folder.mkdir(parents=True)
        write_image(folder / 'left.png', to_image(sample.left))
        write_image(folder / 'right.png', to_image(sample.right))
        write_pfm(folder / 'disp.pfm', sample.disparity[0, 0].cpu().numpy())
        write_pfm(folder / 'disp_right.pfm', sample.disparity_right[0, 0].cpu().numpy())
        write_image(folder / 'occluded.png', to_image(sample.occluded.float()))
        boxes = sample.boxes[0]
        (folder / 'camera.json').write_text(json.dumps(asdict(sample.cameras[0]), indent=1))
        (folder / 'boxes.json').write_text(json.dumps([
            {'label': label, **{name: getattr(boxes, name)[row].tolist() for name in BOX_VALUES}}
            for row, label in enumerate(boxes.label)], indent=1))
        yield sample


def write_bag(out: Path, samples: Iterable[StereoSample], storage: str,
              rate: float) -> Iterator[StereoSample]:
    """Write each sample of batch size 1 as one stamped pair of a rosbag2 and pass it on."""
    with StereoBagWriter(out, storage) as writer:
        for index, sample in enumerate(samples):
            boxes = sample.boxes[0]
            writer.write(to_image(sample.left), to_image(sample.right), sample.cameras[0],
                         FIRST_STAMP + round(index * 1e9 / rate),
                         sample.disparity[0, 0].cpu().numpy(), boxes.box3d, boxes.label)
            yield sample


def to_image(tensor) -> np.ndarray:
    """(1, C, H, W) float in [0, 1] -> (H, W, 3) or, for one channel, (H, W) uint8."""
    image = (tensor[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return image[..., 0] if image.shape[2] == 1 else image


def make_preview(sample: StereoSample) -> np.ndarray:
    """Show left, right, disparity and occlusion as one row, uint8 RGB."""
    disparity = sample.disparity[0, 0].cpu().numpy()
    occluded = np.repeat(to_image(sample.occluded.float())[..., None], 3, 2)
    largest = float(disparity.max())
    return join_pictures([
        ('left', to_image(sample.left)), ('right', to_image(sample.right)),
        (f'disparity, 0-{largest:.0f} px', colour_disparity(disparity, 0, largest)),
        ('occluded', occluded)], height=180)


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        'svp render', description=__doc__.partition(': ')[2].strip())
    parser.add_argument('--out', type=Path, help='folder or bag to create; may be left out with '
                        '--preview, which then is all that is written')
    parser.add_argument('--count', type=int, default=10,
                        help='scenes, or frames of a bag (default: %(default)s)')
    parser.add_argument('--kind', choices=KINDS, default='mixed',
                        help='what the scenes show (default: %(default)s)')
    parser.add_argument('--size', type=parse_size, default='480x640', metavar='HxW',
                        help='height and width of the images (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0,
                        help='other seeds give other scenes (default: %(default)s)')
    parser.add_argument('--format', choices=('folder', 'mcap', 'sqlite3'), default='folder',
                        help='a folder or a rosbag2 (default: %(default)s)')
    parser.add_argument('--rate', type=float, default=10.0,
                        help='frames per second of a bag (default: %(default)s)')
    parser.add_argument('--photographs', type=Path,
                        help="folder of photographs for textures instead of scikit-image's")
    parser.add_argument('--device', default='cpu',
                        help='cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument('--preview', type=Path,
                        help='write a picture of left, right, disparity and occlusion of the '
                        f'first {PREVIEW_ROWS} pairs')
    parser.add_argument('--config', type=Path, metavar='FILE',
                        help='YAML file with values of WorldConfig, the distributions of scenes; '
                        'config/world/kitti.yaml has the cameras of KITTI')
    arguments = parser.parse_args(argv)
    if arguments.count < 1 or not 0 < arguments.rate < 1000:
        raise ValueError('--count must be at least 1 and --rate within 0 to 1000 Hz, '
                         f'got {arguments.count} and {arguments.rate:g}')
    if not (arguments.out or arguments.preview):
        raise ValueError('give --out, --preview or both')
    out = arguments.out
    if out and out.exists() and (out.is_file() or any(out.iterdir())):
        raise ValueError(f'{out} exists already; choose another --out')
    if arguments.format != 'folder' and arguments.kind == 'mixed':
        raise ValueError('a bag shows one scene; choose its --kind, for example street')

    world = World(load_config(WorldConfig, arguments.config), arguments.photographs,
                  choose_device(arguments.device))
    height, width = arguments.size
    if arguments.format == 'folder':
        samples = render_scenes(world, arguments.seed, arguments.count, height, width,
                                arguments.kind)
        if out:
            samples = write_folder(out, samples)
    else:
        samples = world.sequence(arguments.seed, arguments.count, height, width, arguments.kind,
                                 arguments.rate)
        if out:
            samples = write_bag(out, samples, arguments.format, arguments.rate)
    previews = [make_preview(sample) for index, sample
                in enumerate(tqdm(samples, 'rendering', arguments.count, unit='pair'))
                if arguments.preview and index < PREVIEW_ROWS]
    if arguments.preview:
        arguments.preview.parent.mkdir(parents=True, exist_ok=True)
        write_image(arguments.preview, np.vstack(previews))
    print(f'{arguments.count} pairs of {height}x{width} in {out or arguments.preview}')
    return 0
