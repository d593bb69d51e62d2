from dataclasses import asdict, replace
import json
import os
from pathlib import Path
import re
from types import SimpleNamespace

from conftest import TINY
import cv2
import numpy as np
import pytest
import torch

import svp_ros
from svp_ros.boxes import Boxes, clip_boxes, project_boxes
from svp_ros.cli import main
from svp_ros.data.formats import write_image
from svp_ros.data.kitti_object import read_results
from svp_ros.data.labelled_frames import find_frames
from svp_ros.eval.average_precision import score_classes, ScoredImage
from svp_ros.eval.detection import choose_pictures
from svp_ros.eval.detection_report import detection_tables
from svp_ros.eval.detection_score import detect_frames, score_detections
from svp_ros.eval.tables import format_text
from svp_ros.geometry import StereoCamera
from svp_ros.model.build import build_model, ObjectClass, save_checkpoint

CLASSES = ('Car', 'Pedestrian', 'Cyclist')
CAMERA = StereoCamera(fx=360, fy=360, cx=300, cy=90, baseline=0.5, width=600, height=200)
AHEAD = -np.pi / 2
# Two cars, one of them partly occluded, and a pedestrian; Cyclists there are none.
STREET = [('Car', [-3, 0.9, 8, 4, 1.5, 1.8, AHEAD], 0),
          ('Car', [3, 0.9, 15, 4, 1.5, 1.8, AHEAD], 1),
          ('Pedestrian', [0, 0.8, 12, 0.8, 1.7, 0.6, 0], 0)]


def write_frame(folder, rows):
    """Write a grey pair with boxes of (label, box3d, occlusion), 2D boxes as projected.

    A box3d of 4 numbers is a DontCare region.
    """
    folder.mkdir(parents=True)
    for eye in ('left', 'right'):
        write_image(folder / f'{eye}.png', np.full((200, 600, 3), 90, np.uint8))
    (folder / 'camera.json').write_text(json.dumps(asdict(CAMERA)))
    entries = []
    for index, (label, box, occlusion) in enumerate(rows):
        if len(box) == 4:
            box2d, box = box, [float('nan')] * 7
        else:
            box2d = clip_boxes(project_boxes(np.array([box]), CAMERA), 600, 200)[0].tolist()
        entries.append({'label': label, 'instance': index, 'box3d': list(map(float, box)),
                        'box2d': box2d, 'truncation': 0.0, 'occlusion': occlusion})
    (folder / 'boxes.json').write_text(json.dumps(entries))


def detect(root, change=lambda name, boxes: boxes):
    """Detections made of the truth: scores fall from 0.9, then `change` is called."""
    def answers():
        for frame in find_frames(root):
            truth = frame.read_boxes()
            truth = truth.select([label in CLASSES for label in truth.label])
            score = 0.9 - 0.1 * np.arange(len(truth), dtype=np.float32)
            boxes = change(frame.name, Boxes(truth.box3d.copy(), truth.label, score))
            yield SimpleNamespace(boxes=boxes, timing={'inference': 7.0},
                                  disparity_filled=np.ones((200, 600)))

    answer = answers()
    return detect_frames(find_frames(root), lambda *_: next(answer), CLASSES)


def shift(metres):
    def change(_, boxes):
        boxes.box3d[:, 2] += metres
        return boxes
    return change


@pytest.fixture
def street(tmp_path):
    write_frame(tmp_path / 'data' / 'b', STREET)
    write_frame(tmp_path / 'data' / 'a', STREET[:1])
    return tmp_path / 'data'


