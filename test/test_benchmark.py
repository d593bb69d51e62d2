import json
import time

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from svp_ros.benchmark import timing
from svp_ros.benchmark.baselines import opencv_matchers, photograph, STAND_IN_GFLOP, StandIn
from svp_ros.benchmark.command import main
from svp_ros.benchmark.node import find_highest, measure_node, summarise
from svp_ros.benchmark.profile import profile_layers
from svp_ros.benchmark.report import compare, to_markdown
from svp_ros.data.formats import write_image, write_pfm


def test_contenders_run_in_turn_and_slow_ones_less_often():
    order = []
    times = timing.interleave({'a': lambda: order.append('a'), 'b': lambda: order.append('b'),
                               'slow': lambda: time.sleep(0.03)}, rounds=8)
    assert order == ['a', 'b'] * 9
    assert len(times['a']) == 8 and len(times['slow']) == 2
    assert min(times['slow']) >= 30 > max(times['a'])


def test_percentiles_and_ratios():
    summary = timing.percentiles(list(range(1, 102)))
    assert (summary['p50_ms'], summary['p95_ms'], summary['p99_ms']) == (51, 96, 100)
    rows = [{'p50_ms': 102.0}]
    timing.add_ratios(rows, {'base': summary})
    assert rows[0]['ratios'] == {'base': 2.0}


def test_threads_are_limited_and_given_back():
    before = torch.get_num_threads()
    with timing.threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_stand_in_costs_what_the_prototype_does():
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused kernels are not counted
    try:
        with torch.device('meta'), torch.no_grad(), FlopCounterMode(display=False) as counter:
            image = torch.empty(1, 3, 480, 640)
            assert StandIn().eval()(image, image).shape == (1, 1, 480, 640)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    assert counter.get_total_flops() / 1e9 == pytest.approx(STAND_IN_GFLOP, rel=0.01)


def test_opencv_baselines_match_the_photograph():
    left, right = photograph(240, 320)
    for match in opencv_matchers(left, right).values():
        disparity = match() / 16
        assert 10 < np.median(disparity[disparity > 0]) < 40


@pytest.mark.parametrize('capacity', [0.3, 7.3, 40.0, 1e9])
def test_search_finds_the_highest_rate_without_drops(capacity):
    tried = []

    def trial(rate):
        tried.append(rate)
        return {'rate': rate, 'drops': max(0.0, 1 - capacity / rate)}
    best = find_highest(trial)
    if capacity < 0.5:
        assert best is None
    else:
        assert best['rate'] <= 1.01 * capacity
        assert best['rate'] > min(0.9 * capacity, 119)
    assert len(tried) < 14


def test_trial_counts_what_arrives_and_how_late():
    published = [10 ** 9 * i // 10 for i in range(11)]  # 10 Hz
    received = [[stamp, stamp + 20_000_000] for stamp in published[:6]] + [[77, 88]]
    row = summarise(published, received)
    assert row['published_hz'] == pytest.approx(10)
    assert row['drops'] == pytest.approx(5 / 11)
    assert row['p50_ms'] == row['p99_ms'] == pytest.approx(20)
    assert summarise(published, [])['p50_ms'] is None


def test_profile_accounts_for_the_whole_network(tiny_model):
    layers = {layer['name']: layer for layer in profile_layers(
        str(tiny_model), (64, 96), 'cpu', rounds=2)['layers']}
    assert layers['network']['ms'] >= layers['backbone']['ms'] > layers['backbone.cnn']['ms'] > 0
    parts = layers['backbone']['gflop'] + layers['head']['gflop']
    assert layers['network']['gflop'] == pytest.approx(parts, abs=2e-4)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('scenes')
    left, right = photograph(96, 128)
    for name in ('a', 'b'):
        (root / name).mkdir()
        write_image(root / name / 'left.png', left)
        write_image(root / name / 'right.png', right)
        write_pfm(root / name / 'disp.pfm', np.full((96, 128), 9, np.float32))
    return root


def test_command_writes_and_compares(tiny_model, scenes, tmp_path, capsys):
    out = tmp_path / 'new' / 'a.json'
    argv = ['--model', str(tiny_model), '--network-size', '64x96', '--input-size', '70x100',
            '--engines', 'torch', '--precisions', 'fp32', 'int8', '--rounds', '2',
            '--no-stand-in', '--accuracy', str(scenes), '--json', str(out), '--markdown',
            str(tmp_path / 'a.md'), '--profile', str(tmp_path / 'profile.json')]
    assert main(argv) == 0
    result = json.loads(out.read_text())
    assert [(row['engine'], row['precision']) for row in result['networks']] == [
        ('torch_eager', 'fp32'), ('torch', 'fp32')]
    row = result['networks'][1]
    assert row['ratios']['opencv_bm'] == pytest.approx(
        row['p50_ms'] / result['baselines']['opencv_bm']['p50_ms'])
    assert 'got int8' in result['not_measured']['torch int8']
    assert result['predictor'][0]['input'] == [70, 100]
    assert result['accuracy'][0]['scenes'] == 2 and result['accuracy'][0]['epe_change'] == 0
    assert str(tmp_path) not in result['command']
    assert (tmp_path / 'a.md').read_text() == to_markdown(result)
    assert json.loads((tmp_path / 'profile.json').read_text())['layers']
    assert '| torch | fp32 | 64x96 |' in capsys.readouterr().out

    slower = json.loads(out.read_text())
    slower['networks'][1]['p50_ms'] *= 2
    slower['networks'][1]['ratios']['opencv_sgbm'] *= 3
    table = compare(slower, result)
    assert '+100 %' in table and '+200 %' in table
    assert 'nothing in common' in compare({'networks': []}, result)


@pytest.mark.parametrize('argv, message', [
    (['--compare', 'nothing.json'], 'no benchmark nothing.json'),
    (['--threads', '0'], 'must be at least 1'),
    (['--parts', 'node', '--seconds', '0'], 'must be positive'),
])
def test_bad_arguments_are_explained(argv, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(argv)


def test_node_answers_over_dds(tiny_model, monkeypatch):
    pytest.importorskip('rclpy', reason='needs ROS 2')
    from svp_ros.benchmark import node
    monkeypatch.setattr(node, 'FIXED_HZ', (5.0,))
    monkeypatch.setattr(node, 'find_highest', lambda trial: trial(2.0))
    rows = measure_node(str(tiny_model), 'cpu', 'torch', 'fp32', (64, 96), (96, 128), 1, 1.0)
    assert [row['highest'] for row in rows] == [True, False]
    assert rows[0]['published_hz'] == pytest.approx(2, rel=0.5)
    assert rows[0]['drops'] < 1 and rows[0]['p50_ms'] > 0
    assert rows[0]['rss_mib'] > 50
