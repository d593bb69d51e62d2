import numpy as np
import pytest

from svp_ros.boxes import Boxes, DIFFICULTIES, LabelledBoxes
from svp_ros.eval.average_precision import (
    average_precision,
    LEVELS,
    Matcher,
    recall_thresholds,
    score_classes,
    ScoredImage,
)

EASY, MODERATE, HARD = DIFFICULTIES
SIZES = {'Car': (4.0, 1.5, 1.8), 'Van': (5.0, 2.2, 2.0), 'Pedestrian': (0.8, 1.7, 0.6),
         'Person_sitting': (0.8, 1.2, 0.6), 'Cyclist': (1.8, 1.7, 0.6), 'DontCare': (np.nan,) * 3}


def label(*rows):
    """Truth from rows (name, left, top, right, bottom, occlusion, truncation).

    Box n stands at x = 10 n m, z = 20 m: different rows never overlap in space.
    """
    names = [row[0] for row in rows]
    return LabelledBoxes(
        np.array([[10 * n, 1, 20, *SIZES[name], 0] for n, name in enumerate(names)],
                 np.float32).reshape(-1, 7),
        names, np.array([row[1:5] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[6] for row in rows], np.float32),
        np.array([row[5] for row in rows], np.int64))


def detect(*rows):
    """Detections and their 2D boxes from rows (name, score, left, top, right, bottom)."""
    return (Boxes(np.full((len(rows), 7), np.nan, np.float32), [row[0] for row in rows],
                  np.array([row[1] for row in rows], np.float32)),
            np.array([row[2:] for row in rows], np.float32).reshape(-1, 4))


def score(truth, found, limits=MODERATE, name='Car', overlap=0.7):
    return average_precision([ScoredImage(truth, *found)], name, '2d', limits, overlap)


CAR = ('Car', 100, 100, 200, 180, 0, 0.0)


def test_a_hit_and_a_miss_are_half():
    truth = label(CAR, ('Car', 300, 100, 400, 180, 0, 0.0))
    result = score(truth, detect(('Car', 0.9, 100, 100, 200, 180)))
    assert (result['ap'], result['truths']) == (50, 2)
    assert result['precision'] == [100] * 21 + [0] * 20


def test_a_false_alarm_costs_the_recall_reached_after_it():
    truth = label(CAR, ('Car', 300, 100, 400, 180, 0, 0.0))
    result = score(truth, detect(('Car', 0.9, 100, 100, 200, 180), ('Car', 0.8, 500, 0, 600, 80),
                                 ('Car', 0.7, 300, 100, 400, 180)))
    assert result['ap'] == pytest.approx(50 * 1 + 50 * 2 / 3)
    below = detect(('Car', 0.9, 100, 100, 200, 180), ('Car', 0.1, 500, 0, 600, 80),
                   ('Car', 0.7, 300, 100, 400, 180))
    assert score(truth, below)['ap'] == 100  # no recall needs the false alarm


def test_precision_is_the_highest_from_there_on():
    truth = label(*(('Car', 100 * n, 100, 100 * n + 90, 180, 0, 0.0) for n in range(4)))
    found = detect(('Car', 0.9, 0, 300, 90, 380), *(
        ('Car', 0.8 - 0.1 * n, 100 * n, 100, 100 * n + 90, 180) for n in range(4)))
    # precisions 1/2, 2/3, 3/4, 4/5 at recalls 1/4, ... 1: the last is the highest
    assert score(truth, found)['ap'] == pytest.approx(80)


def test_overlap_must_exceed_the_limit():
    # 80 of 100 columns: 0.8; 70 of 100: exactly 0.7
    assert score(label(CAR), detect(('Car', 0.9, 100, 100, 180, 180)))['ap'] == 100
    assert score(label(CAR), detect(('Car', 0.9, 100, 100, 170, 180)))['ap'] == 0
    assert score(label(CAR), detect(('Car', 0.9, 100, 100, 170, 180)), overlap=0.69)['ap'] == 100


