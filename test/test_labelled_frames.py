from dataclasses import asdict
import json
import logging
import pickle

import numpy as np
import pytest

from svp_ros.boxes import clip_boxes, project_boxes
from svp_ros.data.formats import write_image, write_pfm
from svp_ros.data.kitti_object import read_tracks
from svp_ros.data.labelled_frames import find_frames, read_boxes_json
from svp_ros.data.render import main as render
from svp_ros.geometry import StereoCamera

H, W = 24, 80
CAMERA = StereoCamera(60.0, 60.0, 40.0, 12.0, 0.5, W, H)
CALIBRATION = 'P2: 60 0 40 3 0 60 12 0 0 0 1 0\nP3: 60 0 40 -27 0 60 12 0 0 0 1 0\n'
LABELS = ('Car 0.00 0 0.1 30.00 10.00 50.00 20.00 1.50 1.70 4.00 0.25 1.60 15.00 0.12\n'
          'DontCare -1 -1 -10 1.00 2.00 9.00 8.00 -1 -1 -1 -1000 -1000 -1000 -10\n')


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_picture(path, value, size=(H, W)):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((*size, 3), value, np.uint8))


def write_kitti(base, *names):
    for name in names:
        write_picture(base / 'image_2' / f'{name}.png', 10)
        write_picture(base / 'image_3' / f'{name}.png', 20)
        write(base / 'calib' / f'{name}.txt', CALIBRATION)
        write(base / 'label_2' / f'{name}.txt', LABELS)


def write_scene(folder, **files):
    write_picture(folder / 'left.png', 10)
    write_picture(folder / 'right.jpg', 20)
    for name, text in files.items():
        write(folder / name.replace('__', '.'), text)


def entry(box3d, **more):
    return {'label': 'Car', 'instance': 3, 'box3d': box3d, **more}


def write_rendered(folder, entries):
    write_scene(folder, camera__json=json.dumps(asdict(CAMERA)), boxes__json=json.dumps(entries))


def check_kitti_frame(frame):
    left, right, camera, boxes = frame.load()
    assert left.shape == right.shape == (H, W, 3) and left.mean() == 10
    assert right.mean() == pytest.approx(20, abs=1)
    assert camera == CAMERA
    assert boxes.label == ['Car', 'DontCare']
    # 0.05 m from camera 0 to camera 2, 0.75 m from the bottom to the centre
    np.testing.assert_allclose(boxes.box3d[0], [0.3, 0.85, 15, 4, 1.5, 1.7, 0.12], rtol=1e-6)
    np.testing.assert_allclose(frame.read_offset(), [0.05, 0, 0])


def test_frames_of_kitti_object_are_found(tmp_path):
    write_kitti(tmp_path / 'training', '000007', '000003')
    write_picture(tmp_path / 'testing/image_2/000001.png', 1)  # has no labels
    frames = find_frames(tmp_path)
    assert [frame.name for frame in frames] == ['training/000003', 'training/000007']
    assert [frame.name for frame in find_frames(tmp_path / 'training')] == ['000003', '000007']
    check_kitti_frame(frames[1])
    assert frames[1].left == tmp_path / 'training/image_2/000007.png'
    assert frames[1].disparity is None


def test_frames_of_kitti_tracking_are_found(tmp_path):
    base = tmp_path / 'training'
    for number in range(3):
        write_picture(base / f'image_02/0004/{number:06d}.png', 10)
        write_picture(base / f'image_03/0004/{number:06d}.png', 20)
    write_picture(base / 'image_02/0005/000000.png', 1)  # has no labels
    write(base / 'calib/0004.txt', CALIBRATION + 'R_rect 1 0 0 0 1 0 0 0 1\n')
    car, region = LABELS.splitlines()
    person = car.replace('Car 0.00 0', 'Person 1 2')
    write(base / 'label_02/0004.txt', f'0 7 {car.replace("0.00", "0")}\n0 -1 {region}\n'
                                      f'2 9 {person}\n')
    frames = find_frames(tmp_path)
    assert [frame.name for frame in frames] == [f'training/0004/00000{n}' for n in range(3)]
    check_kitti_frame(frames[0])
    assert len(frames[1].read_boxes()) == 0
    boxes = frames[2].load()[3]
    assert (boxes.label, boxes.occlusion.tolist()) == (['Person_sitting'], [2])
    assert boxes.truncation == np.float32(0.3)
    split = write(tmp_path / 'split.txt', '0004/000002')
    assert [frame.name for frame in find_frames(base, split)] == ['0004/000002']


@pytest.mark.parametrize('line, message', [
    ('0 1 Car 0.5 0 ', 'truncated must be 0, 1, 2 or -1 in KITTI tracking'),
    ('0 Car 0 0 ', "line 1: could not convert string to float: 'Car'"),
    ('', 'line 1: .* has 15 columns, got 10')])
