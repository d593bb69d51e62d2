from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import yaml

from svp_ros.config import make_config
from svp_ros.data.bags import StereoBagWriter
from svp_ros.data.formats import read_image, write_image
from svp_ros.data.pair_stream import (
    central_window,
    crop,
    DataSource,
    draw_window,
    fixed_batches,
    MildAugmentConfig,
    PairStream,
    PairStreamConfig,
)
from svp_ros.data.pairs import find_pairs
from svp_ros.data.rendered import RenderedPairs
from svp_ros.data.stream import (
    batches,
    crops_at,
    EarlyCrops,
    stored_indices,
    StreamConfig,
    WorldStream,
)
from svp_ros.geometry import StereoCamera

H, W = 64, 96
NEUTRAL = MildAugmentConfig(zoom=(0, 0), stretch=(0, 0), photometric=0, grey=0, noise=0, flip=0)
DISPARITY = 8


def make_plane(seed, height=H, width=W, disparity=DISPARITY):
    """Smooth texture on a plane in front of the cameras: right(x) = left(x + disparity)."""
    noise = np.random.default_rng(seed).uniform(0, 1, (height, width + disparity, 3))
    wide = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    wide = wide.astype(np.uint8)
    return wide[:, :width], wide[:, disparity:]


def write_sequence(folder, count, make=make_plane):
    for index in range(count):
        for eye, image in zip(('left', 'right'), make(index), strict=True):
            (folder / eye).mkdir(parents=True, exist_ok=True)
            write_image(folder / eye / f'{index:03d}.png', image)
    return folder


def make_stream(*sources, augment=NEUTRAL, world=0.0, seed=0, batch=4, size=(H, W), **where):
    config = PairStreamConfig(*size, batch, sources, world, H, W, 8, augment=augment)
    return PairStream(config, seed, **where)


def shift_error(batch, disparity):
    """Mean difference of left(x) and right(x - disparity)."""
    return (batch['left'][..., disparity:] - batch['right'][..., :-disparity]).abs().mean().item()


@pytest.fixture
def folder(tmp_path):
    write_sequence(tmp_path / 'pairs/a', 10)
    write_sequence(tmp_path / 'pairs/b', 3)
    return tmp_path / 'pairs'


def test_a_batch_depends_on_nothing_but_seed_step_and_rank(folder, tmp_path):
    source = DataSource(str(folder))

    def make(seed=0, **where):
        return make_stream(source, augment=MildAugmentConfig(), world=1.0, seed=seed,
                           cache=tmp_path / 'cache', **where)

    stream = make()
    expected = [stream[step] for step in range(4)]
    assert expected[0]['left'].shape == (4, 3, H, W)
    assert expected[0]['left'].dtype == torch.float32
    for again in (make()[3], list(batches(make(), 0, 4, 2))[3], list(batches(make(), 2, 4, 0))[1]):
        assert set(again) == {'left', 'right'}
        for name, image in again.items():
            assert torch.equal(image, expected[3][name])
            assert 0 <= image.min() and image.max() <= 1
    for other in (expected[2], make(seed=1)[3], make(rank=1)[3]):
        assert not torch.equal(other['left'], expected[3]['left'])


def test_samples_are_drawn_by_weight(tmp_path):
    sources = []
    for level, weight in ((10, 1), (100, 2), (200, 5)):
        image = np.full((H, W), level, np.uint8)
        folder = write_sequence(tmp_path / str(level), 1, lambda _, image=image: (image, image))
        sources.append(DataSource(str(folder), weight, tail=0))
    stream = make_stream(*sources, batch=16)
    levels = torch.cat([stream[step]['left'][:, 0, 0, 0] for step in range(50)]) * 255
    share = [(levels == level).float().mean().item() for level in (10, 100, 200)]
    # of 800 samples, 0.0175 is the largest standard deviation
    assert share == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.05)


def test_the_world_has_its_weight_and_is_rendered_anew_without_a_cache(tmp_path):
    image = np.full((H, W), 200, np.uint8)
    folder = write_sequence(tmp_path, 1, lambda _: (image, image))
    stream = make_stream(DataSource(str(folder), 3, tail=0), world=1.0, batch=16)
    flat = torch.cat([stream[step]['left'].flatten(1).std(dim=1) < 1e-6 for step in range(6)])
    assert 0.6 < flat.float().mean() < 0.9
    world = make_stream(world=1.0, batch=2)
    assert not torch.equal(world[0]['left'], world[1]['left'])
    assert not torch.equal(world[0]['left'], world[0]['right'])


