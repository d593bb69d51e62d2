import cv2
import numpy as np
import pytest

from svp_ros.data.formats import write_image
from svp_ros.data.labelled import Scene
from svp_ros.data.overlap import find_overlap
from svp_ros.data.pairs import find_pairs, Pair, split_pairs

IMAGE = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)


def write(root, *names, image=IMAGE):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, image)


def make_sequence(name, count):
    return [Pair(name, f'{i:03d}', f'{name}/left/{i}.png', f'{name}/right/{i}.png')
            for i in range(count)]


def keys(pairs):
    return [(pair.sequence, pair.name) for pair in pairs]


@pytest.mark.parametrize('left, right', [
    ('left', 'right'), ('image_2', 'image_3'), ('image_02/data', 'image_03/data'),
    ('image_02', 'image_03'), ('image_0', 'image_1'), ('image_00/data', 'image_01/data')])
def test_sequences_of_two_folders_are_found(tmp_path, left, right):
    for sequence in ('drive/b', 'a'):
        write(tmp_path, f'{sequence}/{left}/10.png', f'{sequence}/{left}/9.jpg',
              f'{sequence}/{right}/10.jpg', f'{sequence}/{right}/9.jpeg')
    pairs = find_pairs(tmp_path)
    assert keys(pairs) == [('a', '9'), ('a', '10'), ('drive/b', '9'), ('drive/b', '10')]
    assert pairs[0].left == tmp_path / 'a' / left / '9.jpg'
    assert pairs[0].right == tmp_path / 'a' / right / '9.jpeg'
    assert keys(find_pairs(tmp_path / 'drive/b')) == [('b', '9'), ('b', '10')]


def test_scenes_of_one_folder_each_are_one_sequence(tmp_path):
    write(tmp_path, *(f'{folder}/{eye}.png' for eye in ('left', 'right')
                      for folder in ('top', 'rooms/scene_1', 'rooms/scene_0')))
    pairs = find_pairs(tmp_path)
    assert keys(pairs) == [('rooms', 'scene_0'), ('rooms', 'scene_1'), (tmp_path.name, 'top')]
    assert pairs[0].right == tmp_path / 'rooms/scene_0/right.png'
    assert keys(find_pairs(tmp_path / 'rooms/scene_0')) == [('scene_0', 'scene_0')]


def test_all_layouts_may_be_mixed_and_other_files_do_not_matter(tmp_path):
    write(tmp_path, 'x/left/1.png', 'x/right/1.png', 'x/overview.png', 'x/disparity/1.png',
          'y/left.png', 'y/right.png', 'z/image_2/1.png', 'z/image_3/1.png')
    (tmp_path / 'x/left/NOTE.txt').write_text('hello')
    (tmp_path / 'x/left/._1.png').write_text('left there by another system')
    assert set(keys(find_pairs(tmp_path))) == {('x', '1'), ('z', '1'), (tmp_path.name, 'y')}


