"""What the node publishes: one table of topics, each made only for those who listen."""

import numpy as np
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from stereo_msgs.msg import DisparityImage
from visualization_msgs.msg import MarkerArray

from svp_ros.box_pictures import draw_boxes
from svp_ros.frame import Frame
from svp_ros.ros import box_messages, conversions


def _without_doffs(frame: Frame) -> np.ndarray:
    return frame.disparity - np.float32(frame.camera.doffs if frame.camera else 0)


def _disparity(frame: Frame) -> DisparityImage:
    return conversions.disparity_message(
        _without_doffs(frame), frame.camera, frame.min_disparity, frame.max_disparity,
        frame.header)


def _disparity_color(frame: Frame) -> Image:
    return conversions.array_to_image(
        conversions.color_disparity(_without_doffs(frame)), 'bgr8', frame.header)


def _detection_image(frame: Frame) -> Image:
    image = frame.image if frame.image.ndim == 3 else np.dstack([frame.image] * 3)
    if frame.boxes is not None:
        image = draw_boxes(image, frame.boxes.box3d, frame.boxes.label, frame.boxes.score,
                           frame.camera)
    return conversions.array_to_image(image, 'rgb8', frame.header)


def _cloud(frame: Frame) -> PointCloud2:
    return conversions.cloud_message(frame.depth, frame.image, frame.camera, frame.header)


TOPICS = {
    'disparity': (DisparityImage, _disparity),
    'disparity_color': (Image, _disparity_color),
    'depth': (Image, lambda frame: conversions.array_to_image(
        frame.depth, '32FC1', frame.header)),
    'camera_info': (CameraInfo, lambda frame: conversions.camera_to_info(
        frame.camera, frame.header)),
    'confidence': (Image, lambda frame: conversions.array_to_image(
        frame.confidence, '32FC1', frame.header)),
    'points2': (PointCloud2, _cloud),
    'detection_image': (Image, _detection_image),
    'markers': (MarkerArray, lambda frame: box_messages.box_markers(frame.boxes, frame.header)),
}
if box_messages.Detection3DArray is not None:
    TOPICS['detections_3d'] = (box_messages.Detection3DArray, lambda frame: (
        box_messages.detections_message(frame.boxes, frame.header)))


METRIC = ('depth', 'camera_info', 'points2')  # not without a camera


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
            if frame.camera is None and topic in METRIC:
                continue
            self._publishers[topic].publish(TOPICS[topic][1](frame))
