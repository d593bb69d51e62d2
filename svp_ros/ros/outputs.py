"""What the node publishes: one table of topics, each made only for those who listen."""

from dataclasses import dataclass
from typing import Optional

import numpy as np
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from stereo_msgs.msg import DisparityImage
from visualization_msgs.msg import MarkerArray

from svp_ros.geometry import disparity_to_depth, StereoCamera
from svp_ros.ros import box_messages, conversions


@dataclass(frozen=True)
class Frame:
    """One processed pair.

    `image` is the left image (uint8), `disparity` (H, W) float32 is x_left - x_right with NaN
    wherever a threshold or the network says invalid, `confidence` (H, W) float32 lies in 0..1.
    The limits are those of DisparityImage (adjusted by cx_left - cx_right).
    """

    header: object
    image: np.ndarray
    disparity: np.ndarray
    confidence: np.ndarray
    camera: StereoCamera
    min_disparity: float
    max_disparity: float
    boxes: Optional[object] = None

    def depth(self) -> np.ndarray:
        """Return (H, W) float32 metres, NaN where invalid."""
        return disparity_to_depth(self.disparity, self.camera).astype(np.float32, copy=False)


def make_frame(header, pair, result, settings) -> Frame:
    """Apply the depth limits and the confidence threshold to a prediction.

    Args:
        header: that of the left image.
        pair: RectifiedPair that was predicted.
        result: what StereoPredictor.predict returned for it.
        settings: NodeSettings.

    Raises:
        ValueError: If the network returned NaN or infinity.
    """
    if not np.isfinite(result.disparity_filled.sum() + result.confidence.sum()):
        raise ValueError('the network returned NaN or infinity; take a higher precision or '
                         'another model')
    camera = pair.camera
    power = camera.fx * camera.baseline
    low = np.float32(power / settings.max_depth)
    high = np.float32(min(power / settings.min_depth, camera.width - 1 - camera.doffs))
    d = result.disparity - np.float32(camera.doffs)
    if camera.doffs < -1:  # what lies farther than x_left = x_right collects at 0
        low = max(low, np.float32(1 - camera.doffs))
    valid = (d >= low) & (d <= high) & (result.confidence >= settings.confidence_threshold)
    if pair.inside is not None:
        valid &= pair.inside
    disparity = np.where(valid, result.disparity, np.float32(np.nan))
    return Frame(header, pair.left, disparity, result.confidence, camera, float(low),
                 float(max(low, high)), result.boxes)


def _disparity(frame: Frame) -> DisparityImage:
    return conversions.disparity_message(
        frame.disparity - np.float32(frame.camera.doffs), frame.camera, frame.min_disparity,
        frame.max_disparity, frame.header)


def _disparity_color(frame: Frame) -> Image:
    d = frame.disparity - np.float32(frame.camera.doffs)
    return conversions.array_to_image(conversions.color_disparity(d), 'bgr8', frame.header)


def _cloud(frame: Frame) -> PointCloud2:
    return conversions.cloud_message(frame.depth(), frame.image, frame.camera, frame.header)


TOPICS = {
    'disparity': (DisparityImage, _disparity),
    'disparity_color': (Image, _disparity_color),
    'depth': (Image, lambda frame: conversions.array_to_image(
        frame.depth(), '32FC1', frame.header)),
    'camera_info': (CameraInfo, lambda frame: conversions.camera_to_info(
        frame.camera, frame.header)),
    'confidence': (Image, lambda frame: conversions.array_to_image(
        frame.confidence, '32FC1', frame.header)),
    'points2': (PointCloud2, _cloud),
    'markers': (MarkerArray, lambda frame: box_messages.box_markers(frame.boxes, frame.header)),
}
if box_messages.Detection3DArray is not None:
    TOPICS['detections_3d'] = (box_messages.Detection3DArray, lambda frame: (
        box_messages.detections_message(frame.boxes, frame.header)))


class Outputs:
    """The publishers of all outputs.

    Args:
        node: rclpy node that owns them.
    """

    def __init__(self, node):
        self._publishers = {
            topic: node.create_publisher(
                kind, topic, QoSProfile(depth=5),
                qos_overriding_options=QoSOverridingOptions.with_default_policies())
            for topic, (kind, _) in TOPICS.items()}

    def wanted(self) -> list[str]:
        """Return the topics that somebody listens to."""
        return [topic for topic, publisher in self._publishers.items()
                if publisher.get_subscription_count()]

    def publish(self, frame: Frame) -> None:
        """Make and publish what is wanted."""
        for topic in self.wanted():
            self._publishers[topic].publish(TOPICS[topic][1](frame))
