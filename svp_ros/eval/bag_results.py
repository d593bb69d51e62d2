"""results.mcap: what the node would have published, for RViz 2, Foxglove and `ros2 bag play`."""

from pathlib import Path
import shutil
from typing import Any

import numpy as np

from svp_ros.data import bag_messages
from svp_ros.data.rosbag2 import BagWriter
from svp_ros.eval.bag_run import ScoredPair
from svp_ros.eval.box_score import SCORE_THRESHOLD
from svp_ros.geometry import disparity_to_depth
from svp_ros.pictures import colour_disparity


class ResultsWriter:
    """Write the results of every pair under their original stamps; a context manager.

    Topics, the first model's without a prefix, those of others under /<model>: `disparity`
    (DisparityImage), `depth`, `confidence`, `disparity_color`, `markers`; once
    `left/image_rect`, `camera_info` and, with ground truth, `ground_truth/disparity` and
    `ground_truth/markers`.

    Args:
        path: the .mcap file to write; one that is there is replaced.
        models: names of the models.
        score_threshold: of the boxes that are shown.
    """

    def __init__(self, path: Path, models: list[str], score_threshold: float = SCORE_THRESHOLD):
        self._path = path
        self._threshold = score_threshold
        self._folder = path.with_name(f'.{path.name}')
        shutil.rmtree(self._folder, ignore_errors=True)
        self._bag = BagWriter(self._folder, 'mcap', 'storage')
        self._prefixes = {name: '' if name == models[0] else f'/{_topic_name(name)}'
                          for name in models}

    def __enter__(self) -> 'ResultsWriter':
        self._bag.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bag.__exit__(*exception)
        file, = self._folder.glob('*.mcap')
        if exception[0] is None:
            file.replace(self._path)
        shutil.rmtree(self._folder)

    def __call__(self, scored: ScoredPair) -> None:
        """Write one pair."""
        pair, camera = scored.pair, scored.pair.camera
        header = bag_messages.make_header(pair.stamp, pair.frame_id)
        messages = {'/left/image_rect': bag_messages.make_image(pair.left, header),
                    '/camera_info': bag_messages.make_camera_infos(camera, header)[0]}
        if scored.truth is not None:
            messages['/ground_truth/disparity'] = bag_messages.make_disparity_image(
                scored.truth, camera, header)
        if scored.true_boxes is not None:
            messages['/ground_truth/markers'] = bag_messages.make_box_markers(
                scored.true_boxes.box3d, scored.true_boxes.label, header)
        for name, estimate in scored.estimates.items():
            prefix, disparity = self._prefixes[name], estimate.disparity
            depth = disparity_to_depth(disparity, camera).astype(np.float32)
            messages |= {
                f'{prefix}/disparity': bag_messages.make_published_disparity(
                    disparity - np.float32(camera.doffs), camera, estimate.min_disparity,
                    estimate.max_disparity, header),
                f'{prefix}/depth': bag_messages.make_image(depth, header),
                f'{prefix}/disparity_color': bag_messages.make_image(
                    _colour(disparity - camera.doffs), header)}
            if estimate.confidence is not None:
                messages[f'{prefix}/confidence'] = bag_messages.make_image(
                    estimate.confidence, header)
            if estimate.boxes is not None:
                messages[f'{prefix}/markers'] = bag_messages.make_published_markers(
                    estimate.boxes.select(estimate.boxes.score >= self._threshold), header)
        for topic, message in messages.items():
            self._bag.write(topic, pair.stamp, message)


def _topic_name(name: str) -> str:
    """Make a name that ROS allows in a topic."""
    kept = ''.join(letter if letter.isascii() and letter.isalnum() else '_' for letter in name)
    return kept if kept[:1].isalpha() else f'model_{kept}'


def _colour(disparity: np.ndarray) -> np.ndarray:
    """Paint as the node's `disparity_color`: up to the 98th percentile, invalid is black."""
    known = disparity[np.isfinite(disparity)]
    return colour_disparity(disparity, 0, np.percentile(known, 98) if known.size else 1)
