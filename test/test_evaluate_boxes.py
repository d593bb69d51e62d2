"""Boxes in `svp evaluate bag`: read from the file, and through the real node over DDS."""

import csv
import json
import re

from finder import (
    CAMERA,
    H,
    LABELS,
    save_finder,
    SIZE,
    STAMPS,
    street_boxes,
    street_disparity,
    street_pair,
    true_boxes,
    W,
    write_street,
)
import numpy as np
import pytest
from test_bag_scoring import diagnostics

from svp_ros.boxes import wrap_angle
from svp_ros.data import bag_messages
from svp_ros.data.bag_boxes import read_solids, to_boxes
from svp_ros.data.formats import read_image
from svp_ros.data.rosbag2 import BagReader, BagWriter
from svp_ros.eval.bag import main
from svp_ros.eval.box_score import BoxScore
from svp_ros.frame import choose_boxes, Limits
from svp_ros.predictor import LEAST_SCORE, StereoPredictor

FRAME = 'left_camera_optical_frame'
FAST = [*SIZE, '--no-left-right']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('boxes')


@pytest.fixture(scope='module')
def bag(folder):
    return write_street(folder / 'street')


@pytest.fixture(scope='module')
def finder(folder):
    return save_finder(folder / 'finder.safetensors')


@pytest.fixture(scope='module')
def expected(finder):
    """What the predictor says about every pair, by stamp; as many boxes as the node publishes."""
    predictor = StereoPredictor.load(finder, 'cpu', (96, 128))
    limits = Limits(score_threshold=LEAST_SCORE)
    return {stamp: choose_boxes(predictor.predict(*street_pair(index), CAMERA).boxes, limits)
            for index, stamp in enumerate(STAMPS)}


@pytest.fixture(scope='module')
def read(folder, bag, finder):
    assert main([str(bag), '--out', str(folder / 'read'), '--model', str(finder), *FAST]) == 0
    return folder / 'read'


@pytest.fixture(scope='module')
def live(folder, bag, finder):
    assert main([str(bag), '--out', str(folder / 'live'), '--model', str(finder), '--mode',
                 'live', *FAST]) == 0
    return folder / 'live'


def load(out):
    with (out / 'frames.csv').open() as file:
        rows = {int(row['stamp']): row for row in csv.DictReader(file)}
    return json.loads((out / 'metrics.json').read_text()), rows


def read_markers(path, topic='/markers'):
    """Messages by stamp."""
    with BagReader(path) as recorded:
        return {raw.stamp: recorded.decode(raw) for raw in recorded.raw([topic])}


def assert_same_boxes(found, boxes):
    """Every box is there, in any order of nearly equal scores."""
    assert len(found) == len(boxes) and sorted(found.label) == sorted(boxes.label)
    for box, label, score in zip(boxes.box3d, boxes.label, boxes.score):
        distance = np.linalg.norm(found.box3d[:, :3] - box[:3], axis=1)
        distance[[name != label for name in found.label]] = np.inf
        number = int(distance.argmin())
        np.testing.assert_allclose(found.box3d[number, :6], box[:6], atol=1e-3)
        assert abs(wrap_angle(found.box3d[number, 6] - box[6])) < 1e-3
        assert found.score[number] == pytest.approx(score, abs=0.006)


def test_scores_are_those_of_the_predictor(read, expected):
    metrics, rows = load(read)
    assert metrics['bag']['true_boxes'] == '/ground_truth/markers'
    assert metrics['true_boxes'] == 4 and metrics['without_boxes'] == []
    score = BoxScore(('Car', 'Pedestrian'))
    for index, (stamp, boxes) in enumerate(expected.items()):
        found = boxes.select(slice(None))
        found.score[:] = found.score.round(2)
        matches = score.add(true_boxes(index), found, CAMERA)
        assert float(rows[stamp]['boxes']) == (found.score >= Limits.score_threshold).sum()
        assert float(rows[stamp]['objects_found']) == pytest.approx(
            100 * len(matches.hits) / 3, abs=1e-3)
        assert float(rows[stamp]['false_alarms']) == len(matches.false_alarms) > 0
    scores = metrics['models']['finder']['boxes']
    assert scores == json.loads(json.dumps(score.result()))
    levels = scores['average_precision']['Pedestrian']['bev@0.25']
    assert {name: level['truths'] for name, level in levels.items()} == {
        'easy': 4, 'moderate': 4, 'hard': 4}
    # the far car stands behind the pedestrian, and is too small to count
    levels = scores['average_precision']['Car']['3d@0.7']
    assert [level['truths'] for level in levels.values()] == [2, 4, 4]
    assert levels['easy']['ap'] is not None