def test_one_truth_is_hit_once_by_the_best_overlap():
    image = ScoredImage(label(CAR), *detect(('Car', 0.9, 100, 100, 190, 180),
                                            ('Car', 0.8, 100, 100, 200, 180)))
    matcher = Matcher(image, 'Car', '2d', MODERATE, 0.7)
    assert matcher.match(0.0).hits == [(0, 1)] and matcher.match(0.0).false_alarms == [0]
    assert matcher.match(0.85).hits == [(0, 0)] and matcher.match(0.85).false_alarms == []
    assert matcher.match(0.95).missed == [0]
    assert matcher.hit_scores() == [pytest.approx(0.9)]
    np.testing.assert_array_equal(matcher.count_at([0.95, 0.9, 0.85, 0.8, 0.1]),
                                  [[0, 0, 1, 1, 1], [0, 0, 0, 1, 1]])


@pytest.mark.parametrize('row, limits', [
    (('Car', 300, 100, 400, 180, 2, 0.0), MODERATE),    # largely occluded
    (('Car', 300, 100, 400, 180, 0, 0.4), MODERATE),    # truncated
    (('Car', 300, 100, 400, 139, 0, 0.0), EASY),        # 39 px high
    (('Van', 300, 100, 400, 180, 0, 0.0), MODERATE),    # neighbour
])
def test_ignored_truth_is_neither_hit_nor_missed(row, limits):
    box = row[1:5]
    hit = ('Car', 0.8, 100, 100, 200, 180)
    for found in (detect(hit), detect(hit, ('Car', 0.9, *box))):
        result = score(label(CAR, row), found, limits)
        assert (result['ap'], result['truths']) == (100, 1)


def test_neighbours_are_those_of_their_class_alone():
    truck = ('Truck', 300, 100, 400, 180, 0, 0.0)
    found = detect(('Car', 0.9, 300, 100, 400, 180), ('Car', 0.8, 100, 100, 200, 180))
    SIZES['Truck'] = (7.0, 3.0, 2.4)
    assert score(label(CAR, truck), found)['ap'] == pytest.approx(50)
    person = ('Pedestrian', 100, 100, 140, 180, 0, 0.0)
    sitting = ('Person_sitting', 300, 100, 340, 180, 0, 0.0)
    found = detect(('Pedestrian', 0.9, 300, 100, 340, 180),
                   ('Pedestrian', 0.8, 100, 100, 140, 180))
    assert score(label(person, sitting), found, name='Pedestrian', overlap=0.5)['ap'] == 100
    cyclist = ('Cyclist', 300, 100, 340, 180, 0, 0.0)
    assert score(label(person, cyclist), found, name='Pedestrian',
                 overlap=0.5)['ap'] == pytest.approx(50)


def test_dont_care_excuses_by_the_share_of_the_detection_and_in_the_image_alone():
    truth = label(CAR, ('DontCare', 300, 0, 900, 300, -1, -1.0))
    hit = ('Car', 0.5, 100, 100, 200, 180)
    inside, across = ('Car', 0.9, 400, 100, 500, 180), ('Car', 0.9, 240, 100, 340, 180)
    assert score(truth, detect(hit, inside))['ap'] == 100
    assert score(truth, detect(hit, across))['ap'] == pytest.approx(50)
    found, box2d = detect(hit, inside)
    found.box3d[:] = truth.box3d[0] + [[0], [50]]
    found.box3d[1, 3:] = SIZES['Car'] + (0,)
    image = ScoredImage(truth, found, box2d)
    assert average_precision([image], 'Car', '3d', MODERATE, 0.7)['ap'] == pytest.approx(50)