def test_every_stored_pair_comes_once_before_any_comes_again():
    rounds = [stored_indices(range(10 * i, 10 * i + 10), 10, 0, 0) for i in range(4)]
    assert all(sorted(part) == list(range(10)) for part in rounds)
    assert len(set(map(tuple, rounds))) == 4
    steps = [index for step in range(10)
             for index in stored_indices(range(4 * step, 4 * step + 4), 10, 0, 0)]
    assert steps == sum(rounds, [])
    # the first time, a batch of four is one rendering
    first = [stored_indices(range(4 * step, 4 * step + 4), 400, 0, 0) for step in range(100)]
    assert all(part[0] % 4 == 0 and part[3] == part[0] + 3 for part in first)
    assert len({stored_indices([0], 400, seed, rank)[0]
                for seed in (0, 1) for rank in (0, 1)}) == 4


def test_early_steps_take_crops_of_their_own(tmp_path):
    early = EarlyCrops(2, 32, 64, batch=3), EarlyCrops(1, 64, 32, batch=2)
    config = StreamConfig(H, W, 1, H, W, pairs=16, early=early)
    assert [crops_at(config, step)[1] for step in range(6)] == [0, 3, 6, 8, 9, 10]
    stream = WorldStream(config, 0, cache=tmp_path)
    shapes = [tuple(stream[step]['left'].shape) for step in range(5)]
    assert shapes == [(3, 3, 32, 64)] * 2 + [(2, 3, 64, 32)] + [(1, 3, H, W)] * 2
    made = make_config(StreamConfig, {'early': [
        {'steps': 2, 'height': 32, 'width': 64, 'batch': 3}]})
    assert made.early == early[:1]
    with pytest.raises(ValueError, match='width must be a positive multiple of 32, got 60'):
        EarlyCrops(2, 32, 60, 3)
    with pytest.raises(ValueError, match='steps and batch of early crops must be .* got 0 and 3'):
        EarlyCrops(0, 32, 64, 3)


def test_a_training_uses_as_many_different_pairs_as_it_says(tmp_path):
    config = StreamConfig(H, W, 4, H, W, pairs=12)
    stream = WorldStream(config, 0, cache=tmp_path)
    for step in range(3):
        stream[step]
    assert len(list(tmp_path.rglob('*.npz'))) == 12
    for step in range(3, 6):
        stream[step]
    assert len(list(tmp_path.rglob('*.npz'))) == 12


def test_a_store_of_images_serves_a_training_with_labels(tmp_path):
    config, generator = StreamConfig().world, torch.Generator()
    make_stream(world=1.0, cache=tmp_path)[0]
    path = next(tmp_path.rglob('*.npz'))
    assert set(np.load(path)) == {'left', 'right'}
    stored = RenderedPairs(config, H, W, cache=tmp_path)
    index = int(path.stem)
    images = stored.draw([index], generator, ['left'])['left']
    pair = stored.draw([index], generator)
    assert set(np.load(path)) == {'left', 'right', 'disparity', 'disparity_right'}
    assert torch.equal(pair['left'], images)
    again = stored.draw([index], generator)
    assert all(torch.equal(again[name], x) for name, x in pair.items())
    assert 0 < pair['disparity'].max() < W


def test_every_training_pair_is_drawn_and_no_validation_pair(folder):
    stream = make_stream(DataSource(str(folder), tail=0.3, held_out=('b',)))
    assert [(pair.sequence, pair.name) for pair in stream.validation] == [
        ('a', '007'), ('a', '008'), ('a', '009'), ('b', '000'), ('b', '001'), ('b', '002')]
    images = {index: torch.from_numpy(make_plane(index)[0].copy()) for index in range(10)}
    seen = set()
    for step in range(25):
        for left in (stream[step]['left'] * 255).round().byte().permute(0, 2, 3, 1):
            seen.add(next(index for index, image in images.items() if torch.equal(image, left)))
    assert seen == set(range(7))


def test_a_source_without_validation_gives_all_its_pairs(folder):
    stream = make_stream(DataSource(str(folder), tail=0))
    assert len(stream.training[0]) == 13 and stream.validation == []


def test_pairs_are_left_out_by_name(folder):
    stream = make_stream(DataSource(str(folder), leave_out=('a/009', 'b/001')))
    names = [f'{pair.sequence}/{pair.name}' for pair in stream.training[0] + stream.validation]
    assert len(names) == 11 and not {'a/009', 'b/001'} & set(names)
    with pytest.raises(ValueError, match='no pair a/010 below .*pairs to leave out; names are '
                                         'like a/000'):
        make_stream(DataSource(str(folder), leave_out=('a/010', 'b/001')))


