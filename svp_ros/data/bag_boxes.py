"""3D boxes of a recording: cubes of a MarkerArray or a Detection3DArray, in the left frame.

Each message holds all boxes of its stamp. The class of a cube is its text, else its namespace;
that of a detection is its best hypothesis.
"""

from typing import Any, NamedTuple, Optional

import numpy as np

from svp_ros.boxes import (
    box2d_area,
    Boxes,
    clip_boxes,
    cut_share,
    grade_occlusion,
    LabelledBoxes,
    project_boxes,
    UNKNOWN_OCCLUSION,
)
from svp_ros.data.bag_messages import DETECTIONS, MARKER_ARRAY
from svp_ros.data.bag_transforms import FixedTransforms, make_transform
from svp_ros.data.bags import StereoPair
from svp_ros.data.rosbag2 import BagReader, NearestMessages, RawMessage
from svp_ros.geometry import disparity_to_depth, StereoCamera

MARGIN = 0.3  # metres by which a surface may stick out of its box
LEAST_PIXELS = 8  # with a depth, that say how much of a box is hidden


class Solids(NamedTuple):
    """Boxes as a message has them.

    Attributes:
        frame_id: of the poses; empty without a box.
        pose: (N, 4, 4) matrices from the boxes' own axes to the frame.
        size: (N, 3) lengths along the own axes, metres.
        label: N names of classes.
        score: (N,), 1 where the message has none.
    """

    frame_id: str
    pose: np.ndarray
    size: np.ndarray
    label: list[str]
    score: np.ndarray


class BagBoxes:
    """Ground-truth boxes for the pairs of a recording, asked for in their order.

    Args:
        bag: open recording, read by nobody else.
        topic: of type MarkerArray or Detection3DArray.
        tolerance: nanoseconds between the stamps of an image and its boxes.
        transform: (4, 4) matrix from the frame of the boxes, where it is not that of the left
            image, instead of /tf_static.

    Raises:
        ValueError: If the recording has no such topic, or one of another type.
    """

    def __init__(self, bag: BagReader, topic: str, tolerance: int = 0,
                 transform: Optional[np.ndarray] = None):
        self.topic = bag.resolve(topic)
        if bag.types[self.topic] not in (MARKER_ARRAY, DETECTIONS):
            raise ValueError(f'{self.topic} holds {bag.types[self.topic]}; boxes are a '
                             'MarkerArray or a Detection3DArray')
        self._bag = bag
        self._messages = NearestMessages(bag, self.topic, tolerance)
        self._given = transform
        self._transforms = FixedTransforms(bag)

    def at(self, pair: StereoPair,
           disparity: Optional[np.ndarray] = None) -> Optional[LabelledBoxes]:
        """Return the boxes that the left image shows; None if there are none of its stamp.

        Args:
            pair: they must come in order of time.
            disparity: (H, W) true x_left - x_right, NaN where unknown; None leaves the
                occlusion unknown.

        Raises:
            ValueError: If a message cannot be used; the text says why.
        """
        nearest = self._messages.at(pair.stamp)
        if nearest is None:
            return None
        solids = decode_solids(self._bag, nearest)
        matrix = np.eye(4)
        if solids.label and solids.frame_id.lstrip('/') != pair.frame_id.lstrip('/'):
            matrix = self._given
            if matrix is None:
                matrix = self._transforms.find(solids.frame_id, pair.frame_id)
        rectified = np.eye(4)
        rectified[:3, :3] = pair.rotation
        return label_boxes(to_boxes(solids, rectified @ matrix), pair.camera, disparity)


def decode_solids(bag: BagReader, raw: RawMessage) -> Solids:
    """Decode a message and read its boxes; what `read_solids` raises says where they are."""
    message = bag.decode(raw)
    try:
        return read_solids(message)
    except ValueError as error:
        raise ValueError(f'{bag.path}, {raw.topic}: {error}') from error


def read_solids(message: Any) -> Solids:
    """Read the cubes of a MarkerArray, or the boxes of a Detection3DArray.

    The scores of cubes are those that the node writes: in the text marker that belongs to a cube,
    between its class and its distance.

    Raises:
        ValueError: If a box is degenerate, a score is no number, or the boxes are in several
            frames.
    """
    if message.__msgtype__ == DETECTIONS:
        rows = []
        for item in message.detections:
            best = max((result.hypothesis for result in item.results),
                       key=lambda hypothesis: hypothesis.score, default=None)
            rows.append((message.header.frame_id, item.bbox.center, item.bbox.size,
                         best.class_id if best else '', best.score if best else 1.0))
    else:
        texts = {(marker.ns, marker.id): marker.text for marker in message.markers
                 if marker.type == marker.TEXT_VIEW_FACING}
        rows = [(marker.header.frame_id, marker.pose, marker.scale, marker.text or marker.ns,
                 _read_score(texts.get((marker.ns, marker.id + 2), ''), marker.ns))
                for marker in message.markers
                if marker.type == marker.CUBE and marker.action == marker.ADD]
    frames = {frame for frame, *_ in rows}
    if len(frames) > 1:
        raise ValueError(f'boxes of one message must be in one frame, got {", ".join(frames)}')
    pose = [_read_pose(pose) for _, pose, _, _, _ in rows]
    size = [(size.x, size.y, size.z) for _, _, size, _, _ in rows]
    solids = Solids(frames.pop() if frames else '', np.reshape(pose, (-1, 4, 4)),
                    np.reshape(size, (-1, 3)), [label for *_, label, _ in rows],
                    np.array([score for *_, score in rows], np.float32))
    for label, pose, size, score in zip(solids.label, solids.pose, solids.size, solids.score):
        if not (np.isfinite(pose).all() and np.isfinite([*size, score]).all()
                and (size > 0).all()):
            raise ValueError(f'a box must have a finite pose and score and a positive size, but '
                             f'the "{label}" at {pose[:3, 3].round(2).tolist()} has the size '
                             f'{size.round(2).tolist()} and the score {score:g}')
    return solids


