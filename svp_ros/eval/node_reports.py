"""What a node says about itself in a recording: latencies, diagnostics, classes of boxes."""

from collections.abc import Sequence
import re
from typing import Optional

import numpy as np

from svp_ros.data.bag_boxes import decode_solids
from svp_ros.data.rosbag2 import BagReader

STAGES = ('preprocess', 'inference', 'postprocess', 'total', 'age', 'round_trip')


def read_latencies(bag: BagReader, disparity_topic: str, info_topic: str) -> dict[str, dict]:
    """Collect latencies in milliseconds by stage, see `percentiles`.

    The stages are the node's own (`~/debug/<stage>_ms`). If the left camera_info was recorded
    too, `round_trip` is the time from its arrival to that of the disparity with the same stamp,
    seen from the recorder.
    """
    stages = {}
    for topic in bag.topics_of('std_msgs/msg/Float32'):
        name = re.search(r'/debug/(\w+)_ms$', topic)
        if name:
            stages[name[1]] = [message.data for _, _, message in bag.messages([topic])]
    if info_topic in bag.types:
        sent = {raw.stamp: raw.time for raw in bag.raw([info_topic])}
        stages['round_trip'] = [(raw.time - sent[raw.stamp]) / 1e6
                                for raw in bag.raw([disparity_topic]) if raw.stamp in sent]
    return {stage: percentiles(stages[stage])
            for stage in sorted(stages, key=lambda stage: (STAGES + (stage,)).index(stage))
            if stages[stage]}


def percentiles(values: Sequence[float]) -> dict:
    """Return p50, p95, p99, max and count of some values."""
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return {'p50': float(p50), 'p95': float(p95), 'p99': float(p99), 'max': float(max(values)),
            'count': len(values)}


def read_diagnostics(bag: BagReader) -> dict[str, dict[str, str]]:
    """Return the last values of every status in /diagnostics by name of the status."""
    statuses = {}
    if '/diagnostics' in bag.types:
        for _, _, message in bag.messages(['/diagnostics']):
            for status in message.status:
                statuses[status.name] = {
                    'message': status.message,
                    **{value.key: value.value for value in status.values}}
    return statuses


def node_total(node: dict[str, dict[str, str]], what: str) -> Optional[int]:
    """Return a total of `read_diagnostics`, such as `processed`; None if it was not recorded."""
    for values in node.values():
        if f'{what} in total' in values:
            return int(values[f'{what} in total'])
    return None


def read_classes(bag: BagReader, boxes_topic: str) -> tuple[str, ...]:
    """Return the classes of boxes that the node finds, none without a detection head.

    They are in its diagnostics; if these were not recorded, the classes are those of the boxes.
    """
    for values in read_diagnostics(bag).values():
        if 'classes' in values:
            return () if values['classes'] == 'none' else tuple(values['classes'].split(', '))
    return tuple(sorted({label for raw in bag.raw([boxes_topic])
                         for label in decode_solids(bag, raw).label}))
