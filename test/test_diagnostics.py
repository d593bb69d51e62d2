import numpy as np
import pytest

from svp_ros.rig import StereoRig
from svp_ros.ros.diagnostics import (
    calibration_status,
    ERROR,
    image_status,
    network_status,
    OK,
    Statistics,
    WARN,
)
from svp_ros.ros.sync import PairSynchronizer

TOPICS = {'left/image_rect': '/cam/left', 'right/image_rect': '/cam/right',
          'left/camera_info': '/cam/left/info', 'right/camera_info': '/cam/right/info'}
MS = 1_000_000


def image_message(sync, statistics=None, enabled=True):
    statistics = statistics or Statistics()
    status = image_status(statistics.report(sync), TOPICS, sync, enabled)
    return status.level, status.message, {item.key: item.value for item in status.values}


def feed(sync, offset, frames=8):
    for frame in range(frames):
        sync.add('left', frame * 33 * MS, None)
        sync.add('right', frame * 33 * MS + offset, None)


def test_a_silent_camera_is_named():
    sync = PairSynchronizer()
    sync.add('left', 1, None)
    assert image_message(sync)[:2] == (WARN, 'no images on /cam/right')


def test_stamps_that_never_meet_get_the_offset_and_the_parameter_to_set():
    sync = PairSynchronizer()
    feed(sync, 4 * MS)
    level, text, values = image_message(sync)
    assert level == ERROR
    assert '4.00 ms' in text and 'approximate_sync' in text and '0.0040 s' in text
    assert values['stamp offset (ms)'] == '4.000'
    sync = PairSynchronizer(tolerance=2 * MS)
    feed(sync, 4 * MS)
    assert 'raise approximate_sync_tolerance' in image_message(sync)[1]


def test_rates_count_since_the_last_report_and_totals_since_the_start():
    sync, statistics = PairSynchronizer(), Statistics()
    feed(sync, 0, frames=5)
    statistics.count_frame({'total': 10.0}, np.ones((2, 3)), np.ones((2, 3)))
    level, text, values = image_message(sync, statistics)
    assert level == OK and 'pairs/s' in text
    assert (values['paired in total'], values['processed in total']) == ('5', '1')
    assert values['replaced in total'] == '4'
    level, _, values = image_message(sync, statistics)
    assert level == WARN and values['paired per second'] == '0.0'
    assert values['paired in total'] == '5'


def test_a_dropped_frame_shows_its_reason_until_frames_are_good_again():
    sync, statistics = PairSynchronizer(), Statistics()
    feed(sync, 0)
    statistics.count_bad_frame('the image is empty (0x0)')
    level, text, values = image_message(sync, statistics)
    assert (level, text, values['dropped in total']) == (WARN, 'the image is empty (0x0)', '1')
    sync.add('left', 10**10, None)
    sync.add('right', 10**10, None)
    assert image_message(sync, statistics)[0] == OK


def test_network_status_warns_above_the_limit():
    statistics, card = Statistics(), {'name': 'tiny', 'sha256': 'abc'}
    disparity = np.array([[1.0, np.nan], [2.0, 3.0]])
    for total in (10.0, 12.0):
        statistics.count_frame({'total': total, 'inference': 8.0}, disparity,
                               np.full((2, 2), 0.25))
    report = statistics.report(PairSynchronizer())
    status = network_status(report, card, 'cpu', 100.0)
    values = {item.key: item.value for item in status.values}
    assert status.level == OK and status.message == '11.0 ms per frame'
    assert (values['model'], values['sha256'], values['device']) == ('tiny', 'abc', 'cpu')
    assert float(values['valid pixels']) == 0.75 and float(values['mean confidence']) == 0.25
    assert float(values['inference p50 (ms)']) == 8.0 and float(values['memory (MB)']) > 1
    status = network_status(report, card, 'cpu', 5.0)
    assert status.level == WARN and 'max_processing_time_ms (5)' in status.message


def test_calibration_status_starts_waiting_and_then_names_the_missing_topic():
    rig = StereoRig(TOPICS)
    assert calibration_status(rig).level == OK
    image = np.zeros((4, 6), np.uint8)
    with pytest.raises(ValueError, match='camera_info'):
        rig.rectified_pair(image, image)
    status = calibration_status(rig)
    assert status.level == ERROR
    assert status.message == 'no camera_info on /cam/left/info and /cam/right/info'
