"""`svp play`: publish a rosbag2 on its topics in real time, bytes as recorded, with /clock."""

import argparse
from collections.abc import Iterator
from importlib import import_module
import itertools
import signal
import sys
import time
from typing import Any, Optional

from builtin_interfaces.msg import Time
import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from svp_ros.arguments import parse_arguments
from svp_ros.data.rosbag2 import BagReader, RawMessage

CLOCK_PERIOD_S = 0.01
QUEUE_DEPTH = 30


def main(argv: Optional[list[str]] = None) -> int:
    """Play a recording; returns 0, also when interrupted, or 1 if nobody subscribed in time."""
    argv = sys.argv[1:] if argv is None else argv
    split = argv.index('--ros-args') if '--ros-args' in argv else len(argv)
    arguments = _parse(argv[:split])
    try:
        rclpy.init(args=argv[split:], signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # RCLError, unknown ROS arguments
        raise ValueError(f'wrong ROS arguments: {error}') from error
    handlers = {number: signal.signal(number, signal.default_int_handler)
                for number in (signal.SIGINT, signal.SIGTERM)}
    node = Node('svp_player')
    try:
        with BagReader(arguments.bag) as bag:
            publishers = _advertise(node, bag, arguments.topics, arguments.remap)
            expected = {bag.resolve(topic): int(count)
                        for topic, count in arguments.subscribers.items()}
            missing = _wait_for_subscribers(publishers, expected, arguments.wait_for_subscribers)
            if missing:
                print(f'svp play: too few subscribers of {", ".join(missing)} within '
                      f'{arguments.wait_for_subscribers:g} s', file=sys.stderr)
                return 1
            time.sleep(arguments.start_delay)
            clock = node.create_publisher(Clock, '/clock', 10) if arguments.clock else None
            count = itertools.count(1) if arguments.loop == 0 else range(arguments.loop)
            statistics = Statistics()
            try:
                for _ in count:
                    play(bag.raw(list(publishers)), publishers, arguments.rate, clock, statistics)
                _wait_until_taken(publishers)
            except KeyboardInterrupt:
                pass
            print(statistics)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


class Statistics:
    """What was played: number of messages, duration and the worst delay behind schedule."""

    def __init__(self):
        self.messages = 0
        self.worst_lateness_s = 0.0
        self._start = time.monotonic()

    def add(self, lateness_s: float) -> None:
        """Count one message that was published `lateness_s` after its time."""
        self.messages += 1
        self.worst_lateness_s = max(self.worst_lateness_s, lateness_s)

    def __str__(self) -> str:
        return (f'played {self.messages} messages in {time.monotonic() - self._start:.2f} s, '
                f'worst lateness {1000 * self.worst_lateness_s:.1f} ms')


def play(messages: Iterator[RawMessage], publishers: dict[str, Publisher], rate: float = 1.0,
         clock: Optional[Publisher] = None, statistics: Optional[Statistics] = None) -> None:
    """Publish messages at the distances in time at which they were recorded.

    Args:
        messages: in order of time.
        publishers: one per topic of the recording.
        rate: 2.0 plays twice as fast.
        clock: publisher of /clock, which then carries the recording's time every 10 ms.
        statistics: counts what was played.
    """
    statistics = statistics or Statistics()
    start_s, first = time.monotonic(), None
    for message in messages:
        first = message.time if first is None else first
        due_s = start_s + (message.time - first) / 1e9 / rate
        while (left_s := due_s - time.monotonic()) > 0:
            if clock:
                _publish_clock(clock, message.time - round(left_s * rate * 1e9))
                left_s = min(left_s, CLOCK_PERIOD_S)
            time.sleep(left_s)
        if clock:
            _publish_clock(clock, message.time)
        statistics.add(time.monotonic() - due_s)
        publishers[message.topic].publish(message.data)


def message_class(type_: str) -> Any:
    """Import the class of a message type such as `sensor_msgs/msg/Image`.

    Raises:
        ValueError: If its package is not installed.
    """
    package, _, name = type_.split('/')
    try:
        return getattr(import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f'message type {type_} is not installed') from error


def _advertise(node: Node, bag: BagReader, topics: Optional[list[str]],
               remaps: dict[str, str]) -> dict[str, Publisher]:
    """Create a publisher per topic; without `topics`, types that are not installed are skipped."""
    names = [bag.resolve(topic) for topic in topics] if topics else sorted(bag.types)
    remaps = {bag.resolve(old): new for old, new in remaps.items()}
    publishers = {}
    for name in names:
        try:
            class_ = message_class(bag.types[name])
        except ValueError as error:
            if topics:
                raise
            print(f'svp play: {name} is skipped: {error}', file=sys.stderr)
            continue
        latched = name in bag.latched
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=QUEUE_DEPTH,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)
        publishers[name] = node.create_publisher(class_, remaps.get(name, name), qos)
    if not publishers:
        raise ValueError(f'{bag.path} has no topic that can be played')
    return publishers


