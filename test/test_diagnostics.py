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
from svp_ros.ros.sync_doctor import Diagnosis
from svp_ros.row_alignment import alignment_findings, RowAlignment

TOPICS = {'left/image_rect': '/cam/left', 'right/image_rect': '/cam/right',
          'left/camera_info': '/cam/left/info', 'right/camera_info': '/cam/right/info'}
MS = 1_000_000

CARD = {'name': 'tiny', 'sha256': 'abc', 'engine': 'torch', 'precision': 'fp32'}


def image_message(sync, statistics=None, diagnosis=None, enabled=True):
    statistics = statistics or Statistics()
    status = image_status(statistics.report(sync), sync, diagnosis, enabled)
    return status.level, status.message, {item.key: item.value for item in status.values}


def feed(sync, offset, frames=8):
    for frame in range(frames):
        sync.add('left', frame * 33 * MS, None)
        sync.add('right', frame * 33 * MS + offset, None)


@pytest.mark.parametrize('error, expected', [(False, WARN), (True, ERROR)])
def test_a_diagnosis_comes_before_everything_but_a_pause(error, expected):
    diagnosis = Diagnosis('one eye silent', 'no pair for 3 s', error)
    level, text, values = image_message(PairSynchronizer(), diagnosis=diagnosis)
    assert (level, text, values['cause']) == (expected, 'no pair for 3 s', 'one eye silent')
    level, text, values = image_message(PairSynchronizer(), diagnosis=diagnosis, enabled=False)
    assert level == OK and text.startswith('disabled') and values['cause'] == 'none'


def test_offsets_spread_and_a_tolerance_are_reported():
    sync = PairSynchronizer(tolerance=2 * MS)
    values = image_message(sync)[2]
    assert values['suggested approximate_sync_tolerance (s)'] == 'unknown'
    feed(sync, 4 * MS)
    values = image_message(sync)[2]
    assert values['stamp offset (ms)'] == '4.000'
    assert values['spread of the stamp offset (ms)'] == '0.000'
    assert values['suggested approximate_sync_tolerance (s)'] == '0.0050'
    assert values['tolerance in use (s)'] == '0.002'


def test_unpaired_images_are_counted_by_side():
    sync, statistics = PairSynchronizer(queue_size=2), Statistics()
    for stamp in range(5):
        sync.add('right', stamp, None)
    values = image_message(sync, statistics)[2]
    assert (values['unpaired right in total'], values['unpaired left in total']) == ('3', '0')
    assert float(values['unpaired right per second']) > 0


def test_rates_count_since_the_last_report_and_totals_since_the_start():
    sync, statistics = PairSynchronizer(), Statistics()
    feed(sync, 0, frames=5)
    statistics.count_frame({'total': 10.0}, np.ones((2, 3)), np.ones((2, 3)))
    level, text, values = image_message(sync, statistics)
    assert level == OK and 'pairs/s' in text and values['cause'] == 'none'
    assert (values['paired in total'], values['processed in total']) == ('5', '1')
    assert values['replaced in total'] == '4'
    _, _, values = image_message(sync, statistics)
    assert values['paired per second'] == '0.0'
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
    statistics.count_bad_frame('internal error', ERROR)
    assert image_message(sync, statistics)[:2] == (ERROR, 'internal error')


def test_network_status_warns_above_the_limit():
    statistics = Statistics()
    disparity = np.array([[1.0, np.nan], [2.0, 3.0]])
    for total in (10.0, 12.0):
        statistics.count_frame({'total': total, 'inference': 8.0}, disparity,
                               np.full((2, 2), 0.25))
    report = statistics.report(PairSynchronizer())
    status = network_status(report, CARD, 'cpu', 100.0)
    values = {item.key: item.value for item in status.values}
    assert status.level == OK and status.message == '11.0 ms per frame'
    assert (values['model'], values['sha256'], values['device']) == ('tiny', 'abc', 'cpu')
    assert values['engine'] == 'torch fp32'
    assert float(values['valid pixels']) == 0.75 and float(values['mean confidence']) == 0.25
    assert float(values['inference p50 (ms)']) == 8.0 and float(values['memory (MB)']) > 1
    status = network_status(report, CARD, 'cpu', 5.0)
    assert status.level == WARN and 'max_processing_time_ms (5)' in status.message
    status = network_status(report, CARD, 'cpu', 5.0, problem='model big cannot be used')
    assert status.level == WARN
    assert status.message.startswith('model big cannot be used. Also: 95 % of the frames take up')
    status = network_status(report, CARD, 'cuda:0', 100.0, working_s=12.0)
    assert status.level == ERROR and 'in work for 12 s: cuda:0 hangs' in status.message
    statistics.forget_latencies()
    status = network_status(statistics.report(PairSynchronizer()), CARD, 'cpu', 5.0)
    assert (status.level, status.message) == (OK, 'no frame yet')


@pytest.mark.parametrize('found, asked, text', [
    (('Car', 'Tram'), ('Tram', 'Bus', 'all'), 'classes names Bus, but tiny finds Car, Tram; name'),
    ((), ('Car',), 'classes names Car, but tiny finds no objects;')])
def test_network_status_warns_of_classes_that_the_model_does_not_find(found, asked, text):
    report = Statistics().report(PairSynchronizer())
    status = network_status(report, CARD, 'cpu', 100.0, found=found, asked=asked)
    assert status.level == WARN and status.message.startswith(text)
    status = network_status(report, CARD, 'cpu', 100.0, found=found, asked=found or ('all',))
    assert status.level == OK


def test_network_status_names_the_classes_that_are_published():
    report, found = Statistics().report(PairSynchronizer()), ('Car', 'Tram')
    for asked, expected in ((('all',), 'Car, Tram'), (('Tram',), 'Tram'), (('Bus',), 'none')):
        status = network_status(report, CARD, 'cpu', 100.0, found=found, asked=asked)
        assert {item.key: item.value for item in status.values}['classes'] == expected


def test_network_status_warns_when_hardly_a_pixel_is_valid():
    statistics = Statistics()
    disparity = np.full((20, 20), np.nan)
    disparity[0, :3] = 5.0
    statistics.count_frame({'total': 10.0}, disparity, np.ones((20, 20)))
    status = network_status(statistics.report(PairSynchronizer()), CARD, 'cpu', 100.0)
    assert status.level == WARN and 'less than 1% of the pixels' in status.message


def test_calibration_status_starts_waiting_and_then_names_the_missing_topic():
    rig = StereoRig(TOPICS)
    assert calibration_status(rig).level == OK
    image = np.zeros((4, 6), np.uint8)
    with pytest.raises(ValueError, match='camera_info'):
        rig.rectified_pair(image, image)
    status = calibration_status(rig, rig.findings)
    assert status.level == ERROR
    assert status.message == 'no camera_info on /cam/left/info and /cam/right/info'


def test_each_finding_has_its_own_value_and_the_rows_their_numbers():
    alignment = RowAlignment(offset=-2.5, error=2.6, negative=0.95, positive=0.0, matches=60)
    status = calibration_status(StereoRig(TOPICS), alignment_findings(alignment), alignment)
    values = {item.key: item.value for item in status.values}
    assert status.level == WARN and len(values) == 6
    assert '2.6 px' in values['vertical offset'] and 'swapped' in values['swapped eyes']
    assert values['vertical offset (px)'] == '-2.50' and values['row error (px)'] == '2.60'
    assert values['negative disparities (%)'] == '95' and values['matched points'] == '60'
