"""A recording of a street with true boxes, and a tiny network that finds boxes anywhere."""

from dataclasses import replace

from conftest import TINY
import cv2
import numpy as np
import torch

from svp_ros.boxes import Boxes, corners
from svp_ros.data.bag_boxes import label_boxes
from svp_ros.data.bags import StereoBagWriter
from svp_ros.geometry import StereoCamera
from svp_ros.model.build import build_model, ObjectClass, save_checkpoint

H, W = 120, 160
CAMERA = StereoCamera(fx=150.0, fy=150.0, cx=79.5, cy=50.5, baseline=0.5, width=W, height=H,
                      cx_right=78.0)
CLASSES = ObjectClass('Car', 4.0, 1.5, 1.8), ObjectClass('Pedestrian', 0.8, 1.7, 0.6)
LABELS = ['Car', 'Pedestrian', 'Car']
STAMPS = [1_700_000_000_000_000_000 + index * 500_000_000 for index in range(4)]
SIZE = ['--network-size', '96x128', '--device', 'cpu']


def save_finder(path):
    """Save a checkpoint with random weights that finds boxes of all scores."""
    torch.manual_seed(0)
    config = replace(TINY, classes=CLASSES)
    network = build_model(config)
    with torch.no_grad():
        network.detection.maps.weight[:2] *= 130
        network.detection.maps.bias[:2] = -6.0
        network.detection.maps.bias[6] = -3.0  # log_scale
    save_checkpoint(path, network.state_dict(), config)
    return path


def street_boxes(index):
    """Two cars, the far one behind a pedestrian; all come nearer with every frame."""
    box3d = np.array([[-1.8, 0.6, 8, 4.0, 1.5, 1.8, -1.5], [1.3, 0.5, 5.3, 0.8, 1.7, 0.6, 0.0],
                      [4.2, 0.55, 14, 4.2, 1.6, 1.8, 0.1]], np.float32)
    box3d[:, 2] -= 0.3 * index
    return Boxes(box3d, LABELS, np.ones(3, np.float32))


def true_boxes(index):
    """Boxes as the left image shows them."""
    return label_boxes(street_boxes(index), CAMERA, street_disparity(index))


def street_disparity(index):
    """The front of each box as a board before a wall at 30 m, with sky above."""
    boxes = street_boxes(index)
    depth = np.full((H, W), 30.0, np.float32)
    near = corners(boxes.box3d)[..., 2].min(1)
    rows = label_boxes(boxes, CAMERA).box2d.round().astype(int).tolist()
    for x0, y0, x1, y1 in (rows[number] for number in np.argsort(-near)):
        depth[y0:y1 + 1, x0:x1 + 1] = near[rows.index([x0, y0, x1, y1])]
    depth[:10] = np.inf
    return (CAMERA.fx * CAMERA.baseline / depth + CAMERA.doffs).astype(np.float32)


def street_pair(index):
    """left and right (H, W, 3) uint8: the same texture everywhere, 9 px apart."""
    noise = np.random.default_rng(index).uniform(0, 1, (H, W + 9, 3)).astype(np.float32)
    wall = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    return wall[:, :W].astype(np.uint8), wall[:, 9:].astype(np.uint8)


def write_street(path, disparity=True):
    """Write all frames with their truth."""
    with StereoBagWriter(path) as writer:
        for index, stamp in enumerate(STAMPS):
            boxes = street_boxes(index)
            writer.write(*street_pair(index), CAMERA, stamp,
                         street_disparity(index) if disparity else None, boxes.box3d, boxes.label)
    return path
