"""Boxes of a recording against the truth: counts, distances and average precision by hand."""

import numpy as np
import pytest

from svp_ros.boxes import Boxes
from svp_ros.data.bag_boxes import label_boxes
from svp_ros.eval.box_score import ANY_OCCLUSION, BoxScore, match_boxes
from svp_ros.geometry import StereoCamera

CAMERA = StereoCamera(fx=500.0, fy=500.0, cx=299.5, cy=149.5, baseline=0.5, width=600,
                      height=300)
CLASSES = ('Car', 'Pedestrian', 'Cyclist')
# two cars ahead, one of them far, and a pedestrian
STREET = np.array([[-2, 0.9, 8, 4, 1.5, 1.8, -1.57], [2, 0.9, 35, 4, 1.5, 1.8, -1.57],
                   [3, 0.8, 12, 0.8, 1.7, 0.6, 0]], np.float32)
LABELS = ['Car', 'Car', 'Pedestrian']


def boxes(box3d=STREET, labels=LABELS, score=(0.9, 0.8, 0.7)):
    return Boxes(np.array(box3d, np.float32), list(labels), np.array(score, np.float32))


def label(found=None, occlusion=None):
    truth = label_boxes(boxes() if found is None else found, CAMERA)
    if occlusion is not None:
        truth.occlusion[:] = occlusion
    return truth


def move(metres, axis=2):
    moved = STREET.copy()
    moved[:, axis] += metres
    return boxes(moved)


def test_truth_against_itself_is_perfect_and_no_truth_is_no_data():
    score = BoxScore(CLASSES)
    matches = score.add(label(occlusion=0), boxes(), CAMERA)
    assert [hit[:2] for hit in matches.hits] == [(0, 0), (1, 1), (2, 2)]
    assert max(hit[2] for hit in matches.hits) == 0 and matches.errors == 0
    result = score.result()
    assert result['pairs'] == 1 and result['score_threshold'] == 0.15
    precision = result['average_precision']
    assert precision['Car']['3d@0.7']['easy'].keys() == {'ap', 'truths', 'precision'}
    # the far car is 21 px high: no level counts it
    for name, metrics in precision.items():
        for levels in metrics.values():
            assert {key: (level['ap'], level['truths']) for key, level in levels.items()} == (
                dict.fromkeys(('easy', 'moderate', 'hard'),
                              (None, 0) if name == 'Cyclist' else (100, 1)))
    assert result['objects']['Car'] == {
        'objects': 2, 'found': 100, 'centre_error': 0, 'false_alarms': 0, 'bands': [
            {'from_m': 0, 'to_m': 10, 'objects': 1, 'found': 100, 'centre_error': 0,
             'false_alarms': 0},
            {'from_m': 30, 'to_m': 50, 'objects': 1, 'found': 100, 'centre_error': 0,
             'false_alarms': 0}]}
    assert result['objects']['Cyclist'] == {
        'objects': 0, 'found': None, 'centre_error': None, 'false_alarms': 0, 'bands': []}


def test_without_occlusion_there_is_one_level():
    score = BoxScore(CLASSES)
    score.add(label(), boxes(), CAMERA, graded=False)
    precision = score.result()['average_precision']
    assert precision['Car']['3d@0.7'].keys() == {ANY_OCCLUSION}
    assert precision['Car']['3d@0.7'][ANY_OCCLUSION]['ap'] == 100
    assert precision['Cyclist']['bev@0.25'][ANY_OCCLUSION]['ap'] is None
    assert score.result()['objects']['Car']['objects'] == 2


@pytest.mark.parametrize('metres, found, error', [(1.5, 100, 1.5), (-1.9, 100, 1.9),
                                                  (2.1, 0, None)])