def test_truth_against_itself_is_100_and_no_truth_is_no_data(street):
    scores = score_detections(detect(street), CLASSES, 0.3)
    precision = scores['average_precision']
    for label in ('Car', 'Pedestrian'):
        assert {levels[level]['ap'] for levels in precision[label].values()
                for level in levels} == {100}
    assert {levels[level]['ap'] for levels in precision['Cyclist'].values()
            for level in levels} == {None}
    assert precision['Car']['3d@0.7']['easy']['truths'] == 2
    assert precision['Car']['3d@0.7']['moderate']['truths'] == 3
    assert scores['false_alarms'] == [] and scores['distance_bands']['Cyclist'] == []
    near, far = scores['distance_bands']['Car']
    assert near == {'from_m': 0, 'to_m': 10, 'objects': 2, 'seen': 100, 'located': 100,
                    'false_alarms': 0, 'depth_error': 0, 'depth_error_percent': 0}
    assert (far['from_m'], far['to_m'], far['objects']) == (10, 20, 1)
    assert [row['name'] for row in scores['frames']] == ['a', 'b']
    assert [row['detections'] for row in scores['frames']] == [1, 3]
    assert scores['inference_ms'] == 7
    text = format_text(detection_tables(scores))
    assert text.count('no data') == 15 and '100.0' in text


@pytest.mark.parametrize('metres, strict, loose', [(0.5, 100, 100), (-1.0, 0, 100), (2.0, 0, 0)])
def test_shifted_boxes_have_the_overlap_worked_by_hand(street, metres, strict, loose):
    # cars are 4 m long in depth: 3.5 / 4.5 = 0.78, 3 / 5 = 0.6, 2 / 6 = 0.33
    scores = score_detections(detect(street, shift(metres)), CLASSES, 0.3)
    cars = scores['average_precision']['Car']
    for metric in ('bev', '3d'):
        assert cars[f'{metric}@0.7']['moderate']['ap'] == strict
        assert cars[f'{metric}@0.5']['moderate']['ap'] == loose
    # pedestrians are 0.6 m wide in depth: 0.1 / 1.1
    assert scores['average_precision']['Pedestrian']['3d@0.25']['easy']['ap'] == 0
    far = scores['distance_bands']['Car'][1]
    assert far['located'] == loose
    # 2 m off, the near cars are not even seen in their place
    assert far['false_alarms'] == (2 if metres == 2 else 0)
    if far['seen']:
        assert far['depth_error'] == pytest.approx(abs(metres), abs=1e-5)
        assert far['depth_error_percent'] == pytest.approx(100 * abs(metres) / 15, abs=1e-4)
    row = next(row for row in scores['objects'] if row['label'] == 'Car')
    assert row['depth_error'] is None or row['depth_error'] == pytest.approx(metres, abs=1e-5)
    overlap = {0.5: 3.5 / 4.5, -1.0: 3 / 5}.get(metres)
    assert overlap is None or row['overlap_bev'] == pytest.approx(overlap, abs=1e-4)


def test_misses_and_false_alarms_are_listed_the_worst_first(tmp_path):
    write_frame(tmp_path / 'near', STREET)
    write_frame(tmp_path / 'far', [('Car', [0, 0.9, 40, 4, 1.5, 1.8, AHEAD], 0)])
    write_frame(tmp_path / 'empty', [])

    def change(name, boxes):
        if name == 'near':
            return boxes.select([1, 2])
        place = [[0, 0.9, {'far': 20, 'empty': 60}[name], 4, 1.5, 1.8, 0]] * 2
        return Boxes(np.array(place, np.float32) + [[0] * 7, [9] + [0] * 6], ['Car'] * 2,
                     np.array([{'far': 0.95, 'empty': 0.8}[name], 0.2], np.float32))

    scores = score_detections(detect(tmp_path, change), CLASSES, 0.3)
    missed = [(row['frame'], row['index'], row['label'], row['depth'], row['score'])
              for row in scores['objects'] if not row['located']]
    assert missed == [('far', 0, 'Car', 40, None), ('near', 0, 'Car', 8, None)]
    assert [(row['frame'], row['index'], row['label'], round(row['score'], 3), row['depth'])
            for row in scores['false_alarms']] == [
                ('empty', 0, 'Car', 0.8, 60), ('far', 0, 'Car', 0.95, 20)]
    assert [row['detections'] for row in scores['frames']] == [1, 1, 2]
    assert choose_pictures(scores, 5) == {
        'misses': ['near', 'far'], 'false_alarms': ['far', 'empty'],
        'frames': ['empty', 'far', 'near']}
    assert choose_pictures(scores, 1) == {
        'misses': ['near'], 'false_alarms': ['far'], 'frames': ['empty']}
    bands = {band['from_m']: band for band in scores['distance_bands']['Car']}
    assert list(bands) == [0, 10, 20, 30, 50]
    assert (bands[0]['located'], bands[10]['located'], bands[30]['located']) == (0, 100, 0)
    assert (bands[20]['objects'], bands[20]['seen'], bands[20]['false_alarms']) == (0, None, 1)
    assert (bands[50]['to_m'], bands[50]['false_alarms'], bands[50]['depth_error']) == (
        None, 1, None)
    # beyond 30 m cars are less than 25 px high: one of two is found, after one false alarm
    assert scores['average_precision']['Car']['3d@0.7']['moderate']['ap'] == 25