def test_low_detections_are_neither_right_nor_wrong():
    low = ('Car', 0.9, 500, 100, 560, 124)  # 24 px
    hit = ('Car', 0.5, 100, 100, 200, 180)
    assert score(label(CAR), detect(hit, low))['ap'] == 100
    assert score(label(CAR), detect(hit, low[:-1] + (125,)))['ap'] == pytest.approx(50)
    # a truth of 41 px covered by a detection of 39 px: not a hit, but no miss either
    truth = label(CAR, ('Car', 300, 100, 400, 141, 0, 0.0))
    image = ScoredImage(truth, *detect(hit, ('Car', 0.9, 300, 101, 400, 140)))
    matches = Matcher(image, 'Car', '2d', EASY, 0.7).match(0.0)
    assert matches.hits == [(0, 0)] and matches.missed == [] and matches.false_alarms == []
    assert Matcher(image, 'Car', '2d', MODERATE, 0.7).match(0.0).hits == [(0, 0), (1, 1)]


@pytest.mark.parametrize('height, occlusion, truncation, levels', [
    (41, 0, 0.15, 3), (40, 0, 0.15, 2), (41, 1, 0.0, 2), (41, 0, 0.16, 2), (26, 1, 0.3, 2),
    (26, 2, 0.0, 1), (26, 1, 0.31, 1), (26, 0, 0.5, 1), (25, 0, 0.0, 0), (90, 3, 0.0, 0),
    (90, 0, 0.51, 0)])
def test_levels_of_difficulty_are_those_of_kitti(height, occlusion, truncation, levels):
    # the height has to exceed the limit
    truth = label(('Car', 300, 100, 400, 100 + height, occlusion, truncation))
    counted = [score(truth, detect(), limits)['truths'] for limits in (HARD, MODERATE, EASY)]
    assert counted == [1] * levels + [0] * (3 - levels)


def test_low_detections_of_any_class_take_a_truth():
    truth = label(('Car', 300, 100, 400, 141, 0, 0.0))
    found = detect(('Pedestrian', 0.9, 300, 101, 400, 140))
    for limits, missed in ((EASY, []), (MODERATE, [0])):
        matches = Matcher(ScoredImage(truth, *found), 'Car', '2d', limits, 0.7).match(0.0)
        assert (matches.hits, matches.missed, matches.false_alarms) == ([], missed, [])


def test_a_truth_prefers_a_detection_of_full_height():
    truth = label(('Car', 300, 100, 400, 141, 0, 0.0))
    found = detect(('Car', 0.9, 300, 101, 400, 140), ('Car', 0.8, 300, 100, 395, 144))
    assert Matcher(ScoredImage(truth, *found), 'Car', '2d', EASY, 0.7).match(0.0).hits == [(0, 1)]


def test_no_truth_is_no_data_and_no_detection_is_zero():
    nothing = detect()
    scores = score_classes([ScoredImage(label(CAR), *nothing)], ('Car', 'Pedestrian'))
    assert scores['Car']['3d@0.7']['hard'] == {'ap': 0, 'truths': 1, 'precision': [0] * 41}
    assert scores['Pedestrian']['2d@0.5']['hard'] == {'ap': None, 'truths': 0, 'precision': []}
    occluded = label(('Car', 100, 100, 200, 180, 1, 0.0))
    found = detect(('Car', 0.9, 100, 100, 200, 180))
    assert score(occluded, found, EASY)['ap'] is None
    assert score(occluded, found, MODERATE)['ap'] == 100
    assert score(label(), found)['ap'] is None


def test_metrics_and_overlaps_are_those_of_the_class():
    scores = score_classes([], ('Car', 'Cyclist', 'Dog'))
    assert list(scores['Car']) == ['2d@0.7', 'bev@0.7', '3d@0.7', 'bev@0.5', '3d@0.5']
    for name in ('Cyclist', 'Dog'):
        assert list(scores[name]) == ['2d@0.5', 'bev@0.5', '3d@0.5', 'bev@0.25', '3d@0.25']


def test_thresholds_of_many_truths_are_nearest_to_the_recall_positions():
    scores = np.arange(200, 0, -1) / 200  # the score of hit n is (201 - n) / 200
    hits = [round(201 - 200 * threshold) for threshold in recall_thresholds(scores, 200)]
    assert hits == [1, *range(5, 201, 5)]
    # 90 of 200 truths are hit: recall 0.45 is position 18
    hits = [round(201 - 200 * threshold) for threshold in recall_thresholds(scores[:90], 200)]
    assert hits == [1, *range(5, 91, 5)]


