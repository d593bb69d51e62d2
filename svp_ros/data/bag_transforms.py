"""Fixed transforms between frames, from the /tf_static of a recording."""

from typing import Any

import numpy as np

from svp_ros.data.rosbag2 import BagReader

TF_MESSAGE = 'tf2_msgs/msg/TFMessage'


def make_transform(translation: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Return the (4, 4) matrix of a translation (3,) and a quaternion (x, y, z, w).

    Raises:
        ValueError: If the quaternion has no length.
    """
    length = np.linalg.norm(quaternion)
    if not length > 1e-6:
        raise ValueError(f'the quaternion {list(quaternion)} is no rotation')
    x, y, z, w = np.asarray(quaternion, np.float64) / length
    matrix = np.eye(4)
    matrix[:3, :3] = [[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                      [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                      [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]
    matrix[:3, 3] = translation
    return matrix


def find_transform(bag: BagReader, source: str, target: str) -> np.ndarray:
    """Return the (4, 4) matrix that takes points of the frame `source` to the frame `target`.

    Raises:
        ValueError: If no chain of fixed transforms joins the two.
    """
    steps = _read_steps(bag)
    reached, frontier = {source: np.eye(4)}, [source]
    while frontier:
        frame = frontier.pop()
        for other, matrix in steps.get(frame, {}).items():
            if other not in reached:
                reached[other] = matrix @ reached[frame]
                frontier.append(other)
    if target not in reached:
        known = ', '.join(sorted(steps)) or 'none: the recording has no /tf_static'
        raise ValueError(f'{bag.path}: no fixed transform leads from frame "{source}" to '
                         f'"{target}"; give the transform, or record /tf_static. Frames: {known}')
    return reached[target]


class FixedTransforms:
    """Transforms of a recording by their frames, each searched for once.

    Args:
        bag: open recording.
    """

    def __init__(self, bag: BagReader):
        self._bag = bag
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def find(self, source: str, target: str) -> np.ndarray:
        """Return what `find_transform` does, which says what raises; "/frame" is "frame"."""
        frames = source.lstrip('/'), target.lstrip('/')
        if frames not in self._known:
            self._known[frames] = find_transform(self._bag, *frames)
        return self._known[frames]


def _read_steps(bag: BagReader) -> dict[str, dict[str, np.ndarray]]:
    """Matrices by frame of the points and frame that they are taken to."""
    steps: dict[str, dict[str, np.ndarray]] = {}
    topics = [topic for topic in bag.topics_of(TF_MESSAGE) if topic.endswith('tf_static')]
    for _, _, message in bag.messages(topics) if topics else ():
        for transform in message.transforms:
            parent = transform.header.frame_id.lstrip('/')
            child = transform.child_frame_id.lstrip('/')
            matrix = _matrix(transform.transform)
            steps.setdefault(child, {})[parent] = matrix
            steps.setdefault(parent, {})[child] = np.linalg.inv(matrix)
    return steps


def _matrix(transform: Any) -> np.ndarray:
    t, q = transform.translation, transform.rotation
    return make_transform(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))
