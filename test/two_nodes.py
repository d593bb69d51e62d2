"""The cameras front and rear in one process: a node for each, one executor for both."""

import sys

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from svp_ros.ros.node import StereoNode


def main():
    rclpy.init(args=sys.argv)
    nodes = [StereoNode(namespace=name) for name in ('front', 'rear')]
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        for node in nodes:
            node.stop()


if __name__ == '__main__':
    main()
