"""Record topics into a rosbag2: serialised messages as they come, with their time of arrival."""

import argparse
from functools import partial
import signal
import sqlite3
import sys
import time
from typing import Optional

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from svp_ros.data.rosbag2 import BagWriter
from svp_ros.ros.player import message_class

QUEUE_DEPTH = 100
DRAIN_S = 0.2


def main(argv: Optional[list[str]] = None) -> int:
    """Record until SIGINT, SIGTERM or --duration; returns 0, 2 for wrong arguments, else 1."""
    arguments = _parse(argv)
    try:
        counts = record(arguments.out, arguments.topics, arguments.storage, arguments.wait,
                        arguments.duration)
    except (ValueError, OSError, sqlite3.Error) as error:
        print(f'recorder: {error}', file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    print(f'recorded {sum(counts.values())} messages to {arguments.out}: '
          + ', '.join(f'{topic} {count}' for topic, count in counts.items()), flush=True)
    return 0


def record(path: str, topics: list[str], storage: str = 'mcap', wait_s: float = 10.0,
           duration_s: Optional[float] = None) -> dict[str, int]:
    """Record topics until SIGINT, SIGTERM or the end of `duration_s`.

    Prints one line `recording ...` as soon as every subscription is there.

    Args:
        path: the rosbag2 folder to create.
        topics: names, or `name=type` for topics that need not have a publisher yet.
        storage: 'mcap' or 'sqlite3'.
        wait_s: how long to wait for a publisher of the topics without a type, seconds.
        duration_s: when to stop, seconds; None records until a signal comes.

    Returns:
        Number of messages per topic.

    Raises:
        ValueError: If the path exists or a type is not known.
        TimeoutError: If a topic without type has no publisher in time.
        OSError: If the recording cannot be written, such as on a full disk.
    """
    stop = []
    handlers = {number: signal.signal(number, lambda *_: stop.append(True))
                for number in (signal.SIGINT, signal.SIGTERM)}
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node('svp_recorder')
    try:
        types = _find_types(node, topics, wait_s, stop)
        counts = dict.fromkeys(types, 0)
        with BagWriter(path, storage) as bag:
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            for topic, type_ in types.items():
                bag.add_topic(topic, type_)
                node.create_subscription(message_class(type_), topic,
                                         partial(_write, bag, counts, topic),
                                         _matching_qos(node, topic), raw=True)
            print(f'recording {len(types)} topics to {path}', flush=True)
            end_s = time.monotonic() + duration_s if duration_s else float('inf')
            while not stop and time.monotonic() < end_s:
                executor.spin_once(timeout_sec=0.1)
            _drain(executor, counts)
        return counts
    except (OSError, sqlite3.Error) as error:
        if isinstance(error, TimeoutError):
            raise
        raise OSError(f'cannot write {path}: {error}; the recording is incomplete') from error
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _write(bag: BagWriter, counts: dict[str, int], topic: str, data: bytes) -> None:
    bag.write_raw(topic, time.time_ns(), data)
    counts[topic] += 1


def _drain(executor: SingleThreadedExecutor, counts: dict[str, int]) -> None:
    """Take what has arrived already, until nothing comes for a moment (2 s at most)."""
    limit_s = time.monotonic() + 2.0
    quiet_s = time.monotonic()
    while time.monotonic() < min(limit_s, quiet_s + DRAIN_S):
        before = sum(counts.values())
        executor.spin_once(timeout_sec=0.05)
        if sum(counts.values()) > before:
            quiet_s = time.monotonic()


def _find_types(node: Node, topics: list[str], wait_s: float, stop: list) -> dict[str, str]:
    types = {}
    for topic in topics:
        name, _, type_ = topic.partition('=')
        types['/' + name.lstrip('/')] = type_
    deadline_s = time.monotonic() + wait_s
    while missing := [topic for topic, type_ in types.items() if not type_]:
        for topic in missing:
            publishers = node.get_publishers_info_by_topic(topic)
            if publishers:
                types[topic] = publishers[0].topic_type
        if stop or time.monotonic() > deadline_s and not all(types.values()):
            raise TimeoutError(f'no publisher of {", ".join(missing)} within {wait_s:g} s')
        time.sleep(0.02)
    return types


def _matching_qos(node: Node, topic: str) -> QoSProfile:
    """Return reliable QoS, or best effort where a publisher offers no more."""
    offered = [info.qos_profile.reliability for info in node.get_publishers_info_by_topic(topic)]
    best_effort = ReliabilityPolicy.BEST_EFFORT in offered
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=QUEUE_DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE)


def _parse(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='recorder', description=__doc__,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('out', help='rosbag2 folder to create')
    parser.add_argument('topics', nargs='+', metavar='TOPIC[=TYPE]',
                        help='a topic; with its type it need not have a publisher yet')
    parser.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap')
    parser.add_argument('--wait', type=float, default=10.0, metavar='SECONDS',
                        help='how long to wait for publishers of topics without a type')
    parser.add_argument('--duration', type=float, metavar='SECONDS',
                        help='stop after this time instead of at Ctrl-C')
    return parser.parse_args(argv)


if __name__ == '__main__':
    sys.exit(main())