def test_broken_tracks_are_named(tmp_path, line, message):
    path = write(tmp_path / '0000.txt', line + LABELS.splitlines()[0].partition(' 0 ')[2])
    with pytest.raises(ValueError, match=f'0000.txt.*{message}'):
        read_tracks(path)


def test_a_scene_with_labels_of_kitti_beside_its_images_is_found(tmp_path):
    write_scene(tmp_path / 'set/a', label_2__txt=LABELS, calib__txt=CALIBRATION)
    write_pfm(tmp_path / 'set/a/disp.pfm', np.ones((H, W)))
    write_scene(tmp_path / 'set/b')  # has no boxes
    frame, = find_frames(tmp_path)
    assert frame.name == 'set/a' and frame.disparity == tmp_path / 'set/a/disp.pfm'
    check_kitti_frame(frame)
    alone, = find_frames(tmp_path / 'set/a')
    assert alone.name == 'a'


def test_a_scene_of_the_world_is_found_with_its_boxes(tmp_path):
    box3d = [1.0, 0.5, 12.0, 4.0, 1.5, 1.7, -1.0]
    write_rendered(tmp_path / 'scene_000000', [
        entry(box3d, box2d=[30, 9, 55, 20], truncation=0.25, occlusion=2)])
    frame, = find_frames(tmp_path)
    _, _, camera, boxes = frame.load()
    assert camera == CAMERA and boxes.label == ['Car'] and boxes.instance.tolist() == [3]
    np.testing.assert_array_equal(boxes.box3d, np.float32([box3d]))
    np.testing.assert_array_equal(boxes.box2d, np.float32([[30, 9, 55, 20]]))
    assert boxes.truncation == 0.25 and boxes.occlusion == 2
    np.testing.assert_array_equal(frame.read_offset(), 0)


def test_what_an_older_render_did_not_write_comes_from_the_projection(tmp_path):
    # A cube of 2 m at 10 m spans 60 * 2 / 9 px at its front; the left half is outside.
    inside, half = [0.0, 0.0, 10, 2, 2, 2, 0], [-40 * 9 / 60, 0, 10, 2, 2, 2, 0]
    write_rendered(tmp_path, [entry(inside), entry(half)])
    frame, = find_frames(tmp_path)
    boxes = frame.read_boxes()
    half_px = 60 / 9
    np.testing.assert_allclose(boxes.box2d[0], [40 - half_px, 12 - half_px, 40 + half_px,
                                                12 + half_px], rtol=1e-6)
    whole = project_boxes(boxes.box3d, CAMERA)
    np.testing.assert_array_equal(boxes.box2d, clip_boxes(whole, W, H))
    width = whole[1, 2] - whole[1, 0]
    np.testing.assert_allclose(boxes.truncation, [0, -whole[1, 0] / width], atol=1e-6)
    assert boxes.occlusion.tolist() == [3, 3]


def test_a_scene_without_objects_has_no_boxes(tmp_path):
    write_rendered(tmp_path, [])
    *_, boxes = find_frames(tmp_path)[0].load()
    assert len(boxes) == 0 and boxes.box3d.shape == (0, 7) and boxes.box2d.shape == (0, 4)


def test_what_svp_render_writes_is_read_again(tmp_path):
    assert render(['--out', str(tmp_path / 'w'), '--kind', 'street', '--count', '2', '--size',
                   '48x160', '--seed', '3']) == 0
    frames = find_frames(tmp_path / 'w')
    assert [frame.name for frame in frames] == ['scene_000000', 'scene_000001']
    overlaps = []
    for frame in frames:
        left, _, camera, boxes = frame.load()
        assert left.shape == (48, 160, 3) and len(boxes)
        assert frame.disparity.is_file()
        assert (boxes.truncation >= 0).all() and (boxes.truncation <= 1).all()
        assert set(boxes.occlusion.tolist()) <= {0, 1, 2, 3}
        whole = clip_boxes(project_boxes(boxes.box3d, camera), 160, 48)
        overlaps.append(np.abs(whole - boxes.box2d).max())
    assert max(overlaps) < 2


def test_a_split_takes_the_frames_that_it_names(tmp_path):
    write_kitti(tmp_path / 'training', '000001', '000002', '000003')
    split = write(tmp_path / 'val.txt', '000003\n000001\n\n')
    assert [frame.name for frame in find_frames(tmp_path, split)] == [
        'training/000001', 'training/000003']
    split.write_text('training/000002\n')
    assert [frame.name for frame in find_frames(tmp_path, split)] == ['training/000002']


