"""From topics to pairs: subscriptions, pairing, calibration, and what is wrong with them."""

from collections import Counter
from typing import Optional

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from svp_ros.calibration import Finding
from svp_ros.rig import StereoRig
from svp_ros.ros.connections import SUFFIX
from svp_ros.ros.conversions import nanoseconds
from svp_ros.ros.pair_check import PairCheck
from svp_ros.ros.parameters import NodeSettings
from svp_ros.ros.sync import PairSynchronizer
from svp_ros.ros.sync_doctor import Diagnosis
from svp_ros.ros.sync_watch import SyncWatch

PATIENCE_S = 2.0  # without CameraInfo


class Intake:
    """The inputs of an active node: `sync` holds the newest pair, `rig` its calibration.

    Args:
        node: that subscribes.
        settings: which parameters it has.
    """

    def __init__(self, node: LifecycleNode, settings: NodeSettings):
        self.enabled = True
        self.sync = PairSynchronizer(settings.tolerance, settings.queue_size)
        self.pair_check = PairCheck(node.get_logger())
        self._node = node
        self._depth = settings.queue_size
        self._subscriptions = {}
        try:
            for side in ('left', 'right'):
                self._subscribe_images(side, settings.image_transport == 'compressed')
                self._subscribe(f'{side}/camera_info', CameraInfo, f'{side}/camera_info',
                                lambda message, side=side: self.rig.update(side, message))
        except Exception:  # security or a wrong override of QoS refuses one of them
            self.close()
            raise
        self.rig = StereoRig(self.topics, settings.rectify, settings.baseline_override,
                             settings.output_size, PATIENCE_S)
        self._watch = SyncWatch(node, self.sync, self._subscriptions)
        self._logged = set()

    @property
    def topics(self) -> dict[str, str]:
        """Resolved names of the topics by `left/image_rect`, `left/camera_info`, ..."""
        return {key: subscription.topic_name
                for key, subscription in self._subscriptions.items()}

    def enable(self, enabled: bool) -> None:
        """Take images, or let them pass, together with the pair that waits."""
        self.enabled = enabled
        self.sync.clear()

    def close(self) -> None:
        """Unsubscribe and wake up whoever waits for a pair."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self.sync.close()
        self.pair_check.close()

    def diagnose(self, recent: Counter) -> Optional[Diagnosis]:
        """Return why no pair comes, if so; see SyncWatch."""
        return self._watch.check(recent) if self.enabled else None

    def findings(self) -> tuple[Finding, ...]:
        """Return what there is to say about CameraInfo and images; new findings are logged."""
        silent = [f'{side}/camera_info' for side in self.rig.missing]
        waiting = silent and self.rig.findings  # pairs came, so the infos are late
        findings = (*self.rig.findings, *(self._watch.missing_infos(silent) if waiting else ()),
                    *self.pair_check.findings)
        for finding in findings:
            if finding.kind not in self._logged:
                self._node.get_logger().warning(finding.text)
        self._logged = {finding.kind for finding in findings}
        return findings

    def _subscribe_images(self, side: str, compressed: bool) -> None:
        key = f'{side}/image_rect'
        kind, topic = Image, key
        if compressed:
            topic = self._node.resolve_topic_name(key).removesuffix(SUFFIX) + SUFFIX
            kind = CompressedImage
        self._subscribe(key, kind, topic, lambda message: self._on_image(side, message))

    def _subscribe(self, key: str, kind, topic: str, callback) -> None:
        qos = QoSProfile(depth=self._depth, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._subscriptions[key] = self._node.create_subscription(
            kind, topic, callback, qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies())

    def _on_image(self, side: str, message) -> None:
        if self.enabled:
            self.sync.add(side, nanoseconds(message.header.stamp), message)
