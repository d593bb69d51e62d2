import json
import logging
import os
import re

import cv2
import numpy as np
import pytest

from svp_ros.cli import main
from svp_ros.data.formats import read_image, write_image, write_pfm
from svp_ros.data.labelled import find_scenes
from svp_ros.eval.areas import left_right_difference, near_jumps
from svp_ros.eval.disparity import compare_eyes, evaluate_scenes
from svp_ros.eval.disparity_report import score_tables
from svp_ros.eval.metrics import bad, d1, epe
from svp_ros.eval.sgbm import sgbm_disparity
from svp_ros.eval.tables import format_text
from svp_ros.predictor import StereoPredictor, StereoResult

SIZE = (64, 96)


@pytest.fixture
def data(tmp_path):
    """Two labelled scenes of different sizes, shifted by 6 and by 10 px, and one without truth."""
    root = tmp_path / 'data'
    for name, height, width, shift in (('set/a', 40, 80, 6), ('b', 60, 90, 10), ('c', 40, 80, 0)):
        scene = np.random.default_rng(shift).integers(0, 256, (height, width + 20, 3), np.uint8)
        scene = cv2.GaussianBlur(scene, (3, 3), 0)
        (root / name).mkdir(parents=True)
        write_image(root / name / 'left.png', scene[:, :width])
        write_image(root / name / 'right.png', scene[:, shift:shift + width])
        truth = np.full((height, width), shift, np.float32)
        truth[:5] = np.inf
        if shift:
            write_pfm(root / name / 'disp.pfm', truth)
    return root


def test_scores_are_those_of_the_predictor_at_native_resolution(data, tiny_model):
    predictor = StereoPredictor.load(tiny_model, 'cpu', SIZE)
    scores = evaluate_scenes(predictor, find_scenes(data), sgbm=False)
    errors, expected = [], {}
    for scene in find_scenes(data):
        left, right, truth, valid = scene.load()
        disparity = predictor.predict(left, right).disparity_filled
        expected[scene.name] = {'epe': epe(disparity, truth, valid),
                                'd1': d1(disparity, truth, valid),
                                **{f'bad_{n}': bad(disparity, truth, valid, n) for n in (1, 2, 3)}}
        errors.append(np.abs(disparity - truth)[5:])
    rows = {row['name']: row for row in scores['scenes']}
    assert list(rows) == ['b', 'set/a'] and (rows['b']['height'], rows['b']['width']) == (60, 90)
    for name, row in rows.items():
        assert row['model'] == pytest.approx({**expected[name], 'pixels': row['model']['pixels']})
        assert row['inference_ms'] > 0
    assert rows['b']['model']['pixels'] == 55 * 90
    assert scores['mean']['model']['epe'] == pytest.approx(
        (expected['b']['epe'] + expected['set/a']['epe']) / 2)
    pooled = np.concatenate([error.ravel() for error in errors])
    assert scores['pooled']['model']['epe'] == pytest.approx(pooled.mean())
    assert scores['pooled']['model']['pixels'] == pooled.size


def test_baseline_matches_what_is_easy_and_is_beside_the_model(data, tiny_model):
    scores = evaluate_scenes(StereoPredictor.load(tiny_model, 'cpu', SIZE), find_scenes(data))
    assert scores['mean']['sgbm']['bad_3'] < 5 < scores['mean']['model']['bad_3']
    table = format_text(score_tables(scores)[:1]).splitlines()
    assert len(table) == 2 + 2 + 2 and 'model EPE' in table[1] and 'sgbm EPE' in table[1]
    mean = [float(number) for number in re.findall(r'\d+\.\d+', table[-2])]
    for method, numbers in (('model', mean[:5]), ('sgbm', mean[5:])):
        assert numbers == pytest.approx(list(scores['mean'][method].values()), abs=0.006)


def test_each_scene_is_shown_to_the_caller(data, tiny_model):
    shown = {}
    evaluate_scenes(StereoPredictor.load(tiny_model, 'cpu', SIZE), find_scenes(data), True,
                    lambda name, arrays, disparities: shown.update({name: disparities}))
    assert list(shown) == ['b', 'set/a']
    assert shown['set/a']['model'].shape == shown['set/a']['sgbm'].shape == (40, 80)