def test_a_split_that_names_what_is_not_there_is_an_error(tmp_path):
    write_kitti(tmp_path / 'training', '000001', '000002')
    split = write(tmp_path / 'val.txt', '000001\n000009\n')
    with pytest.raises(ValueError, match='1 of 2 frames of the split .*val.txt are not there, '
                                         'such as 000009; frames are named like training/000001'):
        find_frames(tmp_path, split)
    (tmp_path / 'training/image_3/000002.png').unlink()
    split.write_text('000002\n')
    with pytest.raises(ValueError, match='such as 000002, which has no training/image_3/000002'):
        find_frames(tmp_path, split)
    split.write_text('\n')
    with pytest.raises(ValueError, match='val.txt names no frame'):
        find_frames(tmp_path, split)
    with pytest.raises(FileNotFoundError, match='no split file .*train.txt'):
        find_frames(tmp_path, tmp_path / 'train.txt')


def test_frames_that_lack_a_file_are_left_out_and_counted(tmp_path, caplog):
    write_kitti(tmp_path, '000001', '000002')
    (tmp_path / 'calib/000002.txt').unlink()
    with caplog.at_level(logging.INFO):
        frames = find_frames(tmp_path)
    assert [frame.name for frame in frames] == ['000001']
    assert 'left out 1 of 2 frames, which lack a file: 000002 has no calib/000002' in caplog.text


def test_a_folder_without_frames_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder'):
        find_frames(tmp_path / 'absent')
    with pytest.raises(FileNotFoundError, match='no frame with labelled boxes below .*; expected '
                                                r'training/\{image_2,image_3,calib,label_2\}'):
        find_frames(tmp_path)
    write(tmp_path / 'label_2/000001.txt', LABELS)
    with pytest.raises(FileNotFoundError, match='1 lack a file, such as 000001, which has no '
                                                'image_2/000001.png'):
        find_frames(tmp_path)


def test_a_broken_label_is_named_with_its_file_and_line(tmp_path):
    write_kitti(tmp_path, '000001')
    write(tmp_path / 'label_2/000001.txt', LABELS + 'Car 0.00 0\n')
    with pytest.raises(ValueError, match='000001.txt, line 3: .* has 15 columns, got 3'):
        find_frames(tmp_path)[0].load()


def test_images_and_calibration_of_different_size_are_refused(tmp_path):
    write_kitti(tmp_path / 'k', '000001')
    for eye in ('image_2', 'image_3'):
        write_picture(tmp_path / 'k' / eye / '000001.png', 5, (H, W // 2))
    with pytest.raises(ValueError, match='principal point .* border of these, which are 40x24'):
        find_frames(tmp_path / 'k')[0].load()
    write_rendered(tmp_path / 'w', [])
    for eye in ('left.png', 'right.jpg'):
        write_picture(tmp_path / 'w' / eye, 5, (H, W // 2))
    with pytest.raises(ValueError, match='camera.json is of 80x24 images, these are 40x24'):
        find_frames(tmp_path / 'w')[0].load()
    write_picture(tmp_path / 'w/left.png', 5)
    with pytest.raises(ValueError, match=r'w: left and right must be of one size, got \(24, 80\)'):
        find_frames(tmp_path)[1].load()


def test_labels_of_larger_images_are_refused(tmp_path):
    write_kitti(tmp_path, '000001')
    write(tmp_path / 'label_2/000001.txt', LABELS.replace('50.00', '95.00'))
    with pytest.raises(ValueError, match='000001: a 2D box ends 16 px outside of the image'):
        find_frames(tmp_path)[0].load()


@pytest.mark.parametrize('entries, message', [
    ('{', 'is not JSON'),
    ('[{"label": "Car"}]', "is no list of boxes of svp_ros: 'box3d'"),
    ('{"a": 1}', 'is no list of boxes'),
    (json.dumps([entry([1, 2, 3])]), 'is no list of boxes'),
    (json.dumps([entry([1, 2, 3, 4, 0, 6, 7])]), 'box3d must be finite with a positive length'),
    (json.dumps([entry([1, 2, 3, 4, 5, 6, 7], box2d=[0, 0, 1, 1])]),
     "is no list of boxes of svp_ros: 'truncation'"),
    (json.dumps([entry([1, 2, 3, 4, 5, 6, 7], box2d=[0, 0, 1, float('nan')], truncation=0,
                       occlusion=0)]), 'box2d and truncation must be finite')])
def test_a_broken_list_of_boxes_is_named(tmp_path, entries, message):
    camera = write(tmp_path / 'camera.json', json.dumps(asdict(CAMERA)))
    with pytest.raises(ValueError, match=f'boxes.json:? {message}'):
        read_boxes_json(write(tmp_path / 'boxes.json', entries), camera)


def test_frames_can_be_sent_to_the_workers_of_a_data_loader(tmp_path):
    write_kitti(tmp_path, '000001')
    check_kitti_frame(pickle.loads(pickle.dumps(find_frames(tmp_path)[0])))
