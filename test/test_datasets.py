"""Tiny copies of every data set's layout on disk, read back exactly."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from svp_ros.data.formats import write_pfm
from svp_ros.data.labelled import find_scenes, LAYOUTS
from svp_ros.geometry import disparity_to_depth

H, W = 4, 6
DISPARITY = np.arange(H * W, dtype=np.float32).reshape(H, W) / 4 + 1
RIGHT = np.full((H, W, 3), 200, np.uint8)


def write(path, array):
    """Write an image (8 or 16 bit, RGB or grey), a .npy or a text, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(array, str):
        path.write_text(array)
    elif path.suffix == '.npy':
        np.save(path, array)
    elif path.suffix == '.pfm':
        write_pfm(path, array)
    else:
        assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def left_image(height=H, width=W):
    return np.arange(height * width * 3).reshape(height, width, 3).astype(np.uint8)


def write_pair(left, right, height=H, width=W):
    write(left, left_image(height, width))
    write(right, np.broadcast_to(np.uint8(200), (height, width, 3)))


def only_scene(root, layout, name):
    """Return the only scene, found by its layout and without being told it."""
    scene, = find_scenes(root, layout)
    assert scene.name == name
    assert [other.name for other in find_scenes(root)] == [name]
    left, right, disparity, valid = scene.load()
    if scene.left.suffix != '.jpg':
        np.testing.assert_array_equal(left, left_image(*disparity.shape))
        assert (right == 200).all()
    assert disparity.dtype == np.float32 and valid.dtype == bool
    assert (disparity[~valid] == 0).all()
    return scene, disparity, valid


def camera_of(scene):
    return scene.load_calibration(H, W).camera


def matrix(fx, cx, cy, translation):
    return ' '.join(f'{x:e}' for x in (fx, 0, cx, translation, 0, fx, cy, 0, 0, 0, 1, 0))


def kitti_raw():
    raw = (DISPARITY * 256).astype(np.uint16)
    raw[0, 1] = 0
    noc = raw.copy()
    noc[2, 3] = 0
    return raw, noc


def test_kitti_2015(tmp_path):
    raw, noc = kitti_raw()
    base = tmp_path / 'training'
    write_pair(base / 'image_2' / '000003_10.png', base / 'image_3' / '000003_10.png')
    write_pair(base / 'image_2' / '000003_11.png', base / 'image_3' / '000003_11.png')
    write(base / 'disp_occ_0' / '000003_10.png', raw)
    write(base / 'disp_noc_0' / '000003_10.png', noc)
    write(base / 'calib_cam_to_cam' / '000003.txt',
          'calib_time: 09-Jan-2012 13:57:47\n'
          f'P_rect_00: {matrix(700, 3, 2, 0)}\n'
          f'P_rect_02: {matrix(700, 3, 2, 42)}\nP_rect_03: {matrix(700, 3, 2, -336)}\n')
    scene, disparity, valid = only_scene(tmp_path, 'kitti', 'training/000003_10')
    np.testing.assert_array_equal(disparity[valid], DISPARITY[valid])
    assert valid.sum() == H * W - 1 and not valid[0, 1]
    visible = scene.load_visible(H, W)
    assert not visible[2, 3] and valid[2, 3] and visible.sum() == H * W - 2
    camera = camera_of(scene)
    assert (camera.fx, camera.cx, camera.cy, camera.doffs) == (700, 3, 2, 0)
    assert camera.baseline == pytest.approx(0.54)
    assert find_scenes(base)[0].name == '000003_10'


@pytest.mark.parametrize('eyes, baseline', [
    (['image_'], 0.54), (['image_', 'colored_'], 0.53)])