def test_what_is_seen_or_located_is_no_false_alarm(street):
    seen = score_detections(detect(street, shift(-2.0)), ['Car'], 0.3)
    far = next(row for row in seen['objects'] if row['depth'] == 15)
    assert far['seen'] and not far['located'] and far['overlap_bev'] == pytest.approx(2 / 6, 1e-4)
    assert 'b' in choose_pictures({**seen, 'objects': [far]}, 5)['misses']

    def lift(_, boxes):
        boxes.box3d[:, 1] -= 1.2
        return boxes

    located = score_detections(detect(street, lift), ['Car'], 0.3)
    assert [(row['seen'], row['located']) for row in located['objects']] == [(False, True)] * 3
    assert located['false_alarms'] == [] and choose_pictures(located, 5)['misses'] == []
    assert all(row['score'] and row['depth_error'] == 0 for row in located['objects'])


def test_occluded_objects_and_dont_care_regions_are_no_errors(tmp_path):
    hidden = ('Car', STREET[0][1], 3)
    region = ('DontCare', [0, 0, 250, 199], -1)
    write_frame(tmp_path / 'a', [hidden, ('Car', STREET[1][1], 2), region])
    seen = score_detections(detect(tmp_path), CLASSES, 0.3)
    assert [row['occlusion'] for row in seen['objects']] == [2]
    assert seen['false_alarms'] == []
    nothing = score_detections(detect(tmp_path, lambda _, boxes: boxes.select([])), CLASSES, 0.3)
    assert [row['depth'] for row in nothing['objects'] if not row['located']] == [15]

    def add(_, boxes):  # in the region, left in the image
        return Boxes(np.array([[-6, 0.9, 20, 4, 1.5, 1.8, 0]], np.float32), ['Car'],
                     np.array([0.9], np.float32))

    assert score_detections(detect(tmp_path, add), CLASSES, 0.3)['false_alarms'] == []


def test_boxes_of_other_classes_are_not_kept(street):
    def rename(_, boxes):
        return Boxes(boxes.box3d, ['Dog'] * len(boxes), boxes.score)

    assert [len(item.image.found) for item in detect(street, rename)] == [0, 0]


def test_a_network_that_returns_nan_is_no_score_of_0(street):
    result = SimpleNamespace(boxes=Boxes(np.zeros((0, 7)), [], np.zeros(0)),
                             disparity_filled=np.full((200, 600), np.nan))
    with pytest.raises(ValueError, match='^a: the network returned NaN or infinity'):
        detect_frames(find_frames(street), lambda *_: result, CLASSES)


def test_labels_may_differ_from_the_classes_in_case(tmp_path):
    (_, car, _), (_, van, _) = STREET[:2]
    write_frame(tmp_path / 'a', [('car', car, 0), ('van', van, 0)])

    def find(_, boxes):
        return Boxes(np.array([car, van], np.float32), ['Car'] * 2, np.float32([0.8, 0.9]))

    scores = score_detections(detect(tmp_path, find), ['Car'], 0.3)
    assert scores['average_precision']['Car']['3d@0.7']['easy']['ap'] == 100
    assert len(scores['objects']) == 1 and scores['false_alarms'] == []