def _wait_for_subscribers(publishers: dict[str, Publisher], expected: dict[str, int],
                          timeout_s: float) -> list[str]:
    """Wait for 1 subscriber or the `expected` number; returns the topics that have fewer."""
    deadline_s = time.monotonic() + timeout_s
    while timeout_s > 0:
        missing = [publisher.topic_name for topic, publisher in publishers.items()
                   if publisher.get_subscription_count() < expected.get(topic, 1)]
        if not missing or time.monotonic() > deadline_s:
            return missing
        time.sleep(0.02)
    return []


def _wait_until_taken(publishers: dict[str, Publisher]) -> None:
    for publisher in publishers.values():
        if not publisher.wait_for_all_acked(Duration(seconds=5)):
            print(f'svp play: a subscriber of {publisher.topic_name} did not take every message',
                  file=sys.stderr)
    time.sleep(0.2)  # Best-effort subscribers acknowledge nothing; let them take the last one.


def _publish_clock(clock: Publisher, nanoseconds: int) -> None:
    clock.publish(Clock(clock=Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)))


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='svp play', description=__doc__.split(': ', 1)[1].capitalize(),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('bag', help='rosbag2 folder, .mcap or .db3 file')
    parser.add_argument('--rate', type=float, default=1.0, help='speed; 2 is twice as fast')
    parser.add_argument('--loop', type=int, default=1, metavar='N',
                        help='play it N times; 0: until interrupted')
    parser.add_argument('--clock', action='store_true',
                        help='publish the time of the recording on /clock, for use_sim_time')
    parser.add_argument('--topics', nargs='+', help='play only these')
    parser.add_argument('--remap', nargs='+', default=[], metavar='TOPIC:=NEW',
                        help='publish a topic under another name')
    parser.add_argument('--start-delay', type=float, default=0.0, metavar='SECONDS',
                        help='wait before the first message')
    parser.add_argument('--wait-for-subscribers', type=float, default=0.0, metavar='SECONDS',
                        help='wait at most so long until every topic has a subscriber')
    parser.add_argument('--subscribers', nargs='+', default=[], metavar='TOPIC:=N',
                        help='that wait is for N subscribers of this topic instead of 1')
    arguments = parse_arguments(parser, argv)
    if not arguments.rate > 0:
        raise ValueError(f'--rate must be positive, got {arguments.rate:g}')
    if arguments.loop < 0:
        raise ValueError(f'--loop must not be negative, got {arguments.loop}')
    arguments.remap = _pairs('--remap', arguments.remap, 'NEW')
    arguments.subscribers = _pairs('--subscribers', arguments.subscribers, 'N')
    if not all(count.isdigit() for count in arguments.subscribers.values()):
        raise ValueError(f'--subscribers needs numbers, got {arguments.subscribers}')
    return arguments


def _pairs(option: str, texts: list[str], meaning: str) -> dict[str, str]:
    pairs = [text.split(':=') for text in texts]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError(f'{option} must be TOPIC:={meaning}, got {" ".join(texts)}')
    return dict(pairs)


if __name__ == '__main__':
    sys.exit(main())