def test_kitti_2012_takes_colour_if_it_is_there(tmp_path, eyes, baseline):
    raw, noc = kitti_raw()
    base = tmp_path / 'training'
    for eye in eyes:
        write_pair(base / f'{eye}0' / '000000_10.png', base / f'{eye}1' / '000000_10.png')
    write(base / 'disp_occ' / '000000_10.png', raw)
    write(base / 'disp_noc' / '000000_10.png', noc)
    write(base / 'calib' / '000000.txt', ''.join(
        f'P{i}: {matrix(700, 3, 2, 700 * x)}\n' for i, x in enumerate((0, -0.54, 0.06, -0.47))))
    scene, disparity, valid = only_scene(tmp_path, 'kitti', 'training/000000_10')
    assert scene.left.parent.name == f'{eyes[-1]}0' and scene.right.parent.name == f'{eyes[-1]}1'
    np.testing.assert_array_equal(disparity[valid], DISPARITY[valid])
    assert camera_of(scene).baseline == pytest.approx(baseline)
    assert (scene.load_visible(H, W) & valid).sum() == H * W - 2


def test_kitti_without_calibration_and_mask(tmp_path):
    write_pair(tmp_path / 'image_2' / '000000_10.png', tmp_path / 'image_3' / '000000_10.png')
    write(tmp_path / 'disp_occ_0' / '000000_10.png', kitti_raw()[0])
    scene, _, _ = only_scene(tmp_path, 'kitti', '000000_10')
    assert scene.load_visible(H, W) is None and scene.load_calibration(H, W) is None


@pytest.mark.parametrize('part, place, stem', [
    ('FlyingThings3D', 'TRAIN/A/0000', '0006'),
    ('Driving', '15mm_focallength/scene_forwards/fast', '0001'),
    ('Monkaa', 'a_rain_of_stones_x2', '0000')])
def test_sceneflow_has_one_scene_per_pass(tmp_path, part, place, stem):
    base = tmp_path / part
    for kind in ('frames_cleanpass', 'frames_finalpass'):
        write_pair(base / kind / place / 'left' / f'{stem}.png',
                   base / kind / place / 'right' / f'{stem}.png')
    for eye, disparity in (('left', DISPARITY), ('right', DISPARITY + 7)):
        write(base / 'disparity' / place / eye / f'{stem}.pfm', disparity)
    clean, final = find_scenes(tmp_path, 'sceneflow')
    assert [clean, final] == find_scenes(tmp_path)
    assert clean.name == f'{part}/frames_cleanpass/{place}/left/{stem}'
    assert final.right == base / 'frames_finalpass' / place / 'right' / f'{stem}.png'
    for scene in (clean, final):
        _, _, disparity, valid = scene.load()
        np.testing.assert_array_equal(disparity, DISPARITY)
        assert valid.all() and scene.read_calibration is None


def test_sceneflow_subset_is_negative_and_has_occlusions(tmp_path):
    base = tmp_path / 'FlyingThings3D_subset' / 'val'
    write_pair(base / 'image_clean/left/0000012.png', base / 'image_clean/right/0000012.png')
    write(base / 'disparity/left/0000012.pfm', -DISPARITY)
    occluded = np.zeros((H, W), np.uint8)
    occluded[1, 2] = 255
    write(base / 'disparity_occlusions/left/0000012.png', occluded)
    scene, disparity, _ = only_scene(tmp_path, 'sceneflow',
                                     'FlyingThings3D_subset/val/image_clean/left/0000012')
    np.testing.assert_array_equal(disparity, DISPARITY)
    assert not scene.load_visible(H, W)[1, 2] and scene.load_visible(H, W).sum() == H * W - 1


def test_sceneflow_of_both_signs_is_refused(tmp_path):
    write_pair(tmp_path / 'image_clean/left/0.png', tmp_path / 'image_clean/right/0.png')
    write(tmp_path / 'disparity/left/0.pfm', DISPARITY - 3)
    with pytest.raises(ValueError, match='0.pfm holds disparities of both signs'):
        find_scenes(tmp_path)[0].load()


CALIB = ('cam0=[900.5 0 2.25; 0 900.5 1.5; 0 0 1]\ncam1=[900.5 0 5.75; 0 900.5 1.5; 0 0 1]\n'
         f'doffs=3.5\nbaseline=193.001\nwidth={W}\nheight={H}\nndisp=64\nisint=0\nvmin=1\n')


