"""Ask the sync doctor about a running node and log what it says."""

from collections import Counter
from time import monotonic
from typing import Optional

from rclpy.node import Node
from rclpy.subscription import Subscription

from svp_ros.calibration import Finding
from svp_ros.ros.connections import look_up
from svp_ros.ros.sim_clock import SimClock
from svp_ros.ros.sync import PairSynchronizer
from svp_ros.ros.sync_doctor import diagnose, Diagnosis, explain_silence

REPEAT_S = 10.0  # a cause that stays is logged again after this time


class SyncWatch:
    """Diagnose the inputs of `node` once a second.

    Args:
        node: whose log is used.
        sync: its pairing.
        inputs: its subscriptions by 'left/image_rect', 'left/camera_info', 'right/image_rect', ...
    """

    def __init__(self, node: Node, sync: PairSynchronizer, inputs: dict[str, Subscription]):
        self._node = node
        self._sync = sync
        self._inputs = inputs
        self._clock = SimClock(node)
        self._logged: Optional[Diagnosis] = None
        self._logged_at = 0.0

    def check(self, recent: Counter) -> Optional[Diagnosis]:
        """Return why no pair comes, if so, and log it when it is new or has stayed."""
        diagnosis = diagnose(self._sync, recent, look_up(self._node, self._inputs),
                             self._clock.problem())
        now, before = monotonic(), self._logged
        changed = (diagnosis and diagnosis.cause) != (before and before.cause)
        if changed or diagnosis and now - self._logged_at > REPEAT_S:
            self._logged, self._logged_at = diagnosis, now
            if diagnosis:
                self._node.get_logger().warning(diagnosis.text)
            else:
                self._node.get_logger().info('the inputs are fine again')
        return diagnosis

    def missing_infos(self, keys: list[str]) -> tuple[Finding, ...]:
        """Say why nothing comes on these camera_info topics."""
        connections = look_up(self._node, self._inputs)
        return tuple(Finding(f'{key} silent', explain_silence(connections[key]), True)
                     for key in keys)