@pytest.mark.parametrize('truths, expected', [
    (1, [1] * 41), (2, [1] * 21 + [2] * 20), (40, [1, *range(1, 41)]), (41, list(range(1, 42)))])
def test_thresholds_of_few_truths_reach_every_recall(truths, expected):
    hits = [-score for score in recall_thresholds([-n for n in range(1, truths + 1)], truths)]
    assert hits == expected


@pytest.mark.parametrize('count', [1, 3, 13, 39, 40, 41, 43, 57, 80, 133])
def test_truth_against_itself_is_100_for_any_number(count):
    images = []
    for start in range(0, count, 7):
        rows = [('Car', 150 * n, 100, 150 * n + 100, 180, 0, 0.0)
                for n in range(min(7, count - start))]
        truth = label(*rows)
        found = Boxes(truth.box3d, truth.label,
                      np.random.default_rng(start).random(len(truth), np.float32))
        images.append(ScoredImage(truth, found, truth.box2d))
    for metric in score_classes(images, ['Car'])['Car'].values():
        assert [(metric[level]['ap'], metric[level]['truths']) for level in LEVELS] == [
            (100, count)] * 3


def test_box2d_of_another_number_is_refused():
    with pytest.raises(ValueError, match=r'box2d of 1 detections must be \(1, 4\), got \(2, 4\)'):
        ScoredImage(label(CAR), detect(('Car', 0.9, 0, 0, 1, 1))[0], np.zeros((2, 4)))


# The same protocol once more, straight from its description: one loop per image and threshold.

NAMES = ['Car', 'Van', 'Pedestrian', 'Person_sitting', 'Cyclist', 'DontCare']


def street(rng, frames):
    """Random crowded images with detections around truths and elsewhere."""
    images = []
    for _ in range(frames):
        count = rng.integers(0, 9)
        names = [NAMES[n] for n in rng.choice(6, count, p=(0.4, 0.1, 0.2, 0.1, 0.1, 0.1))]
        box3d = np.array([[rng.uniform(-8, 8), 1, rng.uniform(8, 40), *SIZES[name],
                           rng.uniform(-3, 3)] for name in names]).reshape(-1, 7)
        box3d[[name == 'DontCare' for name in names]] = np.nan
        corner = rng.uniform((0, 100), (900, 200), (count, 2))
        box2d = np.hstack([corner, corner + rng.uniform((30, 18), (120, 90), (count, 2))])
        truth = LabelledBoxes(box3d, names, box2d, rng.choice((0, 0, 0.2, 0.4), count),
                              rng.choice((0, 0, 1, 2, 3), count))
        near = rng.integers(0, count, 2 * count) if count else np.zeros(0, int)
        shifted = box3d[near] + rng.normal(0, 0.15, (len(near), 7))
        other = rng.integers(0, 3)
        places = np.hstack([rng.uniform((-8, 1, 8), (8, 1, 40), (other, 3)),
                            np.tile(SIZES['Car'] + (0,), (other, 1))])
        corner = rng.uniform((0, 100), (900, 200), (other, 2))
        found3d = np.vstack([np.where(np.isnan(shifted), 5.0, shifted), places])
        found2d = np.vstack([box2d[near] + rng.normal(0, 4, (len(near), 4)),
                             np.hstack([corner, corner + rng.uniform(20, 90, (other, 2))])])
        kinds = [names[n] if names[n] in ('Car', 'Pedestrian', 'Cyclist') else
                 str(rng.choice(['Car', 'Pedestrian'])) for n in near] + ['Car'] * other
        # coarse scores, so that some are equal
        found = Boxes(found3d, kinds, np.round(rng.random(len(kinds)), 2).astype(np.float32))
        images.append(ScoredImage(truth, found, found2d))
    return images


def overlap_2d(a, b, union=True):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area_a + area_b - width * height if union else area_a)


