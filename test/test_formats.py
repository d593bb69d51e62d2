import cv2
import numpy as np
import pytest

from svp_ros.data.formats import (
    read_disparity,
    read_image,
    read_pfm,
    write_image,
    write_pfm,
)
from svp_ros.data.labelled import find_scenes

VALUES = np.arange(15, dtype=np.float32).reshape(3, 5) / 4


def test_pfm_round_trip_keeps_every_bit(tmp_path):
    values = VALUES.copy()
    values[0, 1], values[2, 4] = np.inf, np.nan
    write_pfm(tmp_path / 'a.pfm', values)
    np.testing.assert_array_equal(read_pfm(tmp_path / 'a.pfm'), values)


@pytest.mark.parametrize('scale, kind', [('-1.0', '<f4'), ('1.0', '>f4')])
def test_pfm_sign_of_scale_is_byte_order_and_rows_go_bottom_up(tmp_path, scale, kind):
    rows = b''.join(VALUES[y].astype(kind).tobytes() for y in (2, 1, 0))
    (tmp_path / 'a.pfm').write_bytes(f'Pf\n5 3\n{scale}\n'.encode() + rows)
    np.testing.assert_array_equal(read_pfm(tmp_path / 'a.pfm'), VALUES)


def test_pfm_agrees_with_opencv(tmp_path):
    write_pfm(tmp_path / 'a.pfm', VALUES)
    read_back = cv2.imread(str(tmp_path / 'a.pfm'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read_back, VALUES)


@pytest.mark.parametrize('content, message', [
    (b'PF\n5 3\n-1\n' + bytes(180), 'one-channel PFM'),
    (b'Pf\n5 3\n-1\n' + bytes(59), 'cut short: 5x3 floats are 60 bytes, got 59'),
    (b'\x89PNG\r\n', 'header is broken'),
    (b'', 'header is broken'),
])
def test_broken_pfm_is_refused_with_the_reason(tmp_path, content, message):
    (tmp_path / 'a.pfm').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_pfm(tmp_path / 'a.pfm')


def test_pfm_infinity_is_unknown_and_zero_is_a_disparity(tmp_path):
    values = VALUES.copy()
    values[1, 2] = np.inf
    write_pfm(tmp_path / 'a.pfm', values)
    disparity, valid = read_disparity(tmp_path / 'a.pfm')
    assert not valid[1, 2] and disparity[1, 2] == 0
    assert valid[0, 0] and valid.sum() == 14
    np.testing.assert_array_equal(disparity[valid], values[valid])


def test_kitti_png_is_disparity_times_256_and_zero_is_unknown(tmp_path):
    raw = np.array([[0, 256, 65535], [1, 384, 25600]], np.uint16)
    cv2.imwrite(str(tmp_path / 'a.png'), raw)
    disparity, valid = read_disparity(tmp_path / 'a.png')
    np.testing.assert_array_equal(valid, raw > 0)
    np.testing.assert_allclose(disparity[0], [0, 1, 255.99609375])
    assert disparity[1, 1] == 1.5 and disparity.dtype == np.float32


def test_disparity_refuses_pictures_other_formats_and_negative_values(tmp_path):
    write_image(tmp_path / 'a.png', np.zeros((3, 5), np.uint8))
    with pytest.raises(ValueError, match='one-channel 16-bit image'):
        read_disparity(tmp_path / 'a.png')
    with pytest.raises(ValueError, match='.pfm, KITTI 16-bit .png or .npy'):
        read_disparity(tmp_path / 'a.txt')
    with pytest.raises(FileNotFoundError, match='no file .*b.pfm'):
        read_disparity(tmp_path / 'b.pfm')
    write_pfm(tmp_path / 'a.pfm', -VALUES)
    with pytest.raises(ValueError, match='negative disparities'):
        read_disparity(tmp_path / 'a.pfm')


def test_images_are_rgb_and_grey_ones_repeat_their_channel(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    write_image(tmp_path / 'a.png', image)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'a.png'))[..., ::-1], image)
    write_image(tmp_path / 'b.png', image[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / 'b.png'),
                                  np.repeat(image[..., :1], 3, axis=2))


def test_unreadable_images_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no file'):
        read_image(tmp_path / 'a.png')
    for content in (b'', b'text'):
        (tmp_path / 'a.png').write_bytes(content)
        with pytest.raises(ValueError, match='not an image'):
            read_image(tmp_path / 'a.png')
    with pytest.raises(ValueError, match='uint8'):
        write_image(tmp_path / 'a.png', VALUES)
    with pytest.raises(ValueError, match='no image format ".xyz"'):
        write_image(tmp_path / 'a.xyz', np.zeros((3, 5), np.uint8))


def write_scene(folder, suffix='.png', truth=VALUES):
    folder.mkdir(parents=True)
    for side in ('left', 'right'):
        write_image(folder / f'{side}{suffix}', np.zeros((3, 5, 3), np.uint8))
    if truth is not None:
        write_pfm(folder / 'disp.pfm', truth)


def test_scenes_are_found_at_any_depth_and_unlabelled_ones_left_out(tmp_path, caplog):
    caplog.set_level('INFO', 'svp_ros')
    write_scene(tmp_path / 'set' / 'b')
    write_scene(tmp_path / 'set' / 'a', '.jpg')
    write_scene(tmp_path / 'c')
    write_scene(tmp_path / 'd', truth=None)
    (tmp_path / 'set' / 'b' / 'left.txt').write_text('not an image')
    assert [scene.name for scene in find_scenes(tmp_path)] == ['c', 'set/a', 'set/b']
    assert 'left out 1 of 4 pairs' in caplog.text
    left, right, disparity, valid = find_scenes(tmp_path / 'c')[0].load()
    assert left.shape == right.shape == (3, 5, 3) and left.dtype == np.uint8
    np.testing.assert_array_equal(disparity, VALUES)
    assert valid.all()


def test_folder_without_labelled_pairs_is_refused(tmp_path):
    write_scene(tmp_path / 'a', truth=None)
    with pytest.raises(FileNotFoundError, match='such as a, which has no a/disp.pfm'):
        find_scenes(tmp_path)
    with pytest.raises(FileNotFoundError, match='no folder'):
        find_scenes(tmp_path / 'nowhere')


def test_scene_without_any_known_disparity_is_refused(tmp_path):
    write_scene(tmp_path / 'a', truth=np.full((3, 5), np.inf, np.float32))
    with pytest.raises(ValueError, match='a: the ground truth has no known disparity'):
        find_scenes(tmp_path)[0].load()


def test_scene_of_mixed_sizes_is_refused(tmp_path):
    write_scene(tmp_path / 'a', truth=np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match='a: left, right and ground truth must be of one size'):
        find_scenes(tmp_path)[0].load()
