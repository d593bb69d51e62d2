import os
from pathlib import Path

import numpy as np
import pytest

from svp_ros.boxes import (
    Boxes,
    clip_boxes,
    corners,
    iou_2d,
    iou_bev,
    LabelledBoxes,
    observation_angle,
    project_boxes,
)
from svp_ros.data.kitti_object import (
    read_calibration,
    read_labels,
    read_offset,
    read_results,
    write_labels,
    write_results,
)

# K and the displacements of cameras 2 and 3 from camera 0, of which P2 and P3 are made.
K = np.array([[720.0, 0, 610], [0, 710.0, 173], [0, 0, 1]])
OFFSET, OFFSET_RIGHT = np.array([0.06, -0.02, 0.003]), np.array([-0.47, -0.02, 0.003])
CAR = 'Car 0.25 1 1.70 300.50 180.25 390.75 250.00 1.50 1.64 4.10 -6.00 1.80 17.00 1.36\n'
VAN = 'Van 0.00 0 -3.00 4.00 83.00 68.00 146.00 2.00 1.80 5.00 4.00 2.00 9.00 3.20\n'
DONT_CARE = 'DontCare -1 -1 -10 500.25 170.50 580.75 192.00 -1 -1 -1 -1000 -1000 -1000 -10\n'


def write_calibration(path, left=OFFSET, right=OFFSET_RIGHT):
    lines = []
    for key, offset in (('P0', np.zeros(3)), ('P2', left), ('P3', right)):
        projection = np.column_stack([K, K @ offset])
        lines.append(f'{key}: ' + ' '.join(f'{number:.12e}' for number in projection.ravel()))
    path.write_text('\n'.join(lines) + '\n\n')
    return path


def write(path, text):
    path.write_text(text)
    return path


def read_columns(path):
    return [line.split() for line in path.read_text().splitlines()]


def test_calibration_is_that_of_the_colour_cameras(tmp_path):
    path = write_calibration(tmp_path / 'calib.txt')
    camera = read_calibration(path, 375, 1242)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (720, 710, 610, 173)
    assert (camera.height, camera.width, camera.cx_right) == (375, 1242, 610)
    assert camera.baseline == pytest.approx(0.53)
    np.testing.assert_allclose(read_offset(path), OFFSET, atol=1e-12)


def test_names_of_several_words_stay_one_column(tmp_path):
    boxes = Boxes(np.ones((1, 7), np.float32), ['traffic cone'], np.float32([0.5]))
    write_results(tmp_path / 'a.txt', boxes, np.ones((1, 4)))
    assert read_results(tmp_path / 'a.txt')[0].label == ['traffic_cone']


def test_calibration_of_images_twice_as_large_is_refused(tmp_path):
    path = write_calibration(tmp_path / 'calib.txt')
    with pytest.raises(ValueError, match=r'principal point \(610.0, 173.0\) is at or beyond'):
        read_calibration(path, 188, 621)


def test_a_label_becomes_its_geometric_centre_in_the_left_colour_camera(tmp_path):
    path = write(tmp_path / '000000.txt', CAR + VAN)
    boxes = read_labels(path, OFFSET)
    assert boxes.label == ['Car', 'Van']
    np.testing.assert_allclose(boxes.box3d, [
        [-6.00 + 0.06, 1.80 - 1.50 / 2 - 0.02, 17.00 + 0.003, 4.10, 1.50, 1.64, 1.36],
        [4.06, 0.98, 9.003, 5, 2, 1.8, 3.2 - 2 * np.pi]], rtol=1e-5)
    np.testing.assert_allclose(boxes.box2d[0], [300.50, 180.25, 390.75, 250.00])
    np.testing.assert_allclose(boxes.truncation, [0.25, 0])
    assert boxes.occlusion.tolist() == [1, 0] and boxes.instance is None
    assert (boxes.box3d.dtype, boxes.box2d.dtype, boxes.truncation.dtype, boxes.occlusion.dtype
            ) == (np.float32, np.float32, np.float32, np.int64)


def test_the_offset_moves_boxes_to_where_the_projection_matrix_sees_them(tmp_path):
    # P2 applied to the corners in camera 0 = our camera applied to the corners in camera 2.
    calibration = write_calibration(tmp_path / 'calib.txt')
    path = write(tmp_path / '000000.txt', CAR)
    points = corners(read_labels(path).box3d)[0]
    P2 = np.column_stack([K, K @ OFFSET])
    pixels = np.column_stack([points, np.ones(8)]) @ P2.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    box3d = read_labels(path, read_offset(calibration)).box3d
    box2d = project_boxes(box3d, read_calibration(calibration, 375, 1242))[0]
    np.testing.assert_allclose(box2d, [*pixels.min(0), *pixels.max(0)], rtol=1e-5)


