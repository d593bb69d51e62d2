import base64
from dataclasses import replace
import json
import re

import cv2
import finder
import numpy as np
import pytest

from svp_ros.data import bag_messages
from svp_ros.data.bags import StereoBagWriter
from svp_ros.data.rosbag2 import BagReader, BagWriter, TYPESTORE
from svp_ros.eval.bag_sections import describe_run, score_section, summarise, write_results
from svp_ros.eval.recording import DepthScore, score_recording
from svp_ros.eval.report import Section
from svp_ros.geometry import StereoCamera

H, W = 32, 40
CAMERA = StereoCamera(fx=100.0, fy=100.0, cx=19.0, cy=14.0, baseline=0.5, width=W, height=H,
                      cx_right=21.5)
STAMPS = [10**18 + index * 100_000_000 for index in range(6)]
# x_left - x_right; the adjusted disparity is 2.5 px more: 10 px = 5 m above, 2.5 px = 20 m below.
TRUTH = np.full((H, W), 7.5, np.float32)
TRUTH[16:] = 0.0
TRUTH[:, :4] = np.nan


@pytest.fixture
def played(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
    with StereoBagWriter(tmp_path / 'played') as writer:
        for stamp in STAMPS:
            writer.write(image, image, CAMERA, stamp, TRUTH)
    return tmp_path / 'played'


def disparity_message(disparity, stamp, camera=CAMERA):
    """A DisparityImage as a node writes it, from x_left - x_right with NaN where invalid."""
    header = bag_messages.make_header(stamp, 'left_camera_optical_frame')
    message = bag_messages.make_disparity_image(disparity, camera, header)
    message.min_disparity = 0.5
    return message


def write_recording(path, disparities, depths=None, confidence=None, stamps=STAMPS,
                    camera=CAMERA, namespace=''):
    with BagWriter(path) as bag:
        bag.add_topic(f'{namespace}/disparity', bag_messages.DISPARITY_IMAGE)
        for index, (stamp, disparity) in enumerate(zip(stamps, disparities, strict=False)):
            time = 2 * 10**18 + index
            message = disparity_message(disparity, stamp, camera)
            bag.write(f'{namespace}/disparity', time, message)
            for topic, maps in (('depth', depths), ('confidence', confidence)):
                if maps is not None:
                    bag.write(f'{namespace}/{topic}', time,
                              bag_messages.make_image(maps[index], message.header))
    return path


def float_message(value):
    return TYPESTORE.types['std_msgs/msg/Float32'](data=value)


def diagnostics(name, **values):
    types = TYPESTORE.types
    items = [types['diagnostic_msgs/msg/KeyValue'](key=key, value=value)
             for key, value in values.items()]
    status = types['diagnostic_msgs/msg/DiagnosticStatus'](
        level=0, name=f'stereo_node: {name}', message='fine', hardware_id='', values=items)
    return types['diagnostic_msgs/msg/DiagnosticArray'](
        header=bag_messages.make_header(0, ''), status=[status])


def test_a_known_error_gives_exactly_that_score(tmp_path, played):
    # 2 px too much in the upper half, right in the lower half: EPE 1, half the pixels bad-1.
    guess = np.where(np.isnan(TRUTH), 3.0, TRUTH).astype(np.float32)
    guess[:16] += 2.0
    # The right-most ten columns are not published.
    guess[:, 30:] = np.nan
    # Depth is published on its own: 10 % too far above, 2 m too near below.
    depth = np.where(np.arange(H)[:, None] < 16, 5.5, 18.0) * np.ones((1, W))
    depth = np.where(np.isnan(guess), np.nan, depth).astype(np.float32)
    recording = write_recording(tmp_path / 'out', [guess] * 6, [depth] * 6)
    scores = score_recording(played, recording)

    assert scores['disparity'] == {
        'epe': pytest.approx(1.0), 'bad_1': 50.0, 'bad_2': 0.0, 'bad_3': 0.0, 'd1': 0.0,
        'pixels': 6 * 32 * 26, 'density': 75.0, 'coverage': pytest.approx(100 * 26 / 36)}
    depth_score = scores['depth']
    assert depth_score['mean_abs_m'] == pytest.approx((0.5 + 2.0) / 2, rel=1e-5)
    assert depth_score['mean_abs_rel'] == pytest.approx(0.1, rel=1e-5)
    assert [(band['from_m'], band['to_m'], band['pixels']) for band in depth_score['bands']] == [
        (5, 10, 6 * 16 * 26), (20, 40, 6 * 16 * 26)]
    assert [band['mean_abs_m'] for band in depth_score['bands']] == pytest.approx([0.5, 2.0])
    assert scores['frames'] == {
        'played': 6, 'published': None, 'replaced': None, 'dropped': None, 'received': 6,
        'scored': 6}
    assert scores['stamps'] == {'equal': True, 'unknown': 0, 'repeated': 0}


def test_depth_comes_from_the_disparity_if_it_was_not_recorded(tmp_path, played):
    guess = np.where(np.isnan(TRUTH), 3.0, TRUTH + 2.5).astype(np.float32)
    scores = score_recording(played, write_recording(tmp_path / 'out', [guess]))
    # 50 / 12.5 = 4 m instead of 5 m, and 50 / 5 = 10 m instead of 20 m.
    assert scores['depth']['mean_abs_m'] == pytest.approx((1.0 + 10.0) / 2, rel=1e-5)


def test_missing_unknown_and_repeated_stamps_are_counted(tmp_path, played):
    stamps = [STAMPS[0], STAMPS[2], STAMPS[2] + 1, STAMPS[5], STAMPS[0]]
    guess = np.nan_to_num(TRUTH, nan=1.0)
    scores = score_recording(played, write_recording(tmp_path / 'out', [guess] * 5,
                                                     stamps=stamps))
    assert (scores['frames']['received'], scores['frames']['scored']) == (5, 3)
    assert scores['stamps'] == {'equal': False, 'unknown': 1, 'repeated': 1}
    assert scores['disparity']['epe'] == 0


def test_a_published_map_of_another_size_is_scored_at_the_size_of_the_truth(tmp_path, played):
    camera = replace(CAMERA.scaled(0.5, 0.5), cx=10.0, cx_right=10.0 + 1.25)
    guess = np.nan_to_num(TRUTH, nan=1.0)[::2, ::2] / 2 + 0.5
    scores = score_recording(played, write_recording(tmp_path / 'out', [guess], camera=camera))
    assert scores['disparity']['epe'] == pytest.approx(1.0)


def test_latency_percentiles_diagnostics_and_round_trip(tmp_path, played):
    guess = np.nan_to_num(TRUTH, nan=1.0)
    with BagWriter(tmp_path / 'out') as bag:
        for index in range(101):
            bag.write('/stereo_node/debug/inference_ms', index, float_message(float(index)))
        bag.add_topic('/stereo_node/debug/age_ms', 'std_msgs/msg/Float32')
        for index, stamp in enumerate(STAMPS[:2]):
            header = bag_messages.make_header(stamp, '')
            bag.write('/left/camera_info', 1000,
                      bag_messages.make_camera_infos(CAMERA, header)[0])
            bag.write('/disparity', 1000 + (index + 1) * 30_000_000,
                      disparity_message(guess, stamp))
        bag.write('/diagnostics', 5000, diagnostics(
            'images', **{'processed in total': '2', 'model': 'tiny'}))
    scores = score_recording(played, tmp_path / 'out')
    assert scores['latency_ms']['inference'] == {
        'p50': 50, 'p95': 95, 'p99': 99, 'max': 100, 'count': 101}
    assert scores['latency_ms']['round_trip']['max'] == 60
    assert list(scores['latency_ms']) == ['inference', 'round_trip']
    assert scores['frames']['published'] == 2
    assert scores['node']['stereo_node: images']['model'] == 'tiny'


def test_no_data_is_an_error(tmp_path, played):
    guess = np.nan_to_num(TRUTH, nan=1.0)
    nothing = write_recording(tmp_path / 'nothing', [])
    with pytest.raises(ValueError, match='none of the 0 messages of /disparity'):
        score_recording(played, nothing)
    elsewhere = write_recording(tmp_path / 'elsewhere', [guess], stamps=[5])
    with pytest.raises(ValueError, match='none of the 1 messages of /disparity has the stamp'):
        score_recording(played, elsewhere)
    invalid = np.full((H, W), np.nan, np.float32)
    invalid[:, :3] = 4.0  # valid only where the truth is unknown
    with pytest.raises(ValueError, match='no published pixel of /disparity is valid'):
        score_recording(played, write_recording(tmp_path / 'invalid', [invalid]))
    with pytest.raises(ValueError, match='no topics of type DisparityImage; name one'):
        score_recording(played, write_other(tmp_path / 'other'))
    with pytest.raises(ValueError, match='no topic /ground_truth/disparity'):
        score_recording(write_recording_without_truth(tmp_path / 'bare'), elsewhere)
    with pytest.raises(ValueError, match='no pixel with published and true depth'):
        DepthScore().result()


def test_a_recording_of_another_camera_is_an_error(tmp_path, played):
    guess = np.nan_to_num(TRUTH, nan=1.0)
    recording = write_recording(tmp_path / 'out', [guess], camera=replace(CAMERA, baseline=0.6))
    with pytest.raises(ValueError, match='belongs to another camera.*0.6000 m, but the truth'):
        score_recording(played, recording)


def write_other(path):
    with BagWriter(path) as bag:
        bag.write('/number', 0, float_message(1.0))
    return path


def write_recording_without_truth(path):
    image = np.zeros((H, W, 3), np.uint8)
    with StereoBagWriter(path) as writer:
        writer.write(image, image, CAMERA, 0)
    return path


def test_sections_become_metrics_pictures_and_a_page_that_stands_alone(tmp_path, played):
    guess = np.nan_to_num(TRUTH, nan=1.0) + 1.0
    guess[:5] = np.nan
    recording = write_recording(tmp_path / 'recording', [guess] * 6,
                                confidence=[np.full((H, W), 0.5, np.float32)] * 6,
                                namespace='/stereo')
    out = tmp_path / 'report'
    section = Section('street', 'A street.')
    score_section(section, played, recording, out / 'pictures', 2)
    write_results(out, 'Scores', [section], describe_run('svp demo', section.scores))
    assert summarise('street', section.scores).startswith('street: EPE 1.00 px')

    metrics = json.loads((out / 'metrics.json').read_text())
    assert metrics['results']['street']['disparity']['epe'] == pytest.approx(1.0)
    assert {'command', 'commit', 'hardware', 'versions', 'model'} <= metrics.keys()

    page = (out / 'report.html').read_text()
    embedded = re.findall('src="data:image/png;base64,([^"]+)"', page)
    files = sorted((out / 'pictures').glob('*.png'))
    assert [path.name for path in files] == ['street_001.png', 'street_004.png']
    assert [base64.b64decode(data) for data in embedded] == [path.read_bytes() for path in files]
    assert 'src="' not in page.replace('src="data:', '')
    assert '<td>EPE</td><td>1.000 px</td>' in page
    picture = cv2.imread(str(files[0]))
    assert picture.shape[1] == 3 * (480 + 8) and picture.std() > 20


def write_published(path, played, change, classes=''):
    """What a node publishes that knows the disparity, and boxes that `change` makes."""
    with BagReader(played) as bag, BagWriter(path) as recording:
        for _, time, message in bag.messages(['/ground_truth/disparity']):
            recording.write('/disparity', time, message)
        for index, stamp in enumerate(finder.STAMPS):
            recording.write('/markers', stamp, bag_messages.make_published_markers(
                change(finder.street_boxes(index)), bag_messages.make_header(stamp, 'left')))
        if classes:
            recording.write('/diagnostics', stamp, diagnostics('network', classes=classes))
    return path


def test_boxes_of_a_recording_are_scored_summarised_and_shown(tmp_path):
    def raise_first(boxes):
        boxes.box3d[0, 2] += 1.0  # 4 m long, seen from behind: 3 / 5
        return boxes

    played = finder.write_street(tmp_path / 'street')
    recording = write_published(tmp_path / 'recording', played, raise_first)
    section = Section('street', 'A street.')
    score_section(section, played, recording, tmp_path / 'pictures', 2)
    scores = section.scores['boxes']
    cars = scores['average_precision']['Car']
    assert (cars['3d@0.7']['moderate']['ap'], cars['bev@0.5']['moderate']['ap']) == (0, 100)
    assert cars['3d@0.7']['moderate']['truths'] == 4
    assert scores['objects']['Pedestrian']['centre_error'] == pytest.approx(0, abs=1e-5)
    near = scores['objects']['Car']['bands'][0]
    assert near['centre_error'] == pytest.approx(1, abs=1e-5)
    first, second = summarise('street', section.scores).splitlines()
    assert first.startswith('street: EPE 0.00 px')
    assert second == ('street: Car AP 0.0 (3D, IoU 0.7), 100.0 (BEV, IoU 0.5) of 4 objects; '
                      'Pedestrian AP 100.0 (3D, IoU 0.5), 100.0 (BEV, IoU 0.25) of 4 objects')
    assert [path.name for path, _ in section.pictures] == [
        'street_001.png', 'street_001_boxes.png', 'street_003.png', 'street_003_boxes.png']
    assert section.pictures[1][1] == ('Boxes of frame 2: 3 of 3 objects found, 0 false alarms, '
                                      'centres off by 0.33 m.')
    write_results(tmp_path, 'Scores', [section], describe_run('svp demo', section.scores))
    page = (tmp_path / 'report.html').read_text()
    # of the near ones, one is found less than 40 px high, which is neither right nor wrong
    assert re.search('<td>Car: BEV, IoU 0.5</td><td>[0-9.]+ / 100.0 / 100.0</td>', page)
    assert 'Boxes of frame 2' in page


def test_the_node_without_a_detection_head_is_told_from_one_that_finds_nothing(tmp_path):
    street = finder.write_street(tmp_path / 'street')
    for classes in ('none', 'Car, Pedestrian'):
        recording = write_published(tmp_path / classes, street, lambda boxes: boxes.select([]),
                                    classes=classes)
        section = Section('street', 'A street.')
        score_section(section, street, recording, tmp_path / 'pictures', 1)
        write_results(tmp_path, 'Scores', [section], describe_run('svp demo', section.scores))
        page, line = (tmp_path / 'report.html').read_text(), summarise('street', section.scores)
        if classes == 'none':
            assert section.scores['boxes'] is None and len(section.pictures) == 1
            assert line.endswith('\nstreet: the model has no detection head: no boxes are scored')
            assert 'no detection head' in page
        else:
            assert section.scores['boxes']['objects']['Car']['found'] == 0
            assert 'Car AP 0.0 (3D, IoU 0.7)' in line and 'no detection head' not in page


def test_boxes_are_left_out_without_truth(tmp_path, played):
    guess = write_recording(tmp_path / 'out', [np.nan_to_num(TRUTH, nan=1.0)])
    scores = score_recording(played, guess)
    assert 'boxes' not in scores and '\n' not in summarise('street', scores)
