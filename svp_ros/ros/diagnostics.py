"""Counters and latencies of the node, and the DiagnosticArray made from them once a second."""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
import os
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Optional

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np

RATES = ('left', 'right', 'paired', 'unpaired left', 'unpaired right', 'late', 'replaced',
         'processed')
STUCK_S = 5.0  # a pair that takes longer is reported while it is in work
FEW_PIXELS = 0.01  # share of valid pixels that is worth a warning
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
EMPTY_REPORT = {'latencies': {}, 'quality': {}}  # of a node that is not active
NEXT = {'unconfigured': 'configure', 'inactive': 'activate'}  # transition towards active


class Statistics:
    """What the worker thread counted; safe to read from another thread."""

    def __init__(self):
        self._lock = Lock()
        self._counts = Counter()
        self._latencies = defaultdict(lambda: deque(maxlen=100))
        self._quality = {}
        self._problem = None
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

    def count_bad_frame(self, reason: str, level: bytes = WARN) -> None:
        """Count one dropped frame and remember why; ERROR if it is our fault."""
        with self._lock:
            self._counts['dropped'] += 1
            self._problem = level, reason

    def count(self, what: str) -> None:
        """Count any other event, such as a pair `skipped` because nobody listens."""
        with self._lock:
            self._counts[what] += 1

    def forget_latencies(self) -> None:
        """Start anew with latencies, because another network runs."""
        with self._lock:
            self._latencies.clear()

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
            problem = self._problem if recent['dropped'] else None
            return {'totals': totals, 'recent': recent, 'period': period,
                    'latencies': latencies, 'quality': dict(self._quality), 'problem': problem}


def idle_status(state: str, node_name: str, failure: Optional[Exception]) -> DiagnosticStatus:
    """Say that no images are taken, and which transition changes it.

    Args:
        state: of the life cycle, not active.
        node_name: with its namespace.
        failure: why the last transition failed, if it did.
    """
    text = state
    if state in NEXT:
        text += f', no images are taken: ros2 lifecycle set {node_name} {NEXT[state]}'
    if failure is not None:
        text = f'{NEXT.get(state, "transition")} failed: {failure}'
    return _status('images', OK if failure is None else ERROR, text, {'state': state})


def image_status(report: dict, sync, diagnosis, enabled: bool) -> DiagnosticStatus:
    """Say whether images come, pair and get through, and what to do when they do not.

    Args:
        report: from `Statistics.report`.
        sync: the PairSynchronizer.
        diagnosis: why no pair comes, from `sync_doctor.diagnose`, or None.
        enabled: whether the node processes pairs at all.
    """
    recent, totals = report['recent'], report['totals']
    level, text = OK, f'{recent["processed"] / report["period"]:.1f} pairs/s'
    if not enabled:
        text = 'disabled; call ~/enable to start'
    elif diagnosis is not None:
        level, text = ERROR if diagnosis.error else WARN, diagnosis.text
    elif recent['late'] > recent['paired']:
        level, text = WARN, (
            'most stamps do not increase; check the clock of the camera driver, and that each '
            'image topic has one publisher')
    elif report['problem']:
        level, text = report['problem']
    elif recent['jumps back']:
        level, text = WARN, ('stamps jumped back by more than 1 s: a recording was restarted or a '
                             'clock was set; pairing starts anew')
    elif recent['skipped'] and not recent['processed']:
        text = 'idle: nobody subscribes to an output'
    values = {f'{name} per second': f'{recent[name] / report["period"]:.1f}' for name in RATES}
    values.update((f'{name} in total', totals[name]) for name in (*RATES, 'skipped', 'dropped',
                                                              'jumps back'))
    offsets = sync.offsets()
    values['stamp offset (ms)'] = 'unknown' if offsets is None else f'{offsets.median * 1e3:.3f}'
    values['spread of the stamp offset (ms)'] = (
        'unknown' if offsets is None else f'{offsets.spread * 1e3:.3f}')
    values['suggested approximate_sync_tolerance (s)'] = (
        'unknown' if offsets is None else f'{offsets.suggested_tolerance:.4f}')
    values['tolerance in use (s)'] = f'{sync.tolerance / 1e9:g}'
    values['seconds since the last pair'] = f'{monotonic() - sync.last["pair"]:.1f}'
    values['state'] = 'active'
    values['cause'] = diagnosis.cause if enabled and diagnosis else 'none'
    return _status('images', level, text, values)