def overlap(image, metric, n, m):
    if metric == '2d':
        return overlap_2d(image.box2d[n], image.truth.box2d[m])
    return image.overlaps[metric][n, m]


def plain_statistics(image, name, metric, limits, least_overlap, threshold):
    """Hits with their scores, misses and false alarms; threshold None: best scores win."""
    truth, found, score = image.truth, image.found, image.found.score
    role = []
    for n in range(len(found)):
        low = image.box2d[n, 3] - image.box2d[n, 1] < limits[0]
        role.append('low' if low else 'own' if found.label[n] == name else 'other')
    alive = [role[n] != 'other' and (threshold is None or score[n] >= threshold)
             for n in range(len(found))]
    neighbour = {'Car': 'Van', 'Pedestrian': 'Person_sitting', 'Cyclist': None}[name]
    hits, misses = [], 0
    for m in range(len(truth)):
        if truth.label[m] not in (name, neighbour):
            continue
        ignored = (truth.label[m] == neighbour or truth.occlusion[m] > limits[1]
                   or truth.truncation[m] > limits[2]
                   or truth.box2d[m, 3] - truth.box2d[m, 1] <= limits[0])
        chosen, best = None, -1.0
        for n in range(len(found)):
            if not alive[n] or not overlap(image, metric, n, m) > least_overlap:
                continue
            if threshold is None:
                if score[n] > best:
                    chosen, best = n, score[n]
            elif role[n] == 'own':
                if chosen is None or role[chosen] == 'low' or overlap(image, metric, n, m) > best:
                    chosen, best = n, overlap(image, metric, n, m)
            elif chosen is None:
                chosen = n
        if chosen is None:
            misses += not ignored
        else:
            alive[chosen] = False
            if not ignored and role[chosen] == 'own':
                hits.append(score[chosen])
    false_alarms = 0
    for n in range(len(found)):
        if alive[n] and role[n] == 'own':
            false_alarms += not any(
                truth.label[m] == 'DontCare' and metric == '2d'
                and overlap_2d(image.box2d[n], truth.box2d[m], union=False) > least_overlap
                for m in range(len(truth)))
    return hits, misses, false_alarms


def plain_average_precision(images, name, metric, limits, least_overlap):
    def pooled(threshold):
        parts = [plain_statistics(image, name, metric, limits, least_overlap, threshold)
                 for image in images]
        return sum((part[0] for part in parts), []), *np.sum([part[1:] for part in parts], 0)

    truths = pooled(2.0)[1]  # no score is so high: all are missed
    scores = sorted(pooled(None)[0], reverse=True)
    thresholds, recall = [], 0.0
    for n, score in enumerate(scores):
        left = (n + 1) / truths
        right = (n + 2) / truths if n < len(scores) - 1 else left
        if right - recall < recall - left and n < len(scores) - 1:
            continue
        thresholds.append(score)
        recall += 1 / 40
    precision = np.zeros(41)
    for n, threshold in enumerate(thresholds):
        hits, _, false_alarms = pooled(threshold)
        precision[n] = len(hits) / (len(hits) + false_alarms)
    return truths, 100 * sum(max(precision[n:]) for n in range(1, 41)) / 40


@pytest.mark.parametrize('metric, name, limits, least', [
    ('2d', 'Car', EASY, 0.7), ('2d', 'Car', HARD, 0.7), ('2d', 'Pedestrian', MODERATE, 0.5),
    ('bev', 'Car', MODERATE, 0.5), ('bev', 'Car', HARD, 0.7), ('3d', 'Pedestrian', HARD, 0.25),
    ('3d', 'Cyclist', HARD, 0.25), ('3d', 'Car', HARD, 0.5)])
def test_agrees_with_a_plain_loop_over_crowded_streets(metric, name, limits, least):
    images = street(np.random.default_rng(5), 300)
    truths, expected = plain_average_precision(images, name, metric, limits, least)
    result = average_precision(images, name, metric, limits, least)
    assert truths == result['truths'] > 40 and 1 < expected < 95
    assert result['ap'] == pytest.approx(expected, abs=1e-6)