def to_boxes(solids: Solids, matrix: np.ndarray) -> Boxes:
    """Move boxes to the left optical frame.

    The own axis that is the most upright is the height. Of the others, the first one leads, as
    x does in REP 103. What a box is tilted by is left out.

    Args:
        solids: from `read_solids`.
        matrix: (4, 4), from the frame of the poses to the rectified left optical frame.
    """
    pose = matrix @ solids.pose
    upright = np.abs(pose[:, 1, :3]).argmax(1)
    leads, across = np.where(upright == 0, 1, 0), np.where(upright == 2, 1, 2)
    row = np.arange(len(pose))
    heading = pose[row, :3, leads]
    box3d = np.concatenate([
        pose[:, :3, 3],
        np.stack([solids.size[row, axis] for axis in (leads, upright, across)], 1),
        np.arctan2(-heading[:, 2], heading[:, 0])[:, None]], 1)
    return Boxes(box3d.astype(np.float32), solids.label, solids.score)


def label_boxes(boxes: Boxes, camera: StereoCamera,
                disparity: Optional[np.ndarray] = None) -> LabelledBoxes:
    """Say where boxes are in the left image, and how much of them it shows.

    Boxes outside of the image are left out. Truncation compares the areas of the 2D boxes before
    and after clipping.

    Args:
        boxes: in the left optical frame.
        camera: the rectified rig.
        disparity: as for `BagBoxes.at`; see `visible_share`.
    """
    whole = np.nan_to_num(project_boxes(boxes.box3d, camera))
    box2d = clip_boxes(whole, camera.width, camera.height)
    occlusion = np.full(len(boxes), UNKNOWN_OCCLUSION)
    if disparity is not None:
        depth = disparity_to_depth(disparity, camera)
        occlusion = grade_occlusion(np.array([
            visible_share(*row, depth, camera) for row in zip(boxes.box3d, box2d)]))
    return LabelledBoxes(boxes.box3d, boxes.label, box2d, cut_share(whole, box2d),
                         occlusion).select(box2d_area(box2d) > 0)


def visible_share(box3d: np.ndarray, box2d: np.ndarray, depth: np.ndarray,
                  camera: StereoCamera) -> float:
    """Return the share of a box's area in the image that nothing before the box hides.

    Args:
        box3d: (7,) in the left optical frame.
        box2d: (4,) around it, clipped to the image.
        depth: (H, W) true depth, metres, NaN where unknown.
        camera: the rectified rig.

    Returns:
        0 to 1; NaN if the depth of fewer than LEAST_PIXELS pixels of the box is known.
    """
    left, top, right, bottom = (int(value) for value in np.round(box2d))
    x, y = np.meshgrid(np.arange(left, right + 1), np.arange(top, bottom + 1))
    ray = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy,
                    np.ones(x.shape)], -1)
    # in the box's own axes, the ray is between two planes of each axis for a range of depths
    cosine, sine = np.cos(box3d[6]), np.sin(box3d[6])
    axes = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]], np.float64)
    centre, half = axes @ box3d[:3], box3d[3:6] / 2
    with np.errstate(divide='ignore', invalid='ignore'):
        crossings = np.stack([(centre - half) / (ray @ axes.T), (centre + half) / (ray @ axes.T)])
    enters = np.nanmax(crossings.min(0), -1)
    leaves = np.nanmin(crossings.max(0), -1)
    depth = depth[top:bottom + 1, left:right + 1]
    known = (leaves > np.maximum(enters, 0)) & ~np.isnan(depth)
    if known.sum() < LEAST_PIXELS:
        return np.nan
    return float((depth[known] > enters[known] - MARGIN).mean())


def _read_pose(pose: Any) -> np.ndarray:
    p, q = pose.position, pose.orientation
    return make_transform(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))


def _read_score(text: str, label: str) -> float:
    """Score in a text such as "Car 0.87 12.3 m"; 1 without one."""
    words = text.removeprefix(label).split()
    try:
        return float(words[0]) if text.startswith(label) and words else 1.0
    except ValueError:
        return 1.0
