"""What a node adds to its network: the load of the benchmark, listening to several outputs.

`python -m svp_ros.ros.overhead --rate 2 --seconds 10 --outputs disparity depth` prints one line
of JSON: `latency_ms`, from the sending of each pair's last image until the middleware here has the
last of its outputs, and `inference_ms`, what the network took of each.
"""

import json
import sys
import time
from typing import Any, Optional

import numpy as np
import rclpy
from rclpy.qos import QoSProfile
from std_msgs.msg import Float32

from svp_ros.ros.load import Load, make_parser, run, spinning, stamp_of
from svp_ros.ros.outputs import TOPICS

LEAST_ANSWERED = 0.9  # where pairs are dropped, others wait
STAGE_TOPIC = 'stereo_node/debug/inference_ms'


class Listener(Load):
    """A load that takes more outputs than disparity, and the time of the network."""

    def __init__(self, height: int, width: int, outputs: list[str]):
        super().__init__(height, width)
        self.inference_ms: list[float] = []
        self.arrivals: dict[int, list[int]] = {}  # nanoseconds, by stamp
        self._outputs = outputs
        for topic in outputs:
            if topic != 'disparity':
                self.create_subscription(TOPICS[topic][0], topic, self._on_output,
                                         QoSProfile(depth=10), raw=True)
        self.create_subscription(
            Float32, STAGE_TOPIC, lambda message: self.inference_ms.append(message.data),
            QoSProfile(depth=100))

    def connected(self) -> bool:
        """Return whether everything that is wanted is offered."""
        return super().connected() and all(
            self.count_publishers(topic) for topic in (*self._outputs, STAGE_TOPIC))

    def latencies(self) -> list[float]:
        """Milliseconds until the last output of each pair, of those whose outputs all came."""
        return [(max(times) - self.complete[stamp]) / 1e6
                for stamp, times in sorted(self.arrivals.items())
                if len(times) == len(self._outputs)]

    def _on_disparity(self, message: bytes, info: dict[str, Any]) -> None:
        super()._on_disparity(message)
        self._on_output(message, info)

    def _on_output(self, message: bytes, info: dict[str, Any]) -> None:
        self.arrivals.setdefault(stamp_of(message), []).append(info['received_timestamp'])


def main(argv: Optional[list[str]] = None) -> int:
    """Run one trial; returns 1 if the node under test does not appear or loses pairs."""
    parser = make_parser(__doc__.split('\n\n')[0])
    parser.add_argument('--outputs', nargs='+', choices=TOPICS, default=['disparity', 'depth'])
    arguments = parser.parse_args(argv)
    rclpy.init()
    node = Listener(*arguments.size, list(dict.fromkeys(['disparity', *arguments.outputs])))
    try:
        with spinning(node):
            run(node, arguments.rate, 3 / arguments.rate)  # CameraInfo comes, everything warms up
            time.sleep(1.0)
            node.received.clear()
            node.arrivals.clear()
            node.inference_ms.clear()
            published = len(run(node, arguments.rate, arguments.seconds))
            time.sleep(1.0)
    except TimeoutError:
        print('no node takes the pairs and publishes its outputs', file=sys.stderr)
        return 1
    latency_ms = node.latencies()
    if len(latency_ms) != len(node.inference_ms) or len(latency_ms) < LEAST_ANSWERED * published:
        print(f'{published} pairs at {arguments.rate:.1f} Hz had {len(latency_ms)} results; '
              'take a quieter machine', file=sys.stderr)
        return 1
    print(json.dumps({'latency_ms': latency_ms,
                      'inference_ms': np.round(node.inference_ms, 3).tolist()}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