@pytest.mark.parametrize('truth', ['disp0.pfm', 'disp0GT.pfm'])
def test_middlebury_2014_2021_and_benchmark(tmp_path, truth):
    folder = tmp_path / 'trainingH' / 'Vintage'
    write_pair(folder / 'im0.png', folder / 'im1.png')
    disparity = DISPARITY.copy()
    disparity[3, 0] = np.inf
    write(folder / truth, disparity)
    write(folder / 'disp1.pfm', DISPARITY + 9)
    write(folder / 'im1E.png', RIGHT)
    write(folder / 'calib.txt', CALIB)
    mask = np.full((H, W), 255, np.uint8)
    mask[1, 1], mask[3, 0] = 128, 0
    write(folder / 'mask0nocc.png', mask)
    scene, got, valid = only_scene(tmp_path, 'middlebury', 'trainingH/Vintage')
    np.testing.assert_array_equal(got[valid], disparity[np.isfinite(disparity)])
    assert not valid[3, 0] and valid.sum() == H * W - 1
    np.testing.assert_array_equal(scene.load_visible(H, W), mask == 255)
    calibration = scene.load_calibration(H, W)
    assert calibration.search_range == 64
    # Z = baseline * f / (d + doffs), https://vision.middlebury.edu/stereo/data/scenes2014/
    np.testing.assert_allclose(disparity_to_depth(got, calibration.camera)[valid],
                               0.193001 * 900.5 / (got[valid] + 3.5), rtol=1e-6)
    with pytest.raises(ValueError, match='calib.txt is of 6x4 images, these are 12x8'):
        scene.load_calibration(8, 12)
    write(folder / 'calib.txt', 'cam0=[1 0 2\n')
    with pytest.raises(ValueError, match='calib.txt is no calibration of Middlebury'):
        scene.load_calibration(H, W)


@pytest.mark.parametrize('height, reduction', [(1110, 1), (555, 2), (370, 3)])
def test_middlebury_2005_2006_is_in_pixels_of_the_full_size(tmp_path, height, reduction):
    folder = tmp_path / 'Aloe'
    write_pair(folder / 'view1.png', folder / 'view5.png', height)
    levels = np.full((height, W), 60, np.uint8)
    levels[0, 0] = 0
    write(folder / 'disp1.png', levels)
    write(folder / 'disp5.png', levels + 1)
    write(folder / 'dmin.txt', '230\n')
    scene, disparity, valid = only_scene(tmp_path, 'middlebury', 'Aloe')
    assert not valid[0, 0] and valid.sum() == height * W - 1
    assert (disparity[valid] == 60 / reduction).all()
    camera = scene.load_calibration(height, W).camera
    assert disparity_to_depth(disparity, camera)[1, 1] == pytest.approx(3740 * 0.16 / (60 + 230))


def test_middlebury_2006_has_one_scene_per_light_and_exposure(tmp_path):
    for light in ('Illum1', 'Illum3'):
        folder = tmp_path / 'Wood1' / light / 'Exp2'
        write_pair(folder / 'view1.png', folder / 'view5.png', 370)
    write(tmp_path / 'Wood1' / 'disp1.png', np.full((370, W), 30, np.uint8))
    scenes = find_scenes(tmp_path)
    assert [scene.name for scene in scenes] == ['Wood1/Illum1/Exp2', 'Wood1/Illum3/Exp2']
    assert (scenes[1].load()[2] == 10).all() and scenes[1].read_calibration is None


def test_middlebury_2005_of_another_size_is_refused(tmp_path):
    write_pair(tmp_path / 'view1.png', tmp_path / 'view5.png')
    write(tmp_path / 'disp1.png', np.full((H, W), 30, np.uint8))
    with pytest.raises(ValueError, match='has 4 rows; Middlebury 2005 and 2006 have 1110, 555 or'):
        find_scenes(tmp_path)[0].load()