def test_regions_to_ignore_keep_their_2d_box_and_have_no_3d_one(tmp_path):
    boxes = read_labels(write(tmp_path / 'a.txt', DONT_CARE + '\n' + CAR), OFFSET)
    assert boxes.label == ['DontCare', 'Car']
    assert np.isnan(boxes.box3d[0]).all() and np.isfinite(boxes.box3d[1]).all()
    np.testing.assert_allclose(boxes.box2d[0], [500.25, 170.50, 580.75, 192.00])
    assert boxes.occlusion[0] == -1 and boxes.truncation[0] == -1


def test_a_file_without_objects_has_no_boxes(tmp_path):
    boxes = read_labels(write(tmp_path / 'a.txt', ''))
    assert len(boxes) == 0 and boxes.box3d.shape == (0, 7) and boxes.box2d.shape == (0, 4)
    write_labels(tmp_path / 'b.txt', boxes)
    assert (tmp_path / 'b.txt').read_text() == ''


def test_written_labels_are_read_again_as_they_were(tmp_path):
    path = write(tmp_path / 'a.txt', CAR + DONT_CARE + VAN)
    boxes = read_labels(path, OFFSET)
    write_labels(tmp_path / 'b.txt', boxes, OFFSET)
    back = read_labels(tmp_path / 'b.txt', OFFSET)
    assert back.label == boxes.label
    for name in ('box3d', 'box2d', 'truncation', 'occlusion'):
        np.testing.assert_allclose(getattr(back, name), getattr(boxes, name), atol=1e-4)
    # the file itself, so that reading and writing do not share an error; alpha is derived
    for words, original in zip(read_columns(tmp_path / 'b.txt'), read_columns(path)):
        assert words[0] == original[0]
        given, written = np.array(original[1:], float), np.array(words[1:], float)
        given[13] = (given[13] + np.pi) % (2 * np.pi) - np.pi if given[13] > -9 else given[13]
        np.testing.assert_allclose(np.delete(written, 2), np.delete(given, 2), atol=1e-4)
    alpha = float(read_columns(tmp_path / 'b.txt')[0][3])
    assert alpha == pytest.approx(1.70, abs=0.01)
    assert read_columns(tmp_path / 'b.txt')[1][3:] == [
        '-10.0000', '500.25', '170.50', '580.75', '192.00', '-1.0000', '-1.0000', '-1.0000',
        '-1000.0000', '-1000.0000', '-1000.0000', '-10.0000']


def test_written_results_hold_the_score_and_are_read_again(tmp_path):
    box3d = np.array([[1, 0.5, 10, 4, 1.5, 1.7, -3.1], [-2, 0.8, 7, 0.8, 1.75, 0.6, 2]],
                     np.float32)
    boxes = Boxes(box3d, ['Car', 'Pallet'], np.array([0.25, 0.987654]))
    box2d = np.array([[5, 6, 70, 80], [1.25, 2, 3, 4]], np.float32)
    write_results(tmp_path / 'a.txt', boxes, box2d, OFFSET)
    rows = read_columns(tmp_path / 'a.txt')
    assert [len(row) for row in rows] == [16, 16] and rows[0][1:3] == ['-1.00', '-1']
    # bottom centre in camera 0: y + h / 2 less the offset
    assert [float(word) for word in rows[0][11:14]] == pytest.approx([0.94, 1.27, 9.997])
    back, back2d = read_results(tmp_path / 'a.txt', OFFSET)
    assert back.label == boxes.label
    np.testing.assert_allclose(back.box3d, box3d, atol=1e-4)
    np.testing.assert_allclose(back.score, boxes.score, atol=1e-6)
    np.testing.assert_allclose(back2d, box2d)


@pytest.mark.parametrize('line, message', [
    ('Car 0 0 1 2', 'has 15 columns, got 5'),
    (CAR.strip() + ' 0.9', 'has 15 columns, got 16; that is a result with score'),
    (CAR.replace('17.00', 'far'), "could not convert string to float: 'far'"),
    (CAR.replace('17.00', 'nan'), 'must be finite'),
    (CAR.replace(' 1 1.70', ' 5 1.70'), 'occluded must be 0, 1, 2, 3 or -1, got 5'),
    (CAR.replace(' 1 1.70', ' 0.5 1.70'), 'occluded must be 0, 1, 2, 3 or -1, got 0.5'),
    (CAR.replace('1.64', '0.00'), 'width and length must be positive, got 1.50, 0.00, 4.10'),
    (CAR.replace('4.10', '-1'), 'must be positive, got 1.50, 1.64, -1; .* DontCare'),
    (CAR.replace('390.75', '290.75'), 'left, top, right, bottom .* in this order, got 300.50')])