def calibration_status(rig, findings=(), alignment=None) -> DiagnosticStatus:
    """List what there is to say about calibration, the worst first.

    Args:
        rig: the StereoRig.
        findings: about its CameraInfo and its images.
        alignment: RowAlignment of the latest images, if it is known.
    """
    findings = sorted(findings, key=lambda finding: not finding.error)
    level = OK if not findings else ERROR if findings[0].error else WARN
    text = '; '.join(finding.text for finding in findings) or (
        'calibrated' if rig.camera else 'waiting for images')
    values = {finding.kind: finding.text for finding in findings}
    camera = rig.camera
    if camera is not None:
        values.update({
            'image size': f'{camera.width}x{camera.height}', 'fx (px)': f'{camera.fx:.3f}',
            'baseline (m)': f'{camera.baseline:.6f}',
            'cx_left - cx_right (px)': f'{camera.doffs:.3f}',
            'rectified by this node': rig.rectifies})
    if alignment is not None:
        values.update({
            'row error (px)': f'{alignment.error:.2f}',
            'vertical offset (px)': f'{alignment.offset:+.2f}',
            'negative disparities (%)': f'{100 * alignment.negative:.0f}',
            'matched points': alignment.matches})
    return _status('calibration', level, text, values)


def network_status(report: dict, card: dict, device: str, limit_ms: float,
                   working_s: float = 0.0, loading: str = '',
                   problem: str = '', found: Sequence[str] = (),
                   asked: Sequence[str] = ('all',)) -> DiagnosticStatus:
    """Report the model, its latencies against the limit, memory and the quality of the output.

    Args:
        report: from `Statistics.report`.
        card: of the predictor.
        device: where the network runs.
        limit_ms: what a frame may take.
        working_s: for how long the pair in work has been so, seconds.
        loading: name of the model that will take over, if there is one.
        problem: why another model did not.
        found: classes of objects that the model finds.
        asked: those of the parameter `classes`.
    """
    total = report['latencies'].get('total')
    unknown = [name for name in asked if name not in ('all', *found)]
    published = [name for name in found if 'all' in asked or name in asked]
    level = OK
    text = 'no frame yet' if total is None else f'{total[0]:.1f} ms per frame'
    if working_s > STUCK_S:
        level, text = ERROR, (
            f'one pair has been in work for {working_s:.0f} s: {device} hangs or is overloaded; '
            'look for other programs on it, restart the node')
    else:
        warnings = [problem] if problem else []
        if unknown:
            warnings.append(f'classes names {", ".join(unknown)}, but {card["name"]} finds '
                            f'{", ".join(found) or "no objects"}; name some of these, or all')
        if report['quality'].get('valid pixels', 1.0) < FEW_PIXELS:
            warnings.append(
                f'less than {FEW_PIXELS:.0%} of the pixels of the last frame are valid; check '
                'lenses and light, the calibration, and min_depth, max_depth and '
                'confidence_threshold')
        if total is not None and total[1] > limit_ms:
            warnings.append(
                f'95 % of the frames take up to {total[1]:.0f} ms, more than '
                f'max_processing_time_ms ({limit_ms:.0f}); take a smaller model or size')
        if warnings:
            level, text = WARN, '. Also: '.join(warnings)
    values = {'model': card['name'], 'sha256': card['sha256'], 'loading': loading or 'none',
              'device': device, 'classes': ', '.join(published) or 'none',
              'engine': f'{card["engine"]} {card["precision"]}',
              'memory (MB)': f'{_resident_mb():.0f}'}
    for stage, (median, high) in report['latencies'].items():
        values[f'{stage} p50 (ms)'] = f'{median:.2f}'
        values[f'{stage} p95 (ms)'] = f'{high:.2f}'
    values.update((name, f'{value:.3f}') for name, value in report['quality'].items())
    return _status('network', level, text, values)


def diagnostic_array(statuses: list[DiagnosticStatus], node_name: str, hardware: str,
                     stamp) -> DiagnosticArray:
    """Put statuses under the node's name into one message."""
    message = DiagnosticArray(status=statuses)
    message.header.stamp = stamp
    for status in statuses:
        status.name = f'{node_name}: {status.name}'
        status.hardware_id = hardware
    return message


def _resident_mb() -> float:
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1024 ** 2


def _status(name: str, level: bytes, text: str, values: dict) -> DiagnosticStatus:
    return DiagnosticStatus(
        name=name, level=level, message=text,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])
