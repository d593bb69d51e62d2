"""stereo_node: rectified stereo pairs in; disparity, depth, cloud and boxes out.

A managed node: configured it holds a network and publishers, active it takes pairs as well. The
executor thread pairs images and answers parameters and services, one worker thread processes the
newest pair, and networks are loaded on a third.
"""

import logging
import os
import signal
import sys
from threading import Event
import traceback
from typing import Optional

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import SetBool
import torch

from svp_ros.memory import keep_freed_memory
from svp_ros.ros import box_messages, diagnostics, parameters
from svp_ros.ros.intake import Intake
from svp_ros.ros.life_cycle import EXPECTED, ManagedNode
from svp_ros.ros.model_switch import ModelSwitch
from svp_ros.ros.outputs import Outputs
from svp_ros.ros.worker import LOG_PERIOD_S, StageTimes, Worker

DEFAULT_THREADS = torch.get_num_threads()
DIAGNOSTICS_PERIOD_S = 1.0
STOP_S = 10.0  # a pair in work that takes longer is left behind
GIVE_UP_S = 2.0  # likewise a network that is still loading


class StereoNode(ManagedNode):
    """The ROS node; with `autostart` it is active when it has been made.

    Args:
        given_up: when it is set, the node stops waiting for a network that loads.
        options: of rclpy's Node, such as namespace or parameter_overrides.

    Raises:
        EXPECTED (of life_cycle): For parameters that cannot work, and with `autostart`
            for a network that cannot run.
    """

    def __init__(self, given_up: Optional[Event] = None, **options):
        super().__init__('stereo_node', **options)
        self._given_up = given_up or Event()
        self._models = ModelSwitch(self, self._on_switched)
        self._publishers_made = []
        self._enable = None
        self._intake: Optional[Intake] = None
        self._worker: Optional[Worker] = None
        self._left_behind: Optional[Worker] = None
        try:
            self.settings = parameters.declare(self)
            self.add_on_set_parameters_callback(self._on_parameters)
            self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 5)
            self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics,
                              clock=Clock(clock_type=ClockType.STEADY_TIME))
            if self.settings.autostart:
                self.autostart()
        except Exception:
            self.destroy_node()
            raise

    def configure(self) -> None:
        """Load a network, run it once, create publishers and the service."""
        left, right = (self.resolve_topic_name(f'{side}/image_rect') for side in ('left', 'right'))
        if left == right:
            raise ValueError(f'left/image_rect and right/image_rect are both {left}; remap them '
                             'to the two cameras')
        self._set_threads()
        self._models.load(self.settings, self._given_up)
        before = set(self.publishers)
        try:
            self._outputs = Outputs(self)
            self._times = StageTimes(self)
        finally:  # even if security or a wrong override of QoS refuses one of them
            self._publishers_made = [made for made in self.publishers if made not in before]
        self._enable = self.create_service(SetBool, '~/enable', self._on_enable)
        if box_messages.Detection3DArray is None:
            self.get_logger().info('vision_msgs is not installed: no topic detections_3d')

    def activate(self) -> None:
        """Subscribe and start the worker."""
        if self.hangs:
            raise RuntimeError('the pair in work at the deactivation is still so; restart the '
                               'node')
        self._left_behind = None
        self._set_threads()
        self._intake = Intake(self, self.settings.changed(self._models.network))
        self._worker = Worker(self, self._intake, self._models, self._outputs, self._times)
        self.get_logger().info(f'{self._describe_model()}, waiting for '
                               f'{", ".join(self._intake.topics.values())}')

    def deactivate(self) -> None:
        """Stop the worker and unsubscribe."""
        intake, worker = self._intake, self._worker
        self._intake = self._worker = None
        if worker is not None:
            worker.stop()
            if not worker.wait(STOP_S):
                self._left_behind = worker
                self.get_logger().error(
                    f'the pair in work is not ready after {STOP_S:.0f} s: '
                    f'{self._models.predictor.device} hangs or is overloaded; it is left behind')
        if intake is not None:
            intake.close()

    def cleanup(self) -> None:
        """Release the network, the publishers and the service."""
        for publisher in self._publishers_made:
            self.destroy_publisher(publisher)
        if self._enable is not None:
            self.destroy_service(self._enable)
        self._publishers_made, self._enable = [], None
        self._models.drop()

    def stop(self) -> bool:
        """End all threads; False if one goes on that only the end of the process can end."""
        self.deactivate()
        return self._models.wait(GIVE_UP_S) and not self.hangs

    @property
    def hangs(self) -> bool:
        """Whether a pair was left behind that took too long, and is still in work."""
        return self._left_behind is not None and not self._left_behind.wait(0)

    def _set_threads(self) -> None:
        torch.set_num_threads(self.settings.num_threads or DEFAULT_THREADS)

    def _describe_model(self) -> str:
        predictor = self._models.predictor
        card = predictor.card
        return (f'model {card["name"]} ({card["sha256"][:12]}) on {predictor.device}, '
                f'{card["engine"]} {card["precision"]}')

    def _on_switched(self) -> None:
        if self._intake is not None:
            self._intake.rig.size = self.settings.output_size
            self._worker.statistics.forget_latencies()
        self.get_logger().info(f'{self._describe_model()} runs now')

    def _on_parameters(self, changes) -> SetParametersResult:
        settings, result = parameters.change(self.settings, changes, self.state == 'active')
        try:
            self._models.want(settings)
        except OSError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.settings = settings
        if self._intake is not None:
            self._intake.sync.tolerance = settings.tolerance
        return result

    def _on_enable(self, request, response):
        response.success = self._intake is not None
        if response.success:
            self._intake.enable(request.data)
            response.message = 'processing pairs' if request.data else 'paused'
        else:
            response.message = f'the node is {self.state}; activate it'
        return response

    def _publish_diagnostics(self) -> None:
        models, predictor = self._models, self._models.predictor
        worker = self._worker or self._left_behind
        if self._worker is None:
            report = diagnostics.EMPTY_REPORT
            statuses = [diagnostics.idle_status(self.state, self.get_fully_qualified_name(),
                                                self.failure)]
        else:
            report = self._worker.statistics.report(self._intake.sync)
            diagnosis, findings = self._intake.diagnose(report['recent']), self._intake.findings()
            statuses = [
                diagnostics.image_status(report, self._intake.sync, diagnosis,
                                         self._intake.enabled),
                diagnostics.calibration_status(self._intake.rig, findings,
                                               self._intake.pair_check.alignment)]
        if predictor is not None:
            statuses.append(diagnostics.network_status(
                report, predictor.card, predictor.device, self.settings.max_processing_time_ms,
                worker.working_s if worker else 0.0, models.loading, models.problem,
                predictor.classes, self.settings.classes))
        self._diagnostics.publish(diagnostics.diagnostic_array(
            statuses, self.get_fully_qualified_name()[1:],
            predictor.device if predictor else 'none', self.get_clock().now().to_msg()))


class _ToRos(logging.Handler):
    """Shows what the library logs, such as how long a calibration takes, in the log of ROS."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            get_logger('svp_ros').warning(record.getMessage())
        else:
            get_logger('svp_ros').info(record.getMessage())


def main(args=None) -> int:
    """Run the node until SIGINT or SIGTERM; return 1 if it could not start."""
    keep_freed_memory()
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # rcl, for arguments, files and security
        print(f'stereo_node: ROS does not start: {error}', file=sys.stderr)
        return 1
    library = logging.getLogger('svp_ros')
    library.setLevel(logging.INFO)
    library.handlers = [_ToRos()]
    try:
        node = StereoNode(stop)
    except InterruptedError:
        _leave(0)
    except EXPECTED as error:
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
        if not node.stop():
            _leave(1 if node.hangs else 0)
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # Python would let them kill its own end
    return 0


def _leave(code: int) -> None:
    """End the process although a thread is in the middle of a computation."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == '__main__':
    sys.exit(main())
