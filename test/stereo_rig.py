"""A stereo camera, listeners and service clients around one stereo_node process."""

from itertools import count
import os
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from stereo_msgs.msg import DisparityImage
from visualization_msgs.msg import MarkerArray

from svp_ros.geometry import StereoCamera
from svp_ros.resources import find_resource
from svp_ros.ros.conversions import array_to_image

HEIGHT, WIDTH = 72, 104
CAMERA = StereoCamera(fx=90.0, fy=91.0, cx=50.0, cy=36.0, baseline=0.2, width=WIDTH,
                      height=HEIGHT, cx_right=46.0)
FRAME = 'left_camera_optical_frame'
TYPES = {'disparity': DisparityImage, 'disparity_color': Image, 'depth': Image,
         'camera_info': CameraInfo, 'confidence': Image, 'points2': PointCloud2,
         'markers': MarkerArray}
NAMESPACES = (f'cam{number}' for number in count())


def random_pair(seed=0, height=HEIGHT, width=WIDTH):
    generator = np.random.default_rng(seed)
    left = generator.integers(0, 256, (height, width, 3), np.uint8)
    return left, np.roll(left, -5, axis=1)


def reliable_inputs(namespace, image='image_rect'):
    """Arguments of a node that loses no image of a test."""
    return [argument for side in ('left', 'right') for topic in (image, 'camera_info')
            for argument in ('-p', f'qos_overrides./{namespace}/{side}/{topic}.subscription.'
                             'reliability:=reliable')]