def test_centres_belong_together_within_two_metres_on_the_ground(metres, found, error):
    score = BoxScore(CLASSES)
    score.add(label(occlusion=0), move(metres), CAMERA)
    objects = score.result()['objects']
    for name, count in (('Car', 2), ('Pedestrian', 1)):
        assert objects[name]['found'] == found
        assert objects[name]['centre_error'] == (error and pytest.approx(error, abs=1e-5))
        assert objects[name]['false_alarms'] == (0 if found else count)
    raised = BoxScore(CLASSES)
    raised.add(label(occlusion=0), move(3, axis=1), CAMERA)  # on the ground, they are right
    assert raised.result()['objects']['Car']['centre_error'] == pytest.approx(3, abs=1e-5)
    cars = score.result()['average_precision']['Car']
    # 4 m long cars, 1.5 m too far: 2.5 / 5.5 = 0.45
    assert cars['bev@0.5']['easy']['ap'] == 0


def test_the_surest_takes_the_nearest_that_is_left():
    truth = label(boxes([[0, 0.9, 10, 4, 1.5, 1.8, 0], [1.5, 0.9, 10, 4, 1.5, 1.8, 0]],
                        ['Car', 'Car'], (1, 1)), occlusion=0)
    places = [[0.6, 0.9, 10, 4, 1.5, 1.8, 0], [0.1, 0.9, 10, 4, 1.5, 1.8, 0],
              [-0.1, 0.9, 10, 4, 1.5, 1.8, 0], [9, 0.9, 10, 4, 1.5, 1.8, 0]]
    matches = match_boxes(truth, boxes(places, ['Car'] * 4, (0.9, 0.8, 0.7, 0.2)), 'Car', 0.3)
    assert [hit[:2] for hit in matches.hits] == [(0, 0), (1, 1)]
    assert [hit[2] for hit in matches.hits] == pytest.approx([0.6, 1.4], abs=1e-6)
    assert (matches.missed, matches.false_alarms, matches.errors) == ([], [2], 1)


def test_hidden_cut_and_neighbouring_objects_are_no_errors():
    hidden = label(occlusion=[3, 0, 2])
    score = BoxScore(CLASSES)
    matches = score.add(hidden, boxes(), CAMERA)
    assert [hit[0] for hit in matches.hits] == [1, 2] and matches.errors == 0
    assert score.add(hidden, boxes().select([]), CAMERA).missed == [1, 2]
    van = label(boxes(labels=['Van', 'Car', 'Pedestrian']), occlusion=0)
    assert [hit[0] for hit in score.add(van, boxes(), CAMERA).hits] == [1, 2]
    truck = label(boxes(labels=['Truck', 'Car', 'Pedestrian']), occlusion=0)
    assert score.add(truck, boxes(), CAMERA).false_alarms == [0]


def test_names_may_differ_in_case_and_unknown_classes_do_not_count():
    score = BoxScore(CLASSES[:1])
    matches = score.add(label(boxes(labels=['car', 'van', 'pedestrian']), occlusion=0), boxes(),
                        CAMERA)
    assert [hit[:2] for hit in matches.hits] == [(0, 0)] and matches.errors == 0
    assert score.result()['average_precision'].keys() == {'Car'}
    assert score.result()['average_precision']['Car']['3d@0.7']['easy']['ap'] == 100


def test_matches_count_among_all_that_was_published():
    score = BoxScore(CLASSES)
    found = boxes([[9, 0.9, 9, 4, 1.5, 1.8, 0], *STREET[:1], [-9, 0.9, 9, 4, 1.5, 1.8, 0]],
                  ['Dog', 'Car', 'Car'])
    matches = score.add(label(occlusion=0), found, CAMERA)
    assert [hit[:2] for hit in matches.hits] == [(0, 1)]
    assert matches.missed == [1, 2] and matches.false_alarms == [2]
    assert score.result()['objects']['Car']['false_alarms'] == 1


def test_only_average_precision_takes_low_scores():
    score = BoxScore(CLASSES, 0.5)
    matches = score.add(label(occlusion=0), boxes(score=(0.4, 0.5, 0.9)), CAMERA)
    assert matches.missed == [0]
    assert score.result()['average_precision']['Car']['3d@0.7']['easy']['ap'] == 100


def test_pairs_without_objects_bring_false_alarms():
    score = BoxScore(CLASSES)
    score.add(label(boxes().select([])), boxes(), CAMERA)
    result = score.result()
    assert result['objects']['Car']['false_alarms'] == 2
    assert result['average_precision']['Car']['3d@0.7']['easy']['ap'] is None