def test_results_show_boxes_and_truth_in_the_left_frame(read, expected):
    markers = read_markers(read / 'results.mcap')
    truth = read_markers(read / 'results.mcap', '/ground_truth/markers')
    assert list(markers) == list(truth) == STAMPS
    for index, stamp in enumerate(STAMPS):
        solids = read_solids(markers[stamp])
        boxes = expected[stamp]
        assert solids.frame_id == FRAME
        assert_same_boxes(to_boxes(solids, np.eye(4)),
                          boxes.select(boxes.score.round(2) >= Limits.score_threshold))
        solids = read_solids(truth[stamp])
        assert solids.label == LABELS
        np.testing.assert_allclose(to_boxes(solids, np.eye(4)).box3d, street_boxes(index).box3d,
                                   atol=1e-5)


def test_the_page_shows_boxes_from_before_and_above(read):
    page = (read / 'report.html').read_text()
    assert '3D boxes' in page and 'Average precision of boxes' in page
    assert 'Car: 3D, IoU 0.7' in page and '/ground_truth/markers, for 4 pairs' in page
    names = {path.name for path in (read / 'pictures').glob('*.png')}
    assert {'objects_found.png', 'false_alarms.png', 'boxes.png'} <= names
    pictures = sorted((read / 'pictures').glob('boxes_*.png'))
    assert len(pictures) == 4  # three evenly, one worst
    picture = read_image(pictures[0])
    assert picture.shape[0] == 400 and picture.shape[1] == round(W * 400 / H) + 4 + 400


@pytest.mark.alone
def test_markers_over_dds_are_the_boxes_of_the_predictor(live, expected):
    markers = read_markers(live / 'live' / 'finder' / 'recording')
    assert markers and set(markers) <= set(expected)
    for stamp, message in markers.items():
        for marker in message.markers:
            assert marker.header.frame_id == FRAME
            assert marker.header.stamp.sec * 10**9 + marker.header.stamp.nanosec == stamp
        boxes = expected[stamp]
        assert len(boxes) > 5
        assert_same_boxes(to_boxes(read_solids(message), np.eye(4)), boxes)


def test_live_and_read_score_the_same_boxes(live, read):
    (live_metrics, live_rows), (metrics, rows) = load(live), load(read)
    assert live_metrics['models']['finder']['boxes']['pairs'] == len(live_rows)
    for stamp, row in live_rows.items():
        for key in ('boxes', 'objects_found', 'centre_error', 'false_alarms'):
            assert (row[key] == '') == (rows[stamp][key] == '')
            assert float(row[key] or 0) == pytest.approx(float(rows[stamp][key] or 0), abs=1e-3)
    if len(live_rows) == len(rows):  # on a busy machine some pairs are missing
        for label, classes in metrics['models']['finder']['boxes']['average_precision'].items():
            other = live_metrics['models']['finder']['boxes']['average_precision'][label]
            for key, levels in classes.items():
                for level, values in levels.items():
                    assert other[key][level]['ap'] == pytest.approx(values['ap'], abs=0.5)


@pytest.fixture(scope='module')
def perfect(folder):
    """A recording of a node that knows the truth."""
    with BagWriter(folder / 'perfect') as recording:
        for index, stamp in enumerate(STAMPS):
            header = bag_messages.make_header(stamp, FRAME)
            disparity = np.where(np.isfinite(street_disparity(index)), street_disparity(index),
                                 np.nan) - np.float32(CAMERA.doffs)
            recording.write('/disparity', stamp, bag_messages.make_published_disparity(
                disparity, CAMERA, 0.5, 80.0, header))
            recording.write('/markers', stamp, bag_messages.make_published_markers(
                street_boxes(index), header))
    return folder / 'perfect'


def test_a_recording_of_the_truth_is_perfect(tmp_path, bag, perfect, capsys):
    assert main([str(bag), '--out', str(tmp_path), '--model', 'the node', '--recording',
                 str(perfect)]) == 0
    scores = load(tmp_path)[0]['models']['the node']['boxes']
    assert {level['ap'] for metrics in scores['average_precision'].values()
            for levels in metrics.values() for level in levels.values()} == {100}
    assert scores['objects']['Car']['found'] == 100
    assert scores['objects']['Car']['centre_error'] == pytest.approx(0, abs=1e-5)
    assert re.search('Car: 3D, IoU 0.7 +100.0 / 100.0 / 100.0', capsys.readouterr().out)