def test_no_scene_is_an_error(tiny_model):
    with pytest.raises(ValueError, match='no scene'):
        evaluate_scenes(StereoPredictor.load(tiny_model, 'cpu', SIZE), [])


def test_command_prints_a_table_and_writes_a_repeatable_report(data, tiny_model, tmp_path, capsys,
                                                               caplog):
    caplog.set_level(logging.INFO, 'svp_ros')
    out = tmp_path / 'out'
    (tmp_path / 'a.yaml').write_text(f'data: {data}\nmodel: {tiny_model}\nnetwork-size: 32x32\n')
    argv = ['--config', str(tmp_path / 'a.yaml'), '--network-size', '64x96', '--device', 'cpu',
            '--out', str(out)]
    assert main(['evaluate', 'disparity', *argv]) == 0
    assert 'left out 1 of 3 pairs' in caplog.text
    report = json.loads((out / 'metrics.json').read_text())
    assert report['command'] == 'svp evaluate disparity ' + ' '.join(argv)
    assert report['network_size'] == [64, 96]
    assert re.fullmatch(r'[0-9a-f]{64}', report['model']['sha256'])
    assert report['device'] and 'commit' in report
    assert {'python', 'svp_ros', 'numpy', 'torch'} <= report['versions'].keys()
    assert {'epe', 'bad_1', 'bad_2', 'bad_3', 'd1'} == set(report['mean']['sgbm'])
    assert format_text(score_tables(report)) in capsys.readouterr().out
    assert set(report['sets']) == {'b', 'set'} and 'network_sizes' not in report
    page = (out / 'report.html').read_text()
    for row in report['scenes']:
        assert f'<img src="{row["picture"]}">' in page
        picture = cv2.imread(str(out / row['picture']))
        assert picture.std() > 20 and picture.shape[1] > 6 * 200
    for caption, _, _ in score_tables(report):
        assert caption in page
    assert page.count('data:image/png') == 2


def test_baseline_can_be_left_out(data, tiny_model, capsys):
    assert main(['evaluate', 'disparity', '--data', str(data), '--model', str(tiny_model),
                 '--network-size', '64x96', '--no-sgbm']) == 0
    assert 'sgbm' not in capsys.readouterr().out