def test_flipping_swaps_the_eyes_and_keeps_the_disparity(folder):
    source = DataSource(str(folder))
    plain = make_stream(source)[0]
    flipped = make_stream(source, augment=replace(NEUTRAL, flip=1.0))[0]
    torch.testing.assert_close(flipped['left'], plain['right'].flip(-1))
    torch.testing.assert_close(flipped['right'], plain['left'].flip(-1))
    for batch in (plain, flipped):
        assert shift_error(batch, DISPARITY) < 1e-6
        assert shift_error(batch, DISPARITY - 2) > 0.02


def test_both_eyes_are_cut_and_shrunk_alike(tmp_path):
    source = DataSource(str(write_sequence(tmp_path, 5, lambda i: make_plane(i, 2 * H, 3 * W))))
    batch = make_stream(source, augment=replace(NEUTRAL, zoom=(-1, -1)))[0]
    assert shift_error(batch, DISPARITY // 2) < 0.002
    assert shift_error(batch, DISPARITY // 2 - 1) > 0.01


def test_neither_eye_loses_anything_by_default(folder):
    stream = make_stream(DataSource(str(folder)), augment=replace(MildAugmentConfig(), noise=0,
                                                                  zoom=(0, 0), stretch=(0, 0)))
    for step in range(5):
        batch = stream[step]
        for left, right in zip(batch['left'][..., DISPARITY:], batch['right'][..., :-DISPARITY]):
            both = torch.stack((left.mean(dim=0).flatten(), right.mean(dim=0).flatten()))
            assert torch.corrcoef(both)[0, 1] > 0.97


def test_windows_cover_all_scales_that_fit():
    generator = torch.Generator().manual_seed(0)
    config = MildAugmentConfig()
    windows = np.array([draw_window((375, 1242), 192, 256, config, generator)
                        for _ in range(500)])
    y, x, h, w = windows.T
    assert (y >= 0).all() and (x >= 0).all()
    assert (y + h <= 375).all() and (x + w <= 1242).all()
    assert h.min() in range(192, 200) and h.max() in range(365, 376)
    assert x.min() < 60 and (x + w).max() > 1180
    assert abs(np.corrcoef(h, x / (1242 - w))[0, 1]) < 0.15
    stretch = np.log2(256 / w) - np.log2(192 / h)
    assert np.abs(stretch).max() < 0.11
    assert stretch.min() < -0.08 and stretch.max() > 0.08


def test_small_images_are_enlarged_whole():
    generator = torch.Generator().manual_seed(0)
    neutral = replace(MildAugmentConfig(), stretch=(0, 0))
    assert draw_window((96, 128), 192, 256, neutral, generator) == (0, 0, 96, 128)
    assert draw_window((96, 300), 192, 256, neutral, generator)[2:] == (96, 128)


def test_shrinking_averages():
    noise = np.random.default_rng(0).integers(0, 256, (3, 3 * H, 3 * W), np.uint8)
    image = torch.from_numpy(noise)
    small = crop(image, (0, 0, 3 * H, 3 * W), H, W)
    assert small.std() < 0.5 * image.float().std() / 255
    as_float = crop(image.float() / 255, (0, 0, 3 * H, 3 * W), H, W)
    assert (small - as_float).abs().max() < 1.5 / 255


@pytest.mark.parametrize('shape, window', [
    ((375, 1242), (0, 371, 375, 500)), ((480, 752), (0, 56, 480, 640)),
    ((480, 320), (120, 0, 240, 320)), ((96, 256), (0, 64, 96, 128))])
def test_central_windows_are_the_largest_of_their_aspect(shape, window):
    assert central_window(shape, 192, 256) == window


def test_fixed_batches_are_the_middle_of_all_pairs_in_order(tmp_path):
    write_sequence(tmp_path, 5, lambda i: make_plane(i, 2 * H, 3 * W))
    pairs = find_pairs(tmp_path)
    result = list(fixed_batches(pairs, H, W, 2))
    assert [len(batch['left']) for batch in result] == [2, 2, 1]
    for index, pair in enumerate(pairs):
        for name in ('left', 'right'):
            image = read_image(getattr(pair, name))[:, W // 2:-(W // 2)]
            expected = cv2.resize(image, (W, H), interpolation=cv2.INTER_AREA)
            found = result[index // 2][name][index % 2].permute(1, 2, 0).numpy() * 255
            assert np.abs(found - expected).mean() < 2
    again = list(fixed_batches(pairs, H, W, 2))
    assert all(torch.equal(a['right'], b['right']) for a, b in zip(result, again, strict=True))


def test_recordings_are_unpacked_once(tmp_path):
    camera = StereoCamera(50.0, 50.0, W / 2, H / 2, 0.1, W, H)
    with StereoBagWriter(tmp_path / 'bag') as bag:
        for index in range(6):
            bag.write(*make_plane(index), camera, index + 1)
    source = DataSource(str(tmp_path / 'bag'))
    stream = make_stream(source, unpacked=tmp_path / 'unpacked')
    assert [pair.name for pair in stream.training[0]] == ['1', '2', '3', '4', '5']
    assert [pair.name for pair in stream.validation] == ['6']
    assert shift_error(stream[0], DISPARITY) < 1e-6
    image = stream.validation[0].left
    written = image.stat().st_mtime_ns
    make_stream(source, unpacked=tmp_path / 'unpacked')
    assert image.stat().st_mtime_ns == written

    with pytest.raises(ValueError, match='bag is a recording: name a folder to unpack it to'):
        make_stream(source)
    with pytest.raises(ValueError, match='has no topic cam0; it has /left/camera_info'):
        make_stream(DataSource(str(tmp_path / 'bag'), left='cam0'), unpacked=tmp_path / 'unpacked')


def test_yaml_names_the_sources():
    config = make_config(PairStreamConfig, {
        'world': 0, 'data': [{'path': 'a', 'weight': 2, 'held_out': ['x', 'y']},
                             {'path': 'b.mcap', 'left': '/l', 'right': '/r', 'rectify': 'on'}],
        'augment': {'grey': 0}})
    assert config.data == (DataSource('a', 2.0, held_out=('x', 'y')),
                           DataSource('b.mcap', left='/l', right='/r', rectify='on'))
    for word, meaning in (('off', 'off'), ('on', 'on'), ('auto', 'auto'), ('"off"', 'off')):
        values = yaml.safe_load(f'data: [{{path: b.mcap, rectify: {word}}}]')
        assert make_config(PairStreamConfig, values).data[0].rectify == meaning
    with pytest.raises(ValueError, match='rectify must be auto, on or off, got maybe'):
        make_config(PairStreamConfig, {'data': [{'path': 'a', 'rectify': 'maybe'}]})
    with pytest.raises(ValueError, match='rectify must be str, got 1'):
        make_config(PairStreamConfig, {'data': [{'path': 'a', 'rectify': 1}]})
    assert (config.augment.grey, config.augment.erase, config.augment.zoom[0]) == (0, 0, -2)
    with pytest.raises(ValueError, match='data: unknown key "wieght"; known keys are path, weig'):
        make_config(PairStreamConfig, {'data': [{'path': 'a', 'wieght': 2}]})
    with pytest.raises(ValueError, match="data must be a mapping, got 'a'"):
        make_config(PairStreamConfig, {'data': ['a']})


@pytest.mark.parametrize('change, message', [
    ({'height': 100}, 'height must be a positive multiple of 32, got 100'),
    ({'width': 0}, 'width must be a positive multiple of 32, got 0'),
    ({'batch': 0}, 'batch must be at least 1 .* got 0 and 3200'),
    ({'stored_pairs': 3}, 'stored_pairs at least 4, got 8 and 3'),
    ({'world': 0.0}, 'world must be positive if there is no other data, .* got 0.0'),
    ({'world': -1.0}, 'never negative, got -1.0')])
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PairStreamConfig(**change)


def test_wrong_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match='weight must be positive, got 0 for pairs'):
        DataSource('pairs', 0)
    with pytest.raises(FileNotFoundError, match='no folder .*nowhere'):
        make_stream(DataSource(str(tmp_path / 'nowhere')))
    with pytest.raises(FileNotFoundError, match='no recording .*nowhere.mcap'):
        make_stream(DataSource(str(tmp_path / 'nowhere.mcap')), unpacked=tmp_path)


@pytest.mark.parametrize('workers', [0, 1])
def test_errors_of_workers_are_one_sentence(tmp_path, workers):
    left, right = make_plane(0)
    write_sequence(tmp_path, 1, lambda _: (left, right[1:]))
    stream = make_stream(DataSource(str(tmp_path), tail=0))
    with pytest.raises(ValueError, match='^/.*000.png and .*000.png must be of one size, got '
                                         '96x64 and 96x63; rectify the pair$') as caught:
        next(batches(stream, 0, 2, workers))
    assert '\n' not in str(caught.value)