class Rig:
    """A stereo camera, listeners and service clients around one node process.

    It starts the process, in a namespace of its own, unless it is given one with its namespace.
    """

    def __init__(self, *arguments, log, camera=CAMERA, image_type=Image,
                 program=('-m', 'svp_ros.ros.node'), namespace=None, process=None):
        os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 101)
        profile = str(find_resource('config/fastdds.xml'))
        os.environ.update(FASTRTPS_DEFAULT_PROFILES_FILE=profile,
                          FASTDDS_DEFAULT_PROFILES_FILE=profile)
        self.camera, self.log = camera, log
        self.namespace = namespace or next(NAMESPACES)
        image = 'image_rect' if image_type is Image else 'image_rect/compressed'
        self.process = process or subprocess.Popen(
            [sys.executable, *map(str, program), '--ros-args', '-r',
             f'__ns:=/{self.namespace}', '-p', 'device:=cpu', '-p', 'num_threads:=1',
             *reliable_inputs(self.namespace, image), *arguments],
            stderr=log.open('w'), stdout=subprocess.DEVNULL)
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('tester', namespace=self.namespace, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.images = {side: self.node.create_publisher(image_type, f'{side}/{image}', 20)
                       for side in ('left', 'right')}
        self.infos = {side: self.node.create_publisher(CameraInfo, f'{side}/camera_info', 20)
                      for side in ('left', 'right')}
        self.received = {}
        self._met = set()  # topics on which something came: both processes know each other
        self.diagnostics = {}
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._keep_diagnostics, 5)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def spin_until(self, condition, timeout=20.0):
        """Return whether `condition` came true; a node that ended early fails the test."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            assert self.process.poll() is None, self.log.read_text()
            self.executor.spin_once(timeout_sec=0.05)
        return True

    def wait_until_ready(self):
        publishers = [*self.images.values(), *self.infos.values()]
        assert self.spin_until(lambda: all(p.get_subscription_count() for p in publishers), 180)

    def listen(self, *topics):
        self._met -= set(topics)
        for topic in topics:
            self.received[topic] = []
            self.node.create_subscription(TYPES[topic], topic, self.received[topic].append,
                                          QoSProfile(depth=50))
        assert self.spin_until(lambda: all(self.node.count_publishers(f'/{self.namespace}/{topic}')
                                           for topic in topics), 180)
        self.spin_for(0.3)  # the node has to see the subscriptions too, or `_meet` waits

    def spin_for(self, seconds):
        self.spin_until(lambda: False, seconds)

    def send_infos(self, tx=None):
        c = self.camera
        for side, cx, p3 in (('left', c.cx, 0.0), ('right', c.cx_right, -c.fx * c.baseline)):
            p3 = p3 if side == 'left' or tx is None else tx
            self.infos[side].publish(CameraInfo(
                header=Header(frame_id=FRAME), width=c.width, height=c.height,
                r=np.eye(3).ravel(), k=[c.fx, 0.0, cx, 0.0, c.fy, c.cy, 0.0, 0.0, 1.0],
                p=[c.fx, 0.0, cx, p3, 0.0, c.fy, c.cy, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def send_pair(self, number, pair, encoding='rgb8', offset_ns=0, nanosec=1000):
        header = Header(frame_id=FRAME)
        header.stamp.sec = number
        for (side, publisher), image in zip(self.images.items(), pair):
            header.stamp.nanosec = nanosec + (offset_ns if side == 'right' else 0)
            publisher.publish(array_to_image(image, encoding, header))

    def stamps(self, topic):
        return [message.header.stamp.sec for message in self.received[topic]]

    def exchange(self, numbers, topic='disparity', pair=None, timeout=20.0, **keys):
        """Send pairs one after the other, each when the one before has come back.

        Each is `pair`, or random and of the number's own.
        """
        if topic not in self._met:
            self._meet(numbers[0], topic, pair or random_pair(), **keys)
        for number in numbers:
            self.send_infos()
            self.send_pair(number, pair or random_pair(number), **keys)
            assert self.spin_until(lambda number=number: number in self.stamps(topic), timeout), (
                f'pair {number} did not come back; got {self.stamps(topic)}')

    def _meet(self, number, topic, pair, **keys):
        """Send pairs until one comes back, and forget what came.

        A process may know a topic of the other one before the other one knows this: what is sent
        meanwhile is lost, as the middleware has it.
        """
        for attempt in range(1, 11):
            self.send_infos()
            nanosec = 50_000_000 * attempt  # older than the pair `number` itself
            self.send_pair(number - 1, pair, nanosec=nanosec, **keys)
            if self.spin_until(lambda nanosec=nanosec: nanosec in [
                    message.header.stamp.nanosec for message in self.received[topic]
                    if message.header.stamp.sec == number - 1], 3):
                break
        self._met.add(topic)
        for messages in self.received.values():
            messages.clear()

    def call(self, kind, name, request, timeout=10.0):
        client = self.node.create_client(kind, name)
        assert self.spin_until(client.service_is_ready, 60)
        future = client.call_async(request)
        assert self.spin_until(future.done, timeout)
        self.node.destroy_client(client)
        return future.result()

    def set_parameter(self, name, value):
        kind = {float: ('double_value', ParameterType.PARAMETER_DOUBLE),
                int: ('integer_value', ParameterType.PARAMETER_INTEGER),
                bool: ('bool_value', ParameterType.PARAMETER_BOOL),
                str: ('string_value', ParameterType.PARAMETER_STRING)}[type(value)]
        parameter = Parameter(name=name, value=ParameterValue(
            type=kind[1], **{kind[0]: value}))
        return self.call(SetParameters, 'stereo_node/set_parameters',
                         SetParameters.Request(parameters=[parameter])).results[0]

    def _keep_diagnostics(self, message):
        if message.status[0].name.startswith(f'{self.namespace}/'):
            self.diagnostics = {status.name: status for status in message.status}

    def diagnostic(self, name):
        """Level, text and values of the next report about `name`."""
        self.diagnostics = {}
        assert self.spin_until(lambda: self.diagnostics, 5)
        return self.read_diagnostic(name)

    def diagnostic_while(self, send, text, name='images', timeout=60.0, counted=()):
        """The first report about `name` with `text` in it, while `send` is called at 10 Hz.

        The values `counted` must be above 0 as well.
        """
        got, deadline = [], time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.diagnostics = {}
            send()
            self.spin_for(0.1)
            if self.diagnostics:
                got.append(self.read_diagnostic(name))
                if text in got[-1][1] and all(float(got[-1][2][key]) > 0 for key in counted):
                    return got[-1]
        raise AssertionError(f'"{text}" was not reported, but {[report[1] for report in got]}')

    def read_diagnostic(self, name):
        status = self.diagnostics[f'{self.namespace}/stereo_node: {name}']
        return status.level, status.message, {item.key: item.value for item in status.values}