@pytest.mark.parametrize('size, suffixes, scale', [
    ((375, 450), ('.png', '.png'), 4), ((750, 900), ('.ppm', '.pgm'), 2),
    ((383, 434), ('.ppm', '.pgm'), 8)])
def test_middlebury_2001_2003_scale_follows_from_the_size(tmp_path, size, suffixes, scale):
    image, truth = suffixes
    folder = tmp_path / 'venus'
    write_pair(folder / f'im2{image}', folder / f'im6{image}', *size)
    levels = np.full(size, 100, np.uint8)
    levels[0, 3] = 0
    write(folder / f'disp2{truth}', levels)
    write(folder / f'disp6{truth}', levels)
    _, disparity, valid = only_scene(tmp_path, 'middlebury', 'venus')
    assert (disparity[valid] == 100 / scale).all() and valid.sum() == levels.size - 1


def test_middlebury_tsukuba(tmp_path):
    write_pair(tmp_path / 'scene1.row3.col3.ppm', tmp_path / 'scene1.row3.col4.ppm')
    write(tmp_path / 'truedisp.row3.col3.pgm', np.full((H, W), 112, np.uint8))
    scene, = find_scenes(tmp_path)
    assert (scene.load()[2] == 7).all()


def test_eth3d(tmp_path):
    folder, truth = (tmp_path / name / 'forest_1s'
                     for name in ('two_view_training', 'two_view_training_gt'))
    write_pair(folder / 'im0.png', folder / 'im1.png')
    write(folder / 'calib.txt', CALIB.replace('doffs=3.5', 'doffs=0'))
    write(truth / 'disp0GT.pfm', np.where(DISPARITY > 6, np.inf, DISPARITY))
    write(truth / 'mask0nocc.png', np.where(DISPARITY > 5, 0, 255).astype(np.uint8))
    scene, disparity, valid = only_scene(tmp_path, 'eth3d', 'two_view_training/forest_1s')
    np.testing.assert_array_equal(valid, DISPARITY <= 6)
    np.testing.assert_array_equal(disparity[valid], DISPARITY[valid])
    np.testing.assert_array_equal(scene.load_visible(H, W), DISPARITY <= 5)
    assert camera_of(scene).doffs == 0 and camera_of(scene).baseline == 0.193001


def test_unrealstereo_4k(tmp_path):
    base = tmp_path / '00003'
    write_pair(base / 'Image0' / '00007.png', base / 'Image1' / '00007.png')
    rgba = np.dstack([left_image()[..., ::-1], np.full((H, W), 255, np.uint8)])
    cv2.imwrite(str(base / 'Image0' / '00007.png'), rgba)
    disparity = DISPARITY.copy()
    disparity[0, :2] = np.inf, 0
    write(base / 'Disp0' / '00007.npy', disparity)
    write(base / 'Disp1' / '00007.npy', DISPARITY + 9)
    K = '500 0 3 0 501 2 0 0 1'
    turn = '0 -1 0 {} 1 0 0 {} 0 0 1 7'  # the centre is (-y, x, -7)
    write(base / 'Extrinsics0' / '00007.txt', f'{K}\n{turn.format(1, 2)}\n')
    write(base / 'Extrinsics1' / '00007.txt', f'{K}\n{turn.format(1.3, 2.4)}\n')
    scene, got, valid = only_scene(tmp_path, 'unrealstereo', '00003/00007')
    assert not valid[0, 0] and not valid[0, 1] and valid.sum() == H * W - 2
    np.testing.assert_array_equal(got[valid], DISPARITY[valid])
    camera = camera_of(scene)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 501, 3, 2)
    assert camera.baseline == pytest.approx(0.5) and camera.doffs == 0
    write(base / 'Extrinsics1' / '00007.txt', f'{K}\n1 2 3\n')
    with pytest.raises(ValueError, match='must hold a line of 9 and one of 12 numbers'):
        camera_of(scene)