@pytest.mark.parametrize('argv, message', [
    (['--data', 'no/such/folder'], 'no folder no/such/folder'),
    (['--data', '{data}', '--model', 'giant'], 'no model "giant"'),
    (['--data', '{data}/c'], 'a file, such as c, which has no disp.pfm; expected '),
    (['--data', '{data}', '--model', '{tiny}', '--device', 'abacus'], 'got "abacus"'),
    (['--data', '{data}', '--model', '{tiny}', '--network-size', '8x8'], 'got 8x8'),
    (['--config', 'no/such/file', '--data', '{data}'], 'no configuration file no/such/file'),
])
def test_mistakes_are_one_line_and_exit_code_2(data, tiny_model, capsys, argv, message):
    argv = [text.format(data=data, tiny=tiny_model) for text in argv]
    assert main(['evaluate', 'disparity', *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


def test_broken_image_is_named(data, tiny_model, capsys):
    (data / 'b' / 'left.png').write_bytes(b'not a picture')
    assert main(['evaluate', 'disparity', '--data', str(data), '--model', str(tiny_model),
                 '--network-size', '64x96']) == 2
    assert 'b/left.png is not an image' in capsys.readouterr().err


def write_scene(folder, truth, **files):
    """Write a scene of noise; `truth` is its disparity, also as constant shift of the images."""
    height, width = truth.shape
    shift = int(truth[0, 0])
    noise = np.random.default_rng(1).integers(0, 256, (height, width + shift, 3), np.uint8)
    folder.mkdir(parents=True)
    write_image(folder / 'left.png', noise[:, :width])
    write_image(folder / 'right.png', noise[:, shift:])
    write_pfm(folder / 'disp.pfm', truth)
    for name, content in files.items():
        if isinstance(content, str):
            (folder / name.replace('_json', '.json')).write_text(content)
        else:
            write_image(folder / f'{name}.png', content)


class Known:
    """Stands in for a predictor: says 5 px everywhere, less sure from row 20 on."""

    network_size = (40, 120)

    def predict(self, left, right):
        height, width = left.shape[:2]
        disparity = np.full((height, width), 5, np.float32)
        confidence = np.full((height, width), 0.9, np.float32)
        confidence[20:] = 0.4
        return StereoResult(disparity, disparity, confidence, None, {'inference': 1.0})


def test_areas_bands_and_confidence_are_those_of_a_known_error(tmp_path):
    truth = np.full((40, 60), 5, np.float32)
    truth[20:] = 10  # 5 px wrong, and a jump between rows 19 and 20
    occluded = np.zeros((40, 60), np.uint8)
    occluded[10:30] = 255
    camera = {'fx': 100, 'fy': 100, 'cx': 30, 'cy': 20, 'baseline': 0.5, 'width': 60, 'height': 40}
    write_scene(tmp_path / 'a', truth, occluded=occluded, camera_json=json.dumps(camera))
    scores = evaluate_scenes(Known(), find_scenes(tmp_path), sgbm=False)
    row, areas = scores['scenes'][0], scores['areas']
    assert row['model']['bad_3'] == 50 and row['model']['epe'] == 2.5
    # rows 14 to 25 are within 5 px of the rows 19 and 20 at the jump
    assert areas['edges']['pooled']['model']['pixels'] == 12 * 60
    assert areas['edges']['pooled']['model']['epe'] == 2.5
    assert areas['smooth']['pooled']['model']['pixels'] == 28 * 60
    assert areas['non_occluded']['pooled']['model'] == row['areas']['non_occluded']['model']
    assert areas['non_occluded']['pooled']['model']['pixels'] == 20 * 60
    assert areas['non_occluded']['scenes'] == 1
    # 100 * 0.5 / 10 px = 5 m, where 5 px say 10 m; 5 px are 10 m
    near, far = scores['depth_bands']['model']
    assert (near['from_m'], near['to_m'], near['pixels']) == (5, 10, 1200)
    assert (near['epe'], near['depth_off'], far['epe'], far['depth_off']) == (5, 100, 0, 0)
    assert (far['from_m'], far['to_m']) == (10, 20)
    # in pixels of the network, which is twice as wide, the error is 10 px
    unsure, sure = scores['reliability']
    assert (unsure['right'], sure['right'], unsure['pixels']) == (0, 100, 1200)
    curve = {point['dropped']: point['bad_3'] for point in scores['sparsification']['pooled']}
    assert curve[0] == 50 and curve[20] == pytest.approx(100 * 0.3 / 0.8) and curve[50] == 0
    assert scores['sparsification']['mean'] == scores['sparsification']['pooled']


def test_scenes_without_mask_and_calibration_have_no_such_scores(data, tiny_model):
    scores = evaluate_scenes(StereoPredictor.load(tiny_model, 'cpu', SIZE), find_scenes(data))
    assert set(scores['areas']) == {'smooth'} and scores['depth_bands'] == {}
    captions = [caption for caption, _, _ in score_tables(scores)]
    assert not any('distance' in caption or 'left' in caption for caption in captions)


def test_near_jumps_are_found_in_rows_columns_and_sparse_truth():
    truth, valid = np.full((40, 50), 10, np.float32), np.ones((40, 50), bool)
    truth[:, 20:] = 14
    near = near_jumps(truth, valid)
    assert near[:, 14:26].all() and not near[:, :14].any() and not near[:, 26:].any()
    np.testing.assert_array_equal(near_jumps(truth.T, valid.T), near.T)
    valid[:, 20:22] = False  # columns 19 and 22 remain neighbours
    assert near_jumps(truth, valid)[:, 14:28].all()
    valid[:, 22] = False
    assert not near_jumps(truth, valid).any()
    assert not near_jumps(np.arange(2000, dtype=np.float32).reshape(40, 50) % 50 * 2.9,
                          np.ones((40, 50), bool))[:, :44].any()


def test_left_right_difference_follows_the_match():
    left = np.full((3, 8), 2, np.float32)
    right = np.tile(np.arange(8, dtype=np.float32), (3, 1))
    expected = np.array([np.nan, np.nan, 2, 1, 0, 1, 2, 3])  # |2 - (x - 2)|
    np.testing.assert_allclose(left_right_difference(left, right), np.tile(expected, (3, 1)))
    np.testing.assert_allclose(left_right_difference(left + 0.5, right)[0, 3:],
                               [2, 1, 0, 1, 2])


def test_eyes_are_compared_by_the_mirrored_pair():
    """A matcher that is right for the left image is right for the mirrored right one."""

    class Matcher:
        def predict(self, left, right):
            disparity = sgbm_disparity(left, right, 20)
            seen = disparity.copy()
            seen[:5] = np.nan
            return StereoResult(seen, disparity, None, None, {})

    noise = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (60, 140, 3), np.uint8), (3, 3), 0)
    left, right = noise[:, :120], noise[:, 9:129]
    matcher = Matcher()
    score = compare_eyes(matcher, left, right, matcher.predict(left, right))
    assert score.pixels <= 55 * 120 and score.pixels > 55 * 100
    assert score.result()['epe'] < 0.2 and score.result()['bad_1'] < 2