def test_pairs_load_as_rgb(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    write(tmp_path, 'left/1.png')
    write(tmp_path, 'right/1.png', image=colour)
    left, right = find_pairs(tmp_path)[0].load()
    assert np.array_equal(left, np.repeat(IMAGE[..., None], 3, axis=2))
    assert np.array_equal(right, colour)


def test_pairs_of_different_size_and_broken_images_are_refused(tmp_path):
    write(tmp_path, 'left/1.png', 'left/2.png', 'right/2.png')
    write(tmp_path, 'right/1.png', image=IMAGE[:, 1:])
    (tmp_path / 'right/2.png').write_bytes(b'nothing')
    first, second = find_pairs(tmp_path)
    with pytest.raises(ValueError, match=r'left/1.png and .*right/1.png must be of one size, got '
                                         r'8x6 and 7x6; rectify the pair'):
        first.load()
    with pytest.raises(ValueError, match='2.png is not an image'):
        second.load()


def test_folders_without_pairs_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder .*nowhere'):
        find_pairs(tmp_path / 'nowhere')
    write(tmp_path, 'photographs/1.png')
    (tmp_path / 'photographs' / 'left').mkdir()
    with pytest.raises(FileNotFoundError, match='no stereo pairs below .*; expected '
                                                '<sequence>/left/NAME.png and .*image_03/data'):
        find_pairs(tmp_path)


@pytest.mark.parametrize('side, other, eye', [
    ('left', 'right', 'left'), ('right', 'left', 'right'), ('right', 'left', 'image_3')])
def test_one_sided_folders_are_refused(tmp_path, side, other, eye):
    write(tmp_path, f'a/{eye}/1.png', f'a/{eye}/2.png')
    with pytest.raises(ValueError, match=f'has 2 {side} images but no {other} ones; expected'):
        find_pairs(tmp_path)


@pytest.mark.parametrize('side, other', [('left', 'right'), ('right', 'left')])
def test_missing_partners_are_counted(tmp_path, side, other):
    write(tmp_path, *(f'a/{side}/{i}.png' for i in range(5)),
          *(f'a/{other}/{i}.png' for i in (0, 2, 3)))
    with pytest.raises(ValueError, match=f'2 of 5 {side} images below .* have no {other} image '
                                         f'of the same name, for example .*a/{side}/1.png'):
        find_pairs(tmp_path)


def test_the_split_keeps_sequences_and_time_apart():
    pairs = [*make_sequence('a', 10), *make_sequence('b', 6), *make_sequence('short', 4)]
    training, validation = split_pairs(pairs, 0.25, ['b'])
    assert keys(validation) == [('a', '008'), ('a', '009')] + keys(make_sequence('b', 6))
    assert keys(training) == keys(make_sequence('a', 8)) + keys(make_sequence('short', 4))
    assert sorted(keys(training + validation)) == sorted(keys(pairs))
    assert split_pairs(pairs, 0.25, ['b']) == (training, validation)


def test_every_long_sequence_gives_to_both_parts():
    for tail in (0.01, 0.99):
        training, validation = split_pairs(make_sequence('a', 5), tail)
        assert {len(training), len(validation)} == {1, 4}
        assert (len(training) == 1) == (tail > 0.5)


def test_grey_and_colour_of_one_moment_stay_together(tmp_path):
    for eye in ('image_0', 'image_1', 'image_2', 'image_3'):
        write(tmp_path, *(f'00/{eye}/{i}.png' for i in range(6)))
    training, validation = split_pairs(find_pairs(tmp_path), 0.2)
    assert keys(validation) == [('00', '5')] * 2
    assert len(training) == 10


def test_images_of_labelled_scenes_are_found(tmp_path):
    noise = np.random.default_rng(0).uniform(0, 1, (60, 240))
    drive = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 8), None, 0, 255, cv2.NORM_MINMAX)
    for i in range(4):  # the camera moves by four pixels
        for eye in ('left', 'right'):
            write(tmp_path, f'{eye}/{i}.jpg', image=drive[:, 4 * i:4 * i + 200].astype(np.uint8))
    colour = np.repeat(drive[:, 8:208, None], 3, axis=2) + np.random.default_rng(1).normal(
        0, 2, (60, 200, 3))
    write(tmp_path, 'scene/a.png', image=colour.clip(0, 255).astype(np.uint8))
    write(tmp_path, 'scene/b.png', image=255 - drive[:, :200].astype(np.uint8))
    scene = Scene('scene', tmp_path / 'scene/a.png', tmp_path / 'scene/b.png', None)
    assert [pair.name for pair in find_overlap(find_pairs(tmp_path), [scene])] == ['2']


def test_impossible_splits_are_refused():
    pairs = [*make_sequence('a', 6), *make_sequence('b', 3)]
    with pytest.raises(ValueError, match='no sequence c, d to hold out; there are a, b'):
        split_pairs(pairs, 0.2, ['d', 'a', 'c'])
    with pytest.raises(ValueError, match='tail must be a share from 0 to less than 1, got 1'):
        split_pairs(pairs, 1)
    with pytest.raises(ValueError, match='no pair is left for training: tail 0.2 and held_out '
                                         'a, b of 9 pairs in 2 sequences'):
        split_pairs(pairs, 0.2, ['a', 'b'])
    with pytest.raises(ValueError, match='no pair is left for validation: tail 0.2 and held_out '
                                         'nothing of 3 pairs in 1 sequences; those of fewer than'):
        split_pairs(pairs[6:], 0.2)