def test_a_line_that_is_no_label_is_named(tmp_path, line, message):
    path = write(tmp_path / '000007.txt', CAR + line + '\n')
    with pytest.raises(ValueError, match=f'000007.txt, line 2: .*{message}'):
        read_labels(path)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / '000007.txt').write_bytes(b'\x89PNG\xff\x00 1 2')
    with pytest.raises(ValueError, match='000007.txt, line 1: '):
        read_labels(tmp_path / '000007.txt')


def test_ground_truth_is_no_result(tmp_path):
    with pytest.raises(ValueError, match='score has 16 columns, got 15; that is the ground truth'):
        read_results(write(tmp_path / 'a.txt', CAR))


def test_missing_files_are_named(tmp_path):
    for read in (read_labels, read_results, read_offset):
        with pytest.raises(FileNotFoundError, match='no file .*000009.txt'):
            read(tmp_path / '000009.txt')
    with pytest.raises(FileNotFoundError, match='no file .*000009.txt'):
        read_calibration(tmp_path / '000009.txt', 375, 1242)


def test_a_calibration_of_larger_images_is_refused(tmp_path):
    path = write_calibration(tmp_path / 'calib.txt')
    with pytest.raises(ValueError, match='belongs to larger images: .* which are 600x375'):
        read_calibration(path, 375, 600)


def test_a_broken_calibration_is_named(tmp_path):
    path = write(tmp_path / 'calib.txt', 'P2: 1 2 3\n')
    for read in (read_offset, lambda path: read_calibration(path, 375, 1242)):
        with pytest.raises(ValueError, match='calib.txt must have a line "P2:" with 12 numbers'):
            read(path)
    path = write(tmp_path / 'zeros.txt', 'P2:' + ' 0' * 12 + '\nP3:' + ' 0' * 12)
    with pytest.raises(ValueError, match='zeros.txt: P2 is no projection'):
        read_offset(path)
    with pytest.raises(ValueError, match='zeros.txt is of no rectified pair: fx must be positive'):
        read_calibration(path, 375, 1242)
    path = write_calibration(tmp_path / 'swapped.txt', OFFSET_RIGHT, OFFSET)
    with pytest.raises(ValueError, match='swapped.txt .* baseline must be positive'):
        read_calibration(path, 375, 1242)


def real_frames():
    root = os.environ.get('SVP_LABELLED')
    return sorted(path.parent for path in Path(root).rglob('label_2.txt')) if root else []


@pytest.fixture(params=real_frames() or [None], ids=lambda path: path and path.name)
def kitti_frame(request):
    if not request.param:
        pytest.skip('SVP_LABELLED names no frames of KITTI object')
    return request.param


def test_real_labels_agree_with_their_own_2d_boxes(kitti_frame):
    camera = read_calibration(kitti_frame / 'calib.txt', 375, 1242)
    offset = read_offset(kitti_frame / 'calib.txt')
    boxes = read_labels(kitti_frame / 'label_2.txt', offset)

    def agreement(box3d):
        box2d = clip_boxes(project_boxes(box3d, camera), camera.width, camera.height)
        keep = (boxes.truncation == 0) & (np.array(boxes.label) == 'Car')
        return np.diag(iou_2d(box2d, boxes.box2d))[keep], (box2d - boxes.box2d)[keep]

    overlap, error = agreement(boxes.box3d)
    assert overlap.min() > 0.95 and np.abs(error).max() < 1.5
    # 6 cm count: in camera 0 the boxes are farther to the left
    assert overlap.min() > agreement(read_labels(kitti_frame / 'label_2.txt').box3d)[0].max()


def test_real_labels_have_our_observation_angle(kitti_frame):
    path = kitti_frame / 'label_2.txt'
    alpha = [float(words[3]) for words in read_columns(path)]
    boxes = read_labels(path, read_offset(kitti_frame / 'calib.txt'))
    np.testing.assert_allclose(observation_angle(boxes.box3d), alpha, atol=0.0125)


def test_real_labels_survive_a_round_trip(kitti_frame, tmp_path):
    path, offset = kitti_frame / 'label_2.txt', read_offset(kitti_frame / 'calib.txt')
    boxes = read_labels(path, offset)
    assert isinstance(boxes, LabelledBoxes) and len(boxes) == 7
    write_labels(tmp_path / 'back.txt', boxes, offset)
    for words, original in zip(read_columns(tmp_path / 'back.txt'), read_columns(path)):
        given, written = np.array(original[1:], float), np.array(words[1:], float)
        np.testing.assert_allclose(np.delete(written, 2), np.delete(given, 2), atol=1e-4)
        assert written[2] == pytest.approx(given[2], abs=0.0125)
    np.testing.assert_allclose(np.diag(iou_bev(
        read_labels(tmp_path / 'back.txt', offset).box3d, boxes.box3d)), 1, atol=1e-3)