def test_command_compares_network_sizes_and_eyes(data, tiny_model, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['evaluate', 'disparity', '--data', str(data), '--model', str(tiny_model),
                 '--device', 'cpu', '--network-size', '64x96', '96x64', '--left-right',
                 '--pictures', '1', '--format', 'folder', '--out', str(out),
                 '--strip', 'set/a']) == 0
    assert read_image(out / 'strip.jpg').shape[1] == 4 * 304
    report = json.loads((out / 'metrics.json').read_text())
    assert report['network_size'] == [64, 96]
    first, second = report['network_sizes']
    assert (first['network_size'], second['network_size']) == ([64, 96], [96, 64])
    assert first['mean'] == report['mean']['model'] != second['mean']
    other = evaluate_scenes(StereoPredictor.load(tiny_model, 'cpu', (96, 64)), find_scenes(data),
                            sgbm=False)
    assert second['mean'] == pytest.approx(other['mean']['model'])
    assert report['left_right']['pixels'] > 0 and report['left_right']['above_3'] <= 100
    assert sum('picture' in row for row in report['scenes']) == 1
    text = capsys.readouterr().out
    assert '64x96' in text and '96x64' in text and 'left against right' in text


def test_strip_needs_scenes_that_are_there(data, tiny_model, tmp_path, capsys):
    command = ['evaluate', 'disparity', '--data', str(data), '--model', str(tiny_model), '--strip']
    assert main([*command, 'set/z', '--out', str(tmp_path)]) == 2
    assert '--strip names set/z, which is not among the' in capsys.readouterr().err
    assert main([*command, 'set/a']) == 2
    assert 'say where with --out' in capsys.readouterr().err


def test_limit_spreads_over_the_scenes(data, tiny_model, capsys):
    assert main(['evaluate', 'disparity', '--data', str(data), '--model', str(tiny_model),
                 '--network-size', '64x96', '--limit', '1', '--no-sgbm']) == 0
    text = capsys.readouterr().out
    assert 'mean of 1 scenes' in text and 'set/a' not in text


@pytest.mark.skipif('SVP_LABELLED' not in os.environ, reason='SVP_LABELLED names no labelled data')
def test_bands_and_masks_of_real_scenes():
    scenes = [scene for scene in find_scenes(os.environ['SVP_LABELLED'])
              if scene.read_visible and scene.read_calibration]
    scores = evaluate_scenes(StereoPredictor.load('nano', 'cpu', (192, 256)), scenes[:1], False)
    assert scores['areas']['non_occluded']['scenes'] == 1
    assert [band['from_m'] for band in scores['depth_bands']['model']][:2] == [5, 10]


@pytest.mark.parametrize('published, found', [(15, False), (48, True)])
def test_baseline_searches_the_range_that_the_data_set_publishes(tmp_path, published, found):
    noise = np.random.default_rng(0).integers(0, 256, (60, 160, 3), np.uint8)
    write_image(tmp_path / 'im0.png', noise[:, :130])
    write_image(tmp_path / 'im1.png', noise[:, 30:])
    write_pfm(tmp_path / 'disp0.pfm', np.full((60, 130), 30, np.float32))
    (tmp_path / 'calib.txt').write_text(
        'cam0=[90 0 60; 0 90 30; 0 0 1]\ndoffs=0\nbaseline=100\nwidth=130\nheight=60\n'
        f'ndisp={published}\n')
    scores = evaluate_scenes(Known(), find_scenes(tmp_path))
    assert (scores['mean']['sgbm']['bad_3'] < 10) == found
    assert scores['depth_bands']['sgbm'][0]['from_m'] == 0
