"""Watch over simulated time: whether /clock comes, and whether it moves."""

from time import monotonic

from rclpy.node import Node

PATIENCE_S = 2.0


class SimClock:
    """Say what is wrong with the simulated time of `node`, once it has been so for PATIENCE_S."""

    def __init__(self, node: Node):
        self._node = node
        self._seen = None
        self._since = monotonic()

    def problem(self) -> str:
        """Return one sentence, empty if time runs or is not simulated; ask about every second."""
        clock = self._node.get_clock()
        now = clock.now().nanoseconds if clock.ros_time_is_active else None
        if now is None or now != self._seen:
            self._seen, self._since = now, monotonic()
        if now is None or monotonic() - self._since < PATIENCE_S:
            return ''
        if now:
            return (f'/clock stands still at {now / 1e9:.2f} s: the player is paused or has '
                    'ended; continue it, or set use_sim_time:=false for a live camera')
        if self._node.count_publishers('/clock'):
            return 'use_sim_time is true and /clock has a publisher, but it sends nothing'
        return ('use_sim_time is true but nobody publishes /clock: start the player with its '
                'clock (ros2 bag play --clock 100, svp play --clock) or set use_sim_time:=false')
