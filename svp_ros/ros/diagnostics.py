"""Counters and latencies of the node, and the DiagnosticArray made from them once a second."""

from collections import Counter, defaultdict, deque
import resource
from threading import Lock
from time import monotonic

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Statistics:
    """What the worker thread counted; safe to read from another thread."""

    def __init__(self):
        self._lock = Lock()
        self._counts = Counter()
        self._latencies = defaultdict(lambda: deque(maxlen=100))
        self._quality = {}
        self._problem = ''
        self._before = Counter()
        self._time = monotonic()

    def count_frame(self, latencies: dict[str, float], disparity: np.ndarray,
                    confidence: np.ndarray) -> None:
        """Count one published frame; latencies in ms by stage, disparity NaN where invalid."""
        quality = {'valid pixels': float(np.isfinite(disparity).mean()),
                   'mean confidence': float(confidence.mean())}
        with self._lock:
            self._counts['processed'] += 1
            self._quality = quality
            for stage, value in latencies.items():
                self._latencies[stage].append(value)

    def count_bad_frame(self, reason: str) -> None:
        """Count one dropped frame and remember why."""
        with self._lock:
            self._counts['dropped'] += 1
            self._problem = reason

    def count(self, what: str) -> None:
        """Count any other event, such as a pair `skipped` because nobody listens."""
        with self._lock:
            self._counts[what] += 1

    def report(self, sync) -> dict:
        """Return totals, rates since the last report, latencies, quality and the last problem.

        Args:
            sync: PairSynchronizer whose counts are added.
        """
        with self._lock:
            totals = self._counts + sync.counts
            now = monotonic()
            recent = totals - self._before
            period, self._time, self._before = now - self._time, now, totals
            latencies = {stage: np.percentile(list(values), (50, 95))
                         for stage, values in self._latencies.items()}
            problem = self._problem if recent['dropped'] else ''
            return {'totals': totals, 'recent': recent, 'period': period,
                    'latencies': latencies, 'quality': dict(self._quality), 'problem': problem}


def image_status(report: dict, topics: dict[str, str], sync, enabled: bool) -> DiagnosticStatus:
    """Say whether images come, pair and get through, and what to do when they do not.

    Args:
        report: from `Statistics.report`.
        topics: resolved names by 'left/image_rect', 'right/image_rect', ...
        sync: the PairSynchronizer.
        enabled: whether the node processes pairs at all.
    """
    recent, totals = report['recent'], report['totals']
    offset_ms = None if sync.offset is None else sync.offset / 1e6
    silent = [topics[f'{side}/image_rect'] for side in ('left', 'right') if not recent[side]]
    level, text = OK, f'{recent["processed"] / report["period"]:.1f} pairs/s'
    if not enabled:
        text = 'disabled; call ~/enable to start'
    elif silent:
        level, text = WARN, f'no images on {" and ".join(silent)}'
    elif not recent['paired'] and recent['unpaired'] and offset_ms is not None:
        advice = ('raise approximate_sync_tolerance' if sync.tolerance else
                  'synchronise the cameras or set approximate_sync with a tolerance')
        level, text = ERROR, (f'left and right images never pair: their stamps differ by '
                              f'{abs(offset_ms):.2f} ms; {advice} above '
                              f'{abs(offset_ms) / 1000:.4f} s')
    elif recent['late'] > recent['paired']:
        level, text = WARN, 'most stamps do not increase; check the clock of the camera driver'
    elif report['problem']:
        level, text = WARN, report['problem']
    elif recent['skipped'] and not recent['processed']:
        text = 'idle: nobody subscribes to an output'
    values = {f'{name} per second': f'{recent[name] / report["period"]:.1f}'
              for name in ('left', 'right', 'paired', 'processed')}
    values.update((f'{name} in total', totals[name]) for name in (
        'left', 'right', 'paired', 'unpaired', 'late', 'replaced', 'skipped', 'dropped',
        'processed'))
    values['stamp offset (ms)'] = 'unknown' if offset_ms is None else f'{offset_ms:.3f}'
    return _status('images', level, text, values)


def calibration_status(rig) -> DiagnosticStatus:
    """List the findings about CameraInfo, the worst first."""
    findings = sorted(rig.findings, key=lambda finding: not finding.error)
    level = OK if not findings else ERROR if findings[0].error else WARN
    text = '; '.join(finding.text for finding in findings) or (
        'calibrated' if rig.camera else 'waiting for images')
    camera = rig.camera
    values = {} if camera is None else {
        'image size': f'{camera.width}x{camera.height}', 'fx (px)': f'{camera.fx:.3f}',
        'baseline (m)': f'{camera.baseline:.6f}', 'cx_left - cx_right (px)': f'{camera.doffs:.3f}',
        'rectified by this node': rig.rectifies}
    return _status('calibration', level, text, values)


def network_status(report: dict, card: dict, device: str, limit_ms: float) -> DiagnosticStatus:
    """Report the model, its latencies against the limit, memory and the quality of the output."""
    total = report['latencies'].get('total')
    slow = total is not None and total[1] > limit_ms
    text = 'no frame yet' if total is None else f'{total[0]:.1f} ms per frame'
    if slow:
        text = (f'95 % of the frames take up to {total[1]:.0f} ms, more than '
                f'max_processing_time_ms ({limit_ms:.0f}); take a smaller model or size')
    values = {'model': card['name'], 'sha256': card['sha256'], 'device': device,
              'memory (MB)': f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}'}
    for stage, (median, high) in report['latencies'].items():
        values[f'{stage} p50 (ms)'] = f'{median:.2f}'
        values[f'{stage} p95 (ms)'] = f'{high:.2f}'
    values.update((name, f'{value:.3f}') for name, value in report['quality'].items())
    return _status('network', WARN if slow else OK, text, values)


def diagnostic_array(statuses: list[DiagnosticStatus], node_name: str, hardware: str,
                     stamp) -> DiagnosticArray:
    """Put statuses under the node's name into one message."""
    message = DiagnosticArray(status=statuses)
    message.header.stamp = stamp
    for status in statuses:
        status.name = f'{node_name}: {status.name}'
        status.hardware_id = hardware
    return message


def _status(name: str, level: bytes, text: str, values: dict) -> DiagnosticStatus:
    return DiagnosticStatus(
        name=name, level=level, message=text,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])