def test_classes_in_lower_case_have_the_rules_of_kitti(tmp_path):
    (_, car, _), (_, van, _) = STREET[:2]
    write_frame(tmp_path / 'a', [('car', car, 0), ('Van', van, 0)])
    boxes = Boxes(np.array([car, van], np.float32), ['car'] * 2, np.float32([0.8, 0.9]))
    result = SimpleNamespace(boxes=boxes, timing={'inference': 7.0}, disparity_filled=np.ones(1))
    detected = detect_frames(find_frames(tmp_path), lambda *_: result, ['car'])
    scores = score_detections(detected, ['car'], 0.3)
    assert scores['average_precision']['car']['3d@0.7']['easy']['ap'] == 100
    assert scores['false_alarms'] == []


def test_no_frame_is_an_error():
    with pytest.raises(ValueError, match='no frame'):
        detect_frames([], None, CLASSES)


@pytest.fixture(scope='module')
def finder(tmp_path_factory):
    """A tiny network with random weights that finds many cars and pedestrians."""
    torch.manual_seed(0)
    config = replace(TINY, classes=(ObjectClass('Car', 4, 1.5, 1.8),
                                    ObjectClass('Pedestrian', 0.8, 1.7, 0.6)))
    network = build_model(config)
    with torch.no_grad():
        network.detection.maps.bias[:2] = 2.0
    path = tmp_path_factory.mktemp('models') / 'finder.safetensors'
    save_checkpoint(path, network.state_dict(), config)
    return path


def test_command_prints_tables_and_writes_a_repeatable_report(street, finder, tmp_path, capsys):
    out, split = tmp_path / 'out', tmp_path / 'split.txt'
    split.write_text('a\nb\n')
    argv = ['--data', str(street), '--split', str(split), '--model', str(finder),
            '--device', 'cpu', '--network-size', '64x96', '--score-threshold', '0.1',
            '--pictures', '1', '--out', str(out)]
    assert main(['evaluate', 'detection', *argv]) == 0
    report = json.loads((out / 'metrics.json').read_text())
    assert report['command'] == 'svp evaluate detection ' + ' '.join(argv)
    assert report['network_size'] == [64, 96] and report['classes'] == ['Car', 'Pedestrian']
    assert report['model']['name'] == 'finder' and report['device'] and 'commit' in report
    assert report['versions']['svp_ros'] == svp_ros.__version__
    assert {'python', 'numpy', 'torch'} <= report['versions'].keys()
    assert format_text(detection_tables(report)) in capsys.readouterr().out
    assert report['score_threshold'] == 0.1 and report['false_alarms']
    page = (out / 'report.html').read_text()
    for caption, _, _ in detection_tables(report):
        assert caption in page
    assert len(report['pictures']['frames']) == 1
    for files in report['pictures'].values():
        for file in files.values():
            assert f'<img src="{file}">' in page
            picture = cv2.imread(str(out / file))
            assert picture.shape[0] == 400 and picture.std() > 10
    found, box2d = read_results(out / 'results' / 'b.txt')
    assert len(found) >= report['frames'][1]['detections'] > 0
    assert set(found.label) <= {'Car', 'Pedestrian'}
    np.testing.assert_allclose(
        box2d, clip_boxes(project_boxes(found.box3d, CAMERA), 600, 200), atol=0.2)


def test_results_of_an_earlier_run_do_not_stay(street, finder, tmp_path):
    out, split = tmp_path / 'out', tmp_path / 'split.txt'
    argv = ['evaluate', 'detection', '--data', str(street), '--model', str(finder),
            '--network-size', '64x96', '--out', str(out)]
    assert main(argv) == 0
    notes = out / 'results' / 'notes.txt'
    notes.write_text('The far car is a van.\n')
    assert {path.name for path in notes.parent.iterdir()} == {'a.txt', 'b.txt', notes.name}
    split.write_text('a\n')
    assert main([*argv, '--split', str(split)]) == 0
    assert {path.name for path in notes.parent.iterdir()} == {'a.txt', notes.name}


