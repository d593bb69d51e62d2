"""stereo_node: rectified stereo pairs in; disparity, depth, cloud and boxes out.

The executor thread pairs images and answers parameters and services; one worker thread takes the
newest pair and convert, predict, convert, publish, count.
"""

import signal
import sys
from threading import Event, Thread
from time import monotonic, perf_counter
import traceback

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Float32
from std_srvs.srv import SetBool
import torch

from svp_ros.frame import make_frame, same_channels
from svp_ros.predictor import StereoPredictor
from svp_ros.rig import StereoRig
from svp_ros.ros import box_messages, diagnostics, parameters
from svp_ros.ros.conversions import image_to_array, nanoseconds
from svp_ros.ros.outputs import Outputs
from svp_ros.ros.pacer import Pacer
from svp_ros.ros.pair_check import PairCheck
from svp_ros.ros.sync import PairSynchronizer
from svp_ros.ros.sync_watch import SyncWatch

STAGES = 'preprocess', 'inference', 'postprocess', 'total', 'age'
LOG_PERIOD_S = 5.0
DIAGNOSTICS_PERIOD_S = 1.0


class StereoNode(Node):
    """The ROS node; raises ValueError or FileNotFoundError for parameters that cannot work."""

    def __init__(self):
        super().__init__('stereo_node')
        self.settings = parameters.declare(self)
        self.add_on_set_parameters_callback(self._on_parameters)
        settings = self.settings
        if self.resolve_topic_name('left/image_rect') == self.resolve_topic_name(
                'right/image_rect'):
            raise ValueError('left/image_rect and right/image_rect are both '
                             f'{self.resolve_topic_name("left/image_rect")}; remap them to the '
                             'two cameras')
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        self.predictor = StereoPredictor.load(
            settings.model, device=settings.device,
            network_size=(settings.network_height, settings.network_width),
            engine=settings.engine, precision=settings.precision)
        self._sync = PairSynchronizer(settings.tolerance, settings.queue_size)
        self._statistics = diagnostics.Statistics()
        self._outputs = Outputs(self)
        self._inputs = {}
        for side in ('left', 'right'):
            self._subscribe_images(side)
            self._subscribe(f'{side}/camera_info', CameraInfo, f'{side}/camera_info',
                            lambda message, side=side: self._rig.update(side, message))
        topics = {key: subscription.topic_name for key, subscription in self._inputs.items()}
        size = ((settings.network_width, settings.network_height)
                if settings.output_resolution == 'network' else None)
        self._rig = StereoRig(topics, settings.rectify, settings.baseline_override, size)
        self._pair_check = PairCheck(self.get_logger())
        self._watch = SyncWatch(self, self._sync, self._inputs)
        self._logged_findings = set()
        self._debug = {stage: self.create_publisher(Float32, f'~/debug/{stage}_ms', 5)
                       for stage in STAGES}
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 5)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._working_since = None  # time.monotonic of the pair in work
        self._enabled = True
        self.create_service(SetBool, '~/enable', self._on_enable)
        self._pacer = Pacer(lambda: self.settings.target_rate)
        self._worker = Thread(target=self._work, name='stereo_worker')
        self._worker.start()
        card = self.predictor.card
        self.get_logger().info(f'model {card["name"]} ({card["sha256"][:12]}) on '
                               f'{self.predictor.device}, {card["engine"]} {card["precision"]}, '
                               'waiting for '
                               f'{", ".join(topics.values())}')
        if box_messages.Detection3DArray is None:
            self.get_logger().info('vision_msgs is not installed: no topic detections_3d')

    def stop(self) -> None:
        """End the worker thread; a frame in progress is finished first."""
        self._pacer.stop()
        self._sync.close()
        self._worker.join()
        self._pair_check.close()

    def _subscribe_images(self, side: str) -> None:
        key = f'{side}/image_rect'
        kind, topic = Image, key
        if self.settings.image_transport == 'compressed':
            kind, topic = CompressedImage, f'{self.resolve_topic_name(key)}/compressed'
        self._subscribe(key, kind, topic, lambda message: self._on_image(side, message))

    def _subscribe(self, key: str, kind, topic: str, callback) -> None:
        qos = QoSProfile(depth=self.settings.queue_size,
                         reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._inputs[key] = self.create_subscription(
            kind, topic, callback, qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies())

    def _on_image(self, side: str, message) -> None:
        if self._enabled:
            self._sync.add(side, nanoseconds(message.header.stamp), message)

    def _on_parameters(self, changes) -> SetParametersResult:
        self.settings, result = parameters.change(self.settings, changes)
        self._sync.tolerance = self.settings.tolerance
        return result

    def _on_enable(self, request, response):
        self._enabled = request.data
        self._sync.restart_clocks()
        response.success = True
        response.message = 'processing pairs' if request.data else 'paused'
        return response

    def _work(self) -> None:
        while self._pacer.wait() and (pair := self._sync.take()) is not None:
            self._working_since = monotonic()
            try:
                self._process(*pair)
            except ValueError as error:
                self._statistics.count_bad_frame(str(error))
                self.get_logger().warning(f'pair dropped: {error}',
                                          throttle_duration_sec=LOG_PERIOD_S)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                text = (f'{self.predictor.device} is out of memory; stop other programs on it, or '
                        'take a smaller model or network size')
                self._statistics.count_bad_frame(text, diagnostics.ERROR)
                self.get_logger().error(f'pair dropped: {text}',
                                        throttle_duration_sec=LOG_PERIOD_S)
            except Exception as error:  # one bad pair must not end the node, nor pass in silence
                self._statistics.count_bad_frame(
                    f'internal error, {type(error).__name__}: {error}', diagnostics.ERROR)
                self.get_logger().error(f'pair dropped:\n{traceback.format_exc()}',
                                        throttle_duration_sec=LOG_PERIOD_S)
            finally:
                self._working_since = None

    def _process(self, left, right) -> None:
        wanted = self._outputs.wanted()
        if not wanted:
            self._statistics.count('skipped')
            if not self._pair_check.due():
                return
        start = perf_counter()
        settings = self.settings
        pair = self._rig.rectified_pair(image_to_array(left), image_to_array(right))
        if self._pair_check.due():
            self._pair_check.offer(pair.left, pair.right, pair.camera)
        if not wanted:
            return
        converted = perf_counter()
        result = self.predictor.predict(*same_channels(pair.left, pair.right), pair.camera)
        predicted = perf_counter()
        frame = make_frame(left.header, pair, result, settings)
        self._outputs.publish(frame)
        self._count(frame, result.timing, start, converted, predicted)

    def _count(self, frame, timing, start: float, converted: float, predicted: float) -> None:
        now = perf_counter()
        age = self.get_clock().now().nanoseconds - nanoseconds(frame.header.stamp)
        latencies = dict(zip(STAGES, (
            timing['preprocess'] + 1000 * (converted - start), timing['inference'],
            timing['postprocess'] + 1000 * (now - predicted), 1000 * (now - start),
            age / 1e6)))
        self._statistics.count_frame(latencies, frame.disparity, frame.confidence)
        for stage, publisher in self._debug.items():
            if publisher.get_subscription_count():
                publisher.publish(Float32(data=latencies[stage]))

    def _findings(self) -> tuple:
        silent = [f'{side}/camera_info' for side in self._rig.missing]
        waiting = silent and self._rig.findings  # pairs came, so the infos are late
        return (*self._rig.findings, *(self._watch.missing_infos(silent) if waiting else ()),
                *self._pair_check.findings)

    def _log_findings(self, findings: tuple) -> None:
        for finding in findings:
            if finding.kind not in self._logged_findings:
                self.get_logger().warning(finding.text)
        self._logged_findings = {finding.kind for finding in findings}

    def _publish_diagnostics(self) -> None:
        report = self._statistics.report(self._sync)
        since = self._working_since
        working_s = 0.0 if since is None else monotonic() - since
        diagnosis = self._watch.check(report['recent']) if self._enabled else None
        findings = self._findings()
        self._log_findings(findings)
        statuses = [
            diagnostics.image_status(report, self._sync, diagnosis, self._enabled),
            diagnostics.calibration_status(self._rig, findings, self._pair_check.alignment),
            diagnostics.network_status(report, self.predictor.card, self.predictor.device,
                                       self.settings.max_processing_time_ms, working_s)]
        self._diagnostics.publish(diagnostics.diagnostic_array(
            statuses, self.get_fully_qualified_name()[1:], self.predictor.device,
            self.get_clock().now().to_msg()))


def main(args=None) -> int:
    """Run the node until SIGINT or SIGTERM; return 1 if it could not start."""
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # rcl, for arguments, files and security
        print(f'stereo_node: ROS does not start: {error}', file=sys.stderr)
        return 1
    try:
        node = StereoNode()
    except (ValueError, OSError, RuntimeError) as error:  # the last from rcl (security) and CUDA
        print(f'stereo_node: {error}', file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set() and rclpy.ok():
            try:
                executor.spin_once(timeout_sec=0.1)
            except Exception:  # one failing callback must not end the node, nor pass in silence
                node.get_logger().error(f'callback failed:\n{traceback.format_exc()}',
                                        throttle_duration_sec=LOG_PERIOD_S)
    finally:
        node.stop()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
