"""Load of the benchmark: publish a pair at a rate, and take the time until its disparity comes.

`python -m svp_ros.ros.load --rate 10 --seconds 5` prints one line of JSON: `published`, the stamps
of all pairs, and `received`, [stamp, arrival] of each disparity, all in nanoseconds.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
import json
import sys
from threading import Event, Thread
import time
from typing import Optional

import cv2
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image
from skimage.data import stereo_motorcycle
from std_msgs.msg import Header
from stereo_msgs.msg import DisparityImage

from svp_ros.geometry import StereoCamera
from svp_ros.ros.conversions import array_to_image, camera_to_info

SETTLE_S = 3.0  # results that come later than this after the last pair count as dropped
WAIT_S = 60.0
STAMP = slice(4, 12)  # where the CDR of a message that begins with a header has its stamp


class Load(Node):
    """Publishes one photographed pair again and again, and notes when disparities arrive."""

    def __init__(self, height: int, width: int):
        super().__init__('benchmark_load')
        images = [cv2.resize(image, (width, height)) for image in stereo_motorcycle()[:2]]
        camera = StereoCamera(fx=float(width), fy=float(width), cx=width / 2, cy=height / 2,
                              baseline=0.2, width=width, height=height)
        qos = QoSProfile(depth=10)
        self._messages = []
        for side, image in zip(('left', 'right'), images):
            info = camera_to_info(camera, Header(frame_id='camera'))
            info.p[3] = -camera.fx * camera.baseline if side == 'right' else 0.0
            for topic, message in ((f'{side}/camera_info', info),
                                   (f'{side}/image_rect', array_to_image(
                                       image, 'rgb8', Header(frame_id='camera')))):
                kind = CameraInfo if topic.endswith('info') else Image
                self._messages.append((self.create_publisher(kind, topic, qos),
                                       bytearray(serialize_message(message))))
        self.complete: dict[int, int] = {}  # by stamp, when the last image of the pair was sent
        self.received: list[tuple[int, int]] = []
        self.create_subscription(DisparityImage, 'disparity', self._on_disparity, qos, raw=True)

    def _on_disparity(self, message: bytes) -> None:
        self.received.append((stamp_of(message), time.time_ns()))

    def connected(self) -> bool:
        """Return whether the node under test takes the pairs and offers disparity."""
        return self.count_publishers('disparity') > 0 and all(
            publisher.get_subscription_count() for publisher, _ in self._messages)

    def publish(self) -> int:
        """Publish the pair with the time of now and return that stamp, nanoseconds."""
        now = time.time_ns()
        stamp = b''.join(part.to_bytes(4, 'little') for part in divmod(now, 10 ** 9))
        for publisher, content in self._messages:
            content[STAMP] = stamp
            self.complete[now] = time.time_ns()
            publisher.publish(bytes(content))
        return now


def stamp_of(message: bytes) -> int:
    """Stamp of a serialised message that begins with a header, nanoseconds."""
    seconds, nanoseconds = (int.from_bytes(message[at:at + 4], 'little') for at in (4, 8))
    return seconds * 10 ** 9 + nanoseconds


def run(node: Load, rate: float, seconds: float) -> list[int]:
    """Publish at `rate` for a while and wait for the last results; returns the stamps."""
    start, stamps = time.monotonic(), []
    for index in range(max(1, round(rate * seconds))):
        time.sleep(max(0.0, start + index / rate - time.monotonic()))
        stamps.append(node.publish())
    deadline_s = time.monotonic() + SETTLE_S
    while len(node.received) < len(stamps) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return stamps


def make_parser(description: str) -> argparse.ArgumentParser:
    """Parser of what every load has: --rate, --seconds and --size."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--rate', type=float, required=True, help='pairs per second')
    parser.add_argument('--seconds', type=float, required=True)
    parser.add_argument('--size', type=int, nargs=2, default=(480, 640), metavar=('H', 'W'))
    return parser


@contextmanager
def spinning(node: Load) -> Iterator[None]:
    """Spin a load on a thread; the block begins when the node under test is there.

    Raises:
        TimeoutError: If it does not appear.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stop = Event()
    thread = Thread(target=_spin, args=(executor, stop))
    thread.start()
    try:
        deadline_s = time.monotonic() + WAIT_S
        while not node.connected():
            if time.monotonic() > deadline_s:
                raise TimeoutError
            time.sleep(0.02)
        yield
    finally:
        stop.set()
        thread.join()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def main(argv: Optional[list[str]] = None) -> int:
    """Run one trial; returns 1 if the node under test does not appear."""
    arguments = make_parser(__doc__.split('\n\n')[0]).parse_args(argv)
    rclpy.init()
    node = Load(*arguments.size)
    try:
        with spinning(node):
            run(node, arguments.rate, 1.01 / arguments.rate)  # CameraInfo comes before the images
            node.received.clear()
            stamps = run(node, arguments.rate, arguments.seconds)
            print(json.dumps({'published': stamps, 'received': node.received}))
    except TimeoutError:
        print('no node takes the pairs', file=sys.stderr)
        return 1
    return 0


def _spin(executor: SingleThreadedExecutor, stop: Event) -> None:
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    except ExternalShutdownException:
        pass


if __name__ == '__main__':
    sys.exit(main())