def test_unrealstereo_10k(tmp_path):
    base = tmp_path / 'street'
    write_pair(base / 'imL' / '12.png', base / 'imR' / '12.png')
    write(base / 'dispL_occ_pfm' / '12.pfm', DISPARITY)
    write(base / 'dispR_occ_pfm' / '12.pfm', DISPARITY + 9)
    _, disparity, _ = only_scene(tmp_path, 'unrealstereo', 'street/12')
    np.testing.assert_array_equal(disparity, DISPARITY)


DATE = '2018-07-11-14-48-52'


@pytest.mark.parametrize('left, truth, size', [
    ('test-left-image/left-image-half-size', 'test-disparity-map/disparity-map-half-size', 'half'),
    ('cloudy/left-image-full-size', 'cloudy/disparity-map-full-size', 'full'),
    (f'train-left-image/{DATE}', f'train-disparity-map/{DATE}', 'half')])
def test_drivingstereo(tmp_path, left, truth, size):
    name = f'{DATE}_2018-07-11-14-50-08-769'
    write_pair(tmp_path / left / f'{name}.jpg',
               tmp_path / left.replace('left', 'right') / f'{name}.jpg')
    raw = (DISPARITY * (128 if size == 'full' else 256)).astype(np.uint16)
    raw[1, 0] = 0
    write(tmp_path / truth / f'{name}.png', raw)
    for other, fx in (('half', 50), ('full', 100)):  # both have the translation of the full size
        write(tmp_path / 'calib' / f'{other}-image-calib' / f'{DATE}.txt',
              f'S_rect_101: {W} {H}\nP_rect_101: {matrix(fx, 3, 2, 0)}\n'
              f'P_rect_103: {matrix(fx, 3, 2, -50)}\nT_103: -0.3 0.0 0.4\n')
    scene, disparity, valid = only_scene(tmp_path, 'drivingstereo', f'{left}/{name}')
    np.testing.assert_array_equal(disparity[valid], DISPARITY[valid])
    assert not valid[1, 0] and valid.sum() == H * W - 1
    assert camera_of(scene).fx == (100 if size == 'full' else 50)
    assert camera_of(scene).baseline == pytest.approx(0.5)


def test_virtual_kitti_is_depth_and_its_sky_is_unknown(tmp_path):
    frames = tmp_path / 'Scene01' / '15-deg-left' / 'frames'
    write_pair(frames / 'rgb/Camera_0/rgb_00004.jpg', frames / 'rgb/Camera_1/rgb_00004.jpg')
    depth = np.full((H, W), 2000, np.uint16)  # 20 m
    depth[0, 0], depth[0, 1] = 65535, 500
    write(frames / 'depth/Camera_0/depth_00004.png', depth)
    write(frames / 'depth/Camera_1/depth_00004.png', depth)
    scene, disparity, valid = only_scene(tmp_path, 'virtual_kitti',
                                         'Scene01/15-deg-left/rgb_00004')
    assert not valid[0, 0] and valid.sum() == H * W - 1
    assert disparity[0, 1] == pytest.approx(725.0087 * 0.532725 / 5)
    np.testing.assert_allclose(disparity_to_depth(disparity, camera_of(scene))[valid],
                               depth[valid] / 100, rtol=1e-6)


