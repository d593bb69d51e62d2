import json
import logging
import re

import cv2
import numpy as np
import pytest

from svp_ros.cli import main
from svp_ros.data.formats import write_image, write_pfm
from svp_ros.data.labelled import find_scenes
from svp_ros.eval.disparity import evaluate_scenes, format_table
from svp_ros.eval.metrics import bad, d1, epe
from svp_ros.predictor import StereoPredictor

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
    table = format_table(scores).splitlines()
    assert len(table) == 2 + 2 + 2 and 'model' in table[0] and 'sgbm' in table[0]
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
    assert {'epe', 'bad_1', 'bad_2', 'bad_3', 'd1'} == set(report['mean']['sgbm'])
    assert format_table(report) in capsys.readouterr().out
    page = (out / 'report.html').read_text()
    for row in report['scenes']:
        assert f'<img src="{row["picture"]}">' in page
        picture = cv2.imread(str(out / row['picture']))
        assert picture.std() > 20 and picture.shape[1] > 6 * 200


def test_baseline_can_be_left_out(data, tiny_model, capsys):
    assert main(['evaluate', 'disparity', '--data', str(data), '--model', str(tiny_model),
                 '--network-size', '64x96', '--no-sgbm']) == 0
    assert 'sgbm' not in capsys.readouterr().out


@pytest.mark.parametrize('argv, message', [
    (['--data', 'no/such/folder'], 'no folder no/such/folder'),
    (['--data', '{data}', '--model', 'giant'], 'no model "giant"'),
    (['--data', '{data}/c'], 'no labelled pair below'),
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
