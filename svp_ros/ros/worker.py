"""The thread that turns pairs into outputs: convert, predict, convert, publish, count."""

from threading import Thread
from time import monotonic, perf_counter
import traceback

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Float32
import torch

from svp_ros.frame import Frame, make_frame, same_channels
from svp_ros.ros import diagnostics
from svp_ros.ros.conversions import image_to_array, nanoseconds
from svp_ros.ros.intake import Intake
from svp_ros.ros.model_switch import ModelSwitch
from svp_ros.ros.outputs import Outputs
from svp_ros.ros.pacer import Pacer

STAGES = 'preprocess', 'inference', 'postprocess', 'total', 'age'
LOG_PERIOD_S = 5.0


class StageTimes:
    """Publishers of the latency of each stage, milliseconds.

    Args:
        node: rclpy node that owns them.
    """

    def __init__(self, node: LifecycleNode):
        self._publishers = {stage: node.create_publisher(Float32, f'~/debug/{stage}_ms', 5)
                            for stage in STAGES}

    def publish(self, latencies: dict[str, float]) -> None:
        """Publish what somebody listens to."""
        for stage, publisher in self._publishers.items():
            if publisher.get_subscription_count():
                publisher.publish(Float32(data=latencies[stage]))


class Worker:
    """Processes the newest pair of an intake until it is stopped.

    Args:
        node: whose settings, clock and log are used.
        intake: where pairs come from.
        models: holds the predictor; it may be another one for the next pair.
        outputs: where results go.
        times: where latencies go.
    """

    def __init__(self, node: LifecycleNode, intake: Intake, models: ModelSwitch,
                 outputs: Outputs, times: StageTimes):
        self.statistics = diagnostics.Statistics()
        self._node = node
        self._intake = intake
        self._models = models
        self._outputs = outputs
        self._times = times
        self._working_since = None  # time.monotonic of the pair in work
        self._stopped = False
        self._pacer = Pacer(lambda: node.settings.target_rate)
        self._thread = Thread(target=self._work, name='stereo_worker', daemon=True)
        self._thread.start()

    @property
    def working_s(self) -> float:
        """For how long the pair in work has been so, seconds; 0 if there is none."""
        since = self._working_since
        return 0.0 if since is None else monotonic() - since

    def stop(self) -> None:
        """Take no more pairs; the one in work is finished."""
        self._pacer.stop()
        self._intake.sync.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the thread; from then on nothing is published.

        Returns:
            False if it has not come; whatever the pair in work still yields is thrown away.
        """
        self._thread.join(timeout_s)
        self._stopped = True
        return not self._thread.is_alive()

    def _work(self) -> None:
        logger = self._node.get_logger()
        while self._pacer.wait() and (pair := self._intake.sync.take()) is not None:
            self._working_since = monotonic()
            predictor = self._models.predictor
            try:
                self._process(*pair, predictor)
            except ValueError as error:
                self.statistics.count_bad_frame(str(error))
                logger.warning(f'pair dropped: {error}', throttle_duration_sec=LOG_PERIOD_S)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                text = (f'{predictor.device} is out of memory; stop other programs '
                        'on it, or take a smaller model or network size')
                self.statistics.count_bad_frame(text, diagnostics.ERROR)
                logger.error(f'pair dropped: {text}', throttle_duration_sec=LOG_PERIOD_S)
            except Exception as error:  # one bad pair must not end the node, nor pass in silence
                if self._stopped or not self._node.context.ok():  # nobody publishes any more
                    return
                self.statistics.count_bad_frame(
                    f'internal error, {type(error).__name__}: {error}', diagnostics.ERROR)
                logger.error(f'pair dropped:\n{traceback.format_exc()}',
                             throttle_duration_sec=LOG_PERIOD_S)
            finally:
                self._working_since = None

    def _process(self, left, right, predictor) -> None:
        wanted, check = self._outputs.wanted(), self._intake.pair_check
        due = check.due()
        if not wanted:
            self.statistics.count('skipped')
            if not due:
                return
        start = perf_counter()
        settings = self._node.settings
        pair = self._intake.rig.rectified_pair(image_to_array(left), image_to_array(right))
        if due and pair.camera:
            check.offer(pair.left, pair.right, pair.camera)
        if not wanted:
            return
        converted = perf_counter()
        result = predictor.predict(*same_channels(pair.left, pair.right), pair.camera)
        predicted = perf_counter()
        frame = make_frame(left.header, pair, result, settings)
        if self._stopped:
            return
        self._outputs.publish(frame)
        self._count(frame, result.timing, start, converted, predicted)

    def _count(self, frame: Frame, timing: dict[str, float], start: float, converted: float,
               predicted: float) -> None:
        now = perf_counter()
        age = self._node.get_clock().now().nanoseconds - nanoseconds(frame.header.stamp)
        latencies = dict(zip(STAGES, (
            timing['preprocess'] + 1000 * (converted - start), timing['inference'],
            timing['postprocess'] + 1000 * (now - predicted), 1000 * (now - start),
            age / 1e6)))
        self.statistics.count_frame(latencies, frame.disparity, frame.confidence)
        self._times.publish(latencies)