def test_plain_folder_with_occlusions_and_camera(tmp_path):
    write_pair(tmp_path / 'a' / 'left.png', tmp_path / 'a' / 'right.png')
    write(tmp_path / 'a' / 'disp.pfm', DISPARITY)
    occluded = np.zeros((H, W), np.uint8)
    occluded[2, 2] = 255
    write(tmp_path / 'a' / 'occluded.png', occluded)
    camera = {'fx': 7.0, 'fy': 7.0, 'cx': 2.0, 'cy': 1.0, 'baseline': 0.1, 'width': W,
              'height': H, 'cx_right': 2.5}
    write(tmp_path / 'a' / 'camera.json', json.dumps(camera))
    scene, _, _ = only_scene(tmp_path, 'folder', 'a')
    np.testing.assert_array_equal(scene.load_visible(H, W), occluded == 0)
    assert camera_of(scene).doffs == -0.5
    with pytest.raises(ValueError, match='camera.json is of 6x4 images, these are 6x5'):
        scene.load_calibration(5, W)
    write(tmp_path / 'a' / 'camera.json', '{"fx": 7}')
    with pytest.raises(ValueError, match='camera.json is no camera'):
        scene.load_calibration(H, W)
    write(tmp_path / 'a' / 'occluded.png', occluded[:2])
    with pytest.raises(ValueError, match=r'a: the mask of occlusions is of size \(2, 6\)'):
        scene.load_visible(H, W)


def test_several_data_sets_below_one_folder(tmp_path):
    write_pair(tmp_path / 'own/a/left.png', tmp_path / 'own/a/right.png')
    write(tmp_path / 'own/a/disp.pfm', DISPARITY)
    for eye in ('image_2', 'image_3'):
        write(tmp_path / 'kitti' / eye / '000000_10.png', RIGHT)
    write(tmp_path / 'kitti/disp_occ_0/000000_10.png', kitti_raw()[0])
    assert [scene.name for scene in find_scenes(tmp_path)] == ['kitti/000000_10', 'own/a']
    assert [scene.name for scene in find_scenes(tmp_path, 'folder')] == ['own/a']


def test_incomplete_pairs_are_left_out_and_named(tmp_path, caplog):
    caplog.set_level('INFO', 'svp_ros')
    for name in ('000000_10', '000001_10'):
        write(tmp_path / 'disp_occ_0' / f'{name}.png', kitti_raw()[0])
        write(tmp_path / 'image_2' / f'{name}.png', RIGHT)
    with pytest.raises(FileNotFoundError, match='2 pairs lack a file, such as 000000_10, which '
                                                'has no image_3/000000_10.png; expected'):
        find_scenes(tmp_path)
    write(tmp_path / 'image_3' / '000001_10.png', RIGHT)
    assert [scene.name for scene in find_scenes(tmp_path)] == ['000001_10']
    assert 'left out 1 of 2 pairs, which lack a file: 000000_10 has no image_3' in caplog.text


@pytest.mark.parametrize('root', ['.', 'data', './data'])
def test_relative_folders_are_read(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match='no labelled pair below|no folder'):
        find_scenes(root)
    (tmp_path / 'data').mkdir()
    with pytest.raises(FileNotFoundError, match='it is empty'):
        find_scenes(root)


def test_unknown_and_empty_folders_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'it is empty; expected \[<set>/\].*, or a data '
                                                'set as it is downloaded: kitti, sceneflow, '):
        find_scenes(tmp_path)
    write(tmp_path / 'depth' / '0.png', RIGHT)
    write(tmp_path / 'depth' / '1.png', RIGHT)
    write(tmp_path / 'notes.txt', 'hello')
    with pytest.raises(FileNotFoundError, match='found 2 .png, 1 .txt files, such as '
                                                r'depth/0.png; expected training/'):
        find_scenes(tmp_path, 'kitti')
    with pytest.raises(ValueError, match='layout must be auto or one of folder, kitti, .*"mars"'):
        find_scenes(tmp_path, 'mars')
    assert all('\n' not in module.EXPECTED for module in LAYOUTS.values())


@pytest.mark.skipif('SVP_LABELLED' not in os.environ, reason='SVP_LABELLED names no labelled data')
def test_real_scenes_can_be_read():
    scenes = find_scenes(Path(os.environ['SVP_LABELLED']))
    for scene in scenes:
        left, _, disparity, valid = scene.load()
        assert 0 <= disparity[valid].min() < disparity[valid].max() < left.shape[1]
        visible = scene.load_visible(*disparity.shape)
        assert visible is None or (visible & valid).any()
        scene.load_calibration(*disparity.shape)
