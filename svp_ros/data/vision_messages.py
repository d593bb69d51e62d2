"""Definitions of vision_msgs, which `rosbags` does not bring, so that nothing has to be installed.

Source: https://github.com/ros-perception/vision_msgs, 4.1.1 (Apache 2.0), without its comments.
"""

DEFINITIONS = {
    'vision_msgs/msg/ObjectHypothesis': 'string class_id\nfloat64 score',
    'vision_msgs/msg/ObjectHypothesisWithPose':
        'vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose',
    'vision_msgs/msg/BoundingBox3D': 'geometry_msgs/Pose center\ngeometry_msgs/Vector3 size',
    'vision_msgs/msg/Detection3D':
        'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n'
        'vision_msgs/BoundingBox3D bbox\nstring id',
    'vision_msgs/msg/Detection3DArray':
        'std_msgs/Header header\nvision_msgs/Detection3D[] detections',
}
