"""Ask the sync doctor about a running node and log what it says."""

from collections import Counter
import re
from time import monotonic
from typing import Optional

from rclpy.node import Node
from rclpy.subscription import Subscription

from svp_ros.calibration import Finding
from svp_ros.ros.connections import look_up
from svp_ros.ros.sim_clock import SimClock
from svp_ros.ros.sync import PairSynchronizer
from svp_ros.ros.sync_doctor import diagnose, Diagnosis, explain_silence, PATIENCE_S

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
        self._logged = ''  # words without their numbers, which change every second
        self._logged_at = 0.0

    def check(self, recent: Counter) -> Optional[Diagnosis]:
        """Return why no pair comes, if so, and log it when it is new or has stayed."""
        now = monotonic()
        waits = now - self._sync.last['pair'] >= PATIENCE_S
        connections = look_up(self._node, self._inputs) if waits else {}
        diagnosis = diagnose(self._sync, recent, connections, now, self._clock.problem())
        words = re.sub(r'\d[\d.]*', '', diagnosis.text) if diagnosis else ''
        if words != self._logged or diagnosis and now - self._logged_at > REPEAT_S:
            if diagnosis:
                self._node.get_logger().warning(diagnosis.text)
            elif recent['paired']:
                self._node.get_logger().info('the inputs are fine again')
            else:  # paused or just continued: nothing is known yet
                return diagnosis
            self._logged, self._logged_at = words, now
        return diagnosis

    def missing_infos(self, keys: list[str]) -> tuple[Finding, ...]:
        """Say why nothing comes on these camera_info topics."""
        connections = look_up(self._node, self._inputs)
        return tuple(Finding(f'{key} silent', explain_silence(connections[key]), True)
                     for key in keys)