def test_command_scores_only_the_classes_and_frames_asked_for(street, finder, capsys):
    argv = ['evaluate', 'detection', '--data', str(street), '--model', str(finder),
            '--network-size', '64x96', '--classes', 'Pedestrian', 'Pedestrian', '--limit', '1']
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert 'Car' not in text and len(re.findall('Pedestrian +objects', text)) == 1
    assert text.count('no data') == 15


@pytest.mark.parametrize('argv, message', [
    (['--data', 'no/such/folder'], 'no folder no/such/folder'),
    (['--data', '{data}/a', '--model', '{tiny}'], 'model tiny has no detection head; '),
    (['--data', '{data}', '--classes', 'Car', 'Dog'],
     'model finder does not know the class "Dog"; it knows Car, Pedestrian'),
    (['--data', '{bare}'], 'no frame with labelled boxes below'),
    (['--data', '{data}', '--split', '{bare}/none.txt'], 'names no frame'),
    (['--data', '{data}', '--split', '{bare}/other.txt'], 'such as 000007'),
    (['--data', '{data}', '--limit', '0'], 'no frame to evaluate'),
    (['--data', '{data}', '--score-threshold', '30'], 'must be within 0 to 1, got 30'),
])
def test_mistakes_are_one_line_and_exit_code_2(street, finder, tiny_model, tmp_path, capsys, argv,
                                               message):
    bare = tmp_path / 'bare'
    bare.mkdir()
    write_image(bare / 'left.png', np.zeros((8, 8, 3), np.uint8))
    (bare / 'none.txt').write_text('\n')
    (bare / 'other.txt').write_text('000007\n')
    names = {'data': street, 'tiny': tiny_model, 'bare': bare}
    argv = ['--model', str(finder), '--network-size', '64x96',
            *(text.format(**names) for text in argv)]
    assert main(['evaluate', 'detection', *argv]) == 2
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1] and error[-1].startswith('svp evaluate detection: ')


def test_labels_without_a_class_of_the_model_are_said(tmp_path, finder, caplog):
    caplog.set_level('WARNING', 'svp_ros')
    write_frame(tmp_path / 'a', [('Truck', [0, 0.5, 12, 7, 3, 2.5, 0], 0)])
    assert main(['evaluate', 'detection', '--data', str(tmp_path), '--model', str(finder),
                 '--network-size', '64x96']) == 0
    assert 'no visible object of the classes Car, Pedestrian; the labels are Truck' in caplog.text


def test_rendered_streets_are_scored(tmp_path, capsys):
    out = tmp_path / 'street'
    assert main(['render', '--out', str(out), '--count', '2', '--kind', 'street', '--size',
                 '96x320', '--seed', '3']) == 0
    scores = score_detections(detect(out), CLASSES, 0.0)
    found = {level['ap'] for metrics in scores['average_precision'].values()
             for levels in metrics.values() for level in levels.values()}
    assert found == {100, None}
    assert scores['objects'] and all(row['located'] for row in scores['objects'])


KITTI = Path(os.environ.get('SVP_LABELLED', '')) / 'kitti_object_stereo'


@pytest.mark.skipif(not KITTI.is_dir(), reason='SVP_LABELLED has no kitti_object_stereo')
def test_truth_of_real_frames_against_itself_is_100():
    detected = detect(KITTI)
    scores = score_detections(detected, CLASSES, 0.0)
    assert len(scores['objects']) > 8 and scores['false_alarms'] == []
    assert all(row['seen'] and row['located'] for row in scores['objects'])
    # with the labelled 2D boxes; projected ones of distant cars are a little less than 25 px high
    images = []
    for item in detected:
        truth = item.image.truth
        truth = truth.select([label in CLASSES for label in truth.label])
        images.append(ScoredImage(truth, item.image.found, truth.box2d))
    for metrics in score_classes(images, ('Car', 'Pedestrian')).values():
        assert {levels[level]['ap'] for levels in metrics.values() for level in levels} == {100}