def test_classes_that_a_node_was_not_asked_for_are_no_misses(tmp_path, bag, perfect):
    cars = tmp_path / 'cars'
    with BagReader(perfect) as original, BagWriter(cars) as recording:
        recording.write('/diagnostics', STAMPS[0], diagnostics(
            'node: network', model='the node', classes='Car, Pedestrian'))
        for topic, time, message in original.messages():
            if topic == '/markers':
                message.markers = [marker for marker in message.markers
                                   if marker.ns != 'Pedestrian']
            recording.write(topic, time, message)

    def score(*options):
        out = tmp_path / 'out'
        assert main([str(bag), '--out', str(out), '--recording', str(cars), *options]) == 0
        return load(out)[0]['models']['the node']['boxes']

    assert score()['objects']['Pedestrian']['found'] == 0
    scores = score('--classes', 'Car', 'Car')
    assert list(scores['objects']) == list(scores['average_precision']) == ['Car']
    assert scores['objects']['Car']['found'] == 100
    with pytest.raises(ValueError, match='model the node does not know the class "Dog"; it knows '
                                         'Car, Pedestrian'):
        score('--classes', 'Dog')


def test_without_true_depth_there_is_one_level(tmp_path, folder, perfect, capsys):
    bag = write_street(tmp_path / 'bag', disparity=False)
    assert main([str(bag), '--out', str(tmp_path / 'out'), '--model', 'x', '--recording',
                 str(perfect), '--truth-boxes', 'ground_truth/markers']) == 0
    scores = load(tmp_path / 'out')[0]['models']['x']['boxes']
    assert scores['average_precision']['Car']['3d@0.7'].keys() == {'any occlusion'}
    assert scores['average_precision']['Car']['3d@0.7']['any occlusion']['ap'] == 100
    assert 'Average precision of boxes, %: any occlusion' in capsys.readouterr().out


def test_models_without_a_detection_head_are_named(tmp_path, bag, finder, tiny_model, capsys):
    assert main([str(bag), '--out', str(tmp_path), '--model', str(tiny_model), '--compare',
                 str(finder), '--limit', '2', *FAST]) == 0
    metrics, _ = load(tmp_path)
    line = 'tiny: the model has no detection head: no boxes are scored'
    assert metrics['without_boxes'] == [line]
    printed = capsys.readouterr().out
    assert line in printed and 'Average precision of boxes' in printed
    assert 'boxes' not in metrics['models']['tiny']
    assert metrics['models']['finder']['boxes']['pairs'] == 2
    with BagReader(tmp_path / 'results.mcap') as results:
        assert '/finder/markers' in results.types and '/markers' not in results.types
    assert line in (tmp_path / 'report.html').read_text()


def test_boxes_without_truth_are_counted_and_shown(tmp_path, bag, finder):
    assert main([str(bag), '--out', str(tmp_path), '--model', str(finder), '--truth-boxes',
                 'none', '--pictures', '1', *FAST]) == 0
    metrics, rows = load(tmp_path)
    assert 'boxes' not in metrics['models']['finder'] and metrics['bag']['true_boxes'] is None
    assert all(float(row['boxes']) > 0 and row['false_alarms'] == '' for row in rows.values())
    assert len(list((tmp_path / 'pictures').glob('boxes_*.png'))) == 1
    with BagReader(tmp_path / 'results.mcap') as results:
        assert results.counts['/markers'] == 4 and '/ground_truth/markers' not in results.types


@pytest.mark.parametrize('arguments, message', [
    (['--truth-boxes', '/nothing'], 'no topic /nothing; it has /ground_truth'),
    (['--truth-boxes', '/left/camera_info'], 'boxes are a MarkerArray or a Detection3DArray'),
    (['--score-threshold', '30'], '--score-threshold must be within 0 to 1, got 30')])
def test_wrong_arguments_are_refused(tmp_path, bag, finder, arguments, message):
    with pytest.raises(ValueError, match=message):
        main([str(bag), '--out', str(tmp_path), '--model', str(finder), *FAST, *arguments])


def test_true_boxes_of_other_stamps_are_an_error(tmp_path, bag, finder):
    with BagReader(bag) as original, BagWriter(tmp_path / 'bag') as copy:
        for topic, time, message in original.messages():
            for marker in getattr(message, 'markers', ()):
                marker.header.stamp.nanosec = 1000
            copy.write(topic, time, message)
    with pytest.raises(ValueError, match='none of the 4 pairs has a ground truth of its time on '
                                         '/ground_truth/markers; allow a difference'):
        main([str(tmp_path / 'bag'), '--out', str(tmp_path / 'out'), '--model', str(finder),
              *FAST])
