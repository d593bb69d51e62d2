import json
import time

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from svp_ros.benchmark import cost, timing
from svp_ros.benchmark.bars import fastest, judge
from svp_ros.benchmark.baselines import (
    opencv_matchers,
    photograph,
    STAND_IN,
    STAND_IN_GFLOP,
    StandIn,
)
from svp_ros.benchmark.command import main
from svp_ros.benchmark.node import (
    find_highest,
    measure_cameras,
    measure_node,
    measure_overhead,
    summarise,
)
from svp_ros.benchmark.peers import load_peer
from svp_ros.benchmark.profile import profile_layers
from svp_ros.benchmark.readme import update_readme
from svp_ros.benchmark.report import compare, to_markdown
from svp_ros.benchmark.run import Benchmark
from svp_ros.data.formats import read_image, write_image, write_pfm


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


def test_operations_and_bytes_of_a_pass_are_those_worked_by_hand():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
            self.linear = torch.nn.Linear(8, 4, bias=False)

        def forward(self, image):
            return self.linear(self.conv(image).relu().flatten(2).transpose(1, 2)[0])
    gflop, gigabytes = cost.count_cost(Net(), torch.zeros(1, 3, 6, 10))
    assert gflop * 1e9 == pytest.approx(2 * 60 * (27 * 8 + 8 * 4))
    assert gigabytes * 1e9 == pytest.approx(4 * (180 + 216 + 480 + 480 + 32 + 240))


def test_roofline_is_the_larger_of_compute_and_memory():
    rates = {'copy_gb_per_s': 10.0, 'gflop_per_s': {'fp32': 100.0, 'bf16': 400.0}}
    row = {'precision': 'fp32', 'batch': 2, 'p50_ms': 500.0}
    cost.add_floor(row, 10.0, 0.2, rates)
    assert (row['compute_ms'], row['memory_ms'], row['times_floor']) == (200.0, 40.0, 2.5)
    low = {'precision': 'bf16', 'batch': 1, 'p50_ms': 50.0}
    cost.add_floor(low, 10.0, 4.0, rates)
    assert (low['compute_ms'], low['memory_ms'], low['times_floor']) == (25.0, 200.0, 0.25)
    unknown = {'precision': 'int8', 'batch': 1, 'p50_ms': 50.0}
    cost.add_floor(unknown, 10.0, 4.0, rates)
    assert unknown['gflop'] == 10.0 and 'times_floor' not in unknown


def test_rates_are_measured_for_what_torch_has(monkeypatch):
    monkeypatch.setattr(cost, 'MATRIX', {'cpu': 64})
    monkeypatch.setattr(cost, 'COPY_BYTES', {'cpu': 2 ** 16})
    rates = cost.measure_rates('cpu', ['fp32', 'bf16', 'fp16', 'int8'])
    assert set(rates['gflop_per_s']) == {'fp32', 'bf16'} and rates['copy_gb_per_s'] > 0


def test_a_peer_is_anything_that_can_be_imported(tmp_path, monkeypatch):
    (tmp_path / 'some_peer.py').write_text(
        'shapes = []\n'
        'def load(device):\n'
        '    return lambda left, right: shapes.append((left.shape, right.shape))\n')
    monkeypatch.syspath_prepend(tmp_path)
    load_peer('some_peer:load', 'cpu', 64, 96)()
    import some_peer
    assert some_peer.shapes == [((1, 3, 64, 96),) * 2] * 2
    for name, message in (('some_peer', 'module:function, got "some_peer"'),
                          ('not_here:load', 'ModuleNotFoundError: No module'),
                          ('some_peer:nothing', 'AttributeError')):
        with pytest.raises(ValueError, match=message):
            load_peer(name, 'cpu', 64, 96)


def network_row(model, engine, precision, ms):
    return {'model': model, 'engine': engine, 'precision': precision, 'size': [480, 640],
            'batch': 1, 'p50_ms': ms, 'p95_ms': ms, 'p99_ms': ms, 'gflop': 10.0,
            'ratios': {'opencv_sgbm': ms / 70, STAND_IN: ms / 3000}}


@pytest.fixture
def full_size():
    """A benchmark on a CPU, in figures that are easy to check."""
    times = {'p50_ms': 70.0, 'p95_ms': 71.0, 'p99_ms': 72.0}
    return {
        'device': 'a CPU', 'device_type': 'cpu', 'threads': 1, 'commit': 'abcdef0123',
        'command': 'svp benchmark', 'baselines': {'opencv_sgbm': times, STAND_IN: times},
        'networks': [network_row('nano', 'torch_eager', 'fp32', 90.0),
                     network_row('nano', 'torch', 'fp32', 140.0),
                     network_row('nano', 'openvino', 'bf16', 98.0),
                     network_row('small', 'onnx', 'fp32', 490.0),
                     network_row('base', 'torch_eager', 'fp32', 1500.0)],
        'predictor': [{'model': 'nano', 'engine': 'torch', 'precision': 'fp32',
                       'input': [480, 640], 'overhead': 0.04, **times, 'preprocess_ms': 2.0,
                       'inference_ms': 100.0, 'postprocess_ms': 2.0}],
        'overhead': [{'model': 'nano', 'engine': 'torch', 'precision': 'fp32', 'input': input_,
                      'outputs': ['disparity', output], 'p50_ms': 1.0, 'p95_ms': 5.0}
                     for input_ in ([480, 640], [720, 1280]) for output in ('depth', 'points2')]}


def test_bars_are_those_of_this_project(full_size):
    bars = {row['bar']: (round(row['measured'], 3), row['limit'], row['kept'])
            for row in judge(full_size)}
    assert bars == {
        'nano, openvino bf16, times OpenCV SGBM': (1.4, 1.5, True),
        'small, onnx fp32, times OpenCV SGBM': (7.0, 6.0, False),
        'base in eager fp32, times the stand-in of the prototype': (0.5, 0.4, False),
        'predictor nano, torch fp32, 640x480: before and after, share of the network': (
            0.04, 0.1, True),
        'node, 640x480, disparity + depth: beyond the predictor, p95 ms': (5.0, 3.0, False),
        'node, 640x480, disparity + points2: beyond the predictor, p95 ms': (5.0, 12.0, True),
        'node, 1280x720, disparity + depth: beyond the predictor, p95 ms': (5.0, 6.0, True),
        'node, 1280x720, disparity + points2: beyond the predictor, p95 ms': (5.0, 24.0, True)}
    full_size['networks'].append(network_row('nano', 'openvino', 'int8', 80.0))
    assert fastest(full_size, 'nano')['precision'] == 'int8'
    assert fastest(full_size, 'nano', int8=False)['precision'] == 'bf16'
    assert fastest(full_size, 'huge') is None
    assert not any('SGBM' in row['bar'] for row in judge({**full_size, 'threads': 2}))


def test_bars_of_a_gpu_are_for_the_one_they_were_set_on(full_size):
    rows = [{**network_row('base', 'torch', 'fp16', 2.6), 'times_floor': 2.0},
            network_row('base', 'onnx', 'fp32', 20.0)]
    gpu = {**full_size, 'networks': rows, 'overhead': [], 'device_type': 'cuda'}
    assert [(row['bar'], row['kept']) for row in judge({**gpu, 'device': 'NVIDIA H200'})] == [
        ('base fp16, ms', False), ('base fp16, times its roofline', True),
        ('predictor nano, torch fp32, 640x480: before and after, ms', False)]
    assert len(judge({**gpu, 'device': 'NVIDIA A100'})) == 2


def test_readme_holds_the_tables_between_its_marks(full_size):
    before = 'a\n<!-- benchmark cpu -->\nold\n<!-- end -->\nb\n<!-- benchmark cuda -->\n' \
             'old\n<!-- end -->\n'
    text = update_readme(before, {**full_size, 'bars': judge(full_size)}, 'docs/a.json')
    assert text.startswith('a\n<!-- benchmark cpu -->\nNetwork alone, one 640x480 pair')
    assert text.endswith('[a.json](docs/a.json).\n<!-- end -->\nb\n<!-- benchmark cuda -->\n'
                         'old\n<!-- end -->\n')
    assert '| nano | 90 (1.3) | 140 (2.0) | 98 (1.4) |  |' in text
    assert '| OpenCV SGBM, 128 disparities | 70 |' in text
    assert ('Of 8 bars we set ourselves 3 are missed: small, onnx fp32, times OpenCV SGBM (7.00, '
            'at most 6); base in eager fp32') in text
    assert update_readme(before.replace('old\n', ''), {**full_size, 'bars': judge(full_size)},
                         'docs/a.json') == text.replace('old\n', '')
    with pytest.raises(ValueError, match='the README needs the marks <!-- benchmark cpu -->'):
        update_readme('nothing', full_size, 'docs/a.json')


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


def test_command_writes_draws_and_compares(tiny_model, scenes, tmp_path, capsys):
    out = tmp_path / 'new' / 'a.json'
    readme = tmp_path / 'README.md'
    readme.write_text('<!-- benchmark cpu -->\n<!-- end -->\n')
    argv = ['--model', str(tiny_model), '--network-size', '64x96', '96x128', '--input-size',
            '70x100', '--engines', 'torch', '--precisions', 'fp32', 'int8', '--rounds', '2',
            '--parts', 'network', 'predictor', 'scaling', '--batch', '1', '3', '--no-stand-in',
            '--peers', 'not_here:load', '--accuracy', str(scenes), '--json', str(out),
            '--markdown', str(tmp_path / 'a.md'), '--profile', str(tmp_path / 'profile.json'),
            '--readme', str(readme)]
    assert main(argv) == 0
    result = json.loads(out.read_text())
    assert [(row['engine'], row['precision']) for row in result['networks']] == [
        ('torch_eager', 'fp32'), ('torch', 'fp32')]
    row = result['networks'][1]
    assert row['ratios']['opencv_bm'] == pytest.approx(
        row['p50_ms'] / result['baselines']['opencv_bm']['p50_ms'])
    assert row['times_floor'] > 1 and row['gflop'] > 0
    assert 'got int8' in result['not_measured']['tiny torch int8']
    assert 'ModuleNotFoundError' in result['not_measured']['not_here:load']
    assert result['predictor'][0]['input'] == [70, 100]
    assert [(row['size'], row['batch']) for row in result['scaling']] == [
        ([64, 96], 1), ([96, 128], 1), ([64, 96], 3)]
    assert result['scaling'][2]['ms_per_pair'] == result['scaling'][2]['p50_ms'] / 3
    assert result['accuracy'][0]['scenes'] == 2 and result['accuracy'][0]['epe_change'] == 0
    assert result['versions']['torch'] and result['device_type'] == 'cpu'
    assert str(tmp_path) not in result['command']
    assert (tmp_path / 'a.md').read_text() == to_markdown(result)
    assert '[a.json](new/a.json)' in readme.read_text()
    assert json.loads((tmp_path / 'profile.json').read_text())['layers']
    assert '| torch | fp32 | 64x96 |' in capsys.readouterr().out

    plot = tmp_path / 'plots' / 'scaling.png'
    assert main(['--show', str(out), '--plot', str(plot), '--compare', str(out)]) == 0
    assert read_image(plot).shape[0] > 100
    printed = capsys.readouterr().out
    assert printed.startswith(to_markdown(result)) and '| +0 % | +0 % |' in printed
    del result['scaling']
    out.write_text(json.dumps(result))
    with pytest.raises(ValueError, match='no scaling to plot'):
        main(['--show', str(out), '--plot', str(plot)])


def test_comparison_is_of_times_and_of_ratios_to_sgbm(full_size):
    slower = json.loads(json.dumps(full_size))
    slower['networks'][2]['p50_ms'] *= 3
    slower['overhead'][0]['p50_ms'] *= 2
    slower['baselines']['opencv_sgbm']['p50_ms'] *= 2
    lines = compare(slower, full_size).splitlines()
    assert '| networks | nano | openvino | bf16 | 480x640 | 98.0 | 294.0 | +200 % | +50 % |' \
        in lines
    assert '| overhead | nano | torch | fp32 | 480x640 disparity depth | 1.0 | 2.0 | +100 % ' \
           '| +0 % |' in lines
    assert len(lines) == 2 + 5 + 1 + 4
    assert 'nothing in common' in compare({'networks': []}, full_size)


@pytest.mark.parametrize('argv, message', [
    (['--compare', 'nothing.json'], 'no benchmark nothing.json'),
    (['--threads', '0'], 'must be at least 1'),
    (['--parts', 'node', '--seconds', '0'], 'must be positive'),
    (['--network-size', '480x640', '240x320'], 'multiples of 32, got 240x320'),
    (['--readme', 'nothing.md'], 'no file nothing.md'),
    (['--readme', __file__], '--readme needs --json or --show'),
])
def test_bad_arguments_are_explained(argv, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(argv)


def test_a_node_that_fails_costs_no_other_part(tiny_model, tmp_path, monkeypatch):
    from svp_ros.benchmark import node

    def fail(*_):
        raise OSError('the node ended\nits log')
    monkeypatch.setattr(node, 'measure_node', fail)
    out = tmp_path / 'a.json'
    assert main(['--model', str(tiny_model), '--parts', 'predictor', 'node', '--network-size',
                 '64x96', '--input-size', '70x100', '--rounds', '1', '--json', str(out)]) == 0
    result = json.loads(out.read_text())
    assert result['not_measured'] == {'node': 'the node ended'} and result['predictor']


def test_engines_that_do_not_work_cost_no_other(tiny_model, scenes, tmp_path):
    out = tmp_path / 'a.json'
    argv = ['--model', str(tiny_model), '--parts', 'network', 'predictor', 'scaling', '--batch',
            '1', '--network-size', '64x96', '--input-size', '70x100', '--rounds', '1',
            '--precisions', 'fp32', '--no-stand-in', '--device', 'cpu', '--json', str(out)]
    assert main([*argv, '--engines', 'tensorrt', 'torch']) == 0
    result = json.loads(out.read_text())
    assert list(result['not_measured']) == ['tiny tensorrt fp32']
    assert {row['engine'] for part in ('predictor', 'scaling') for row in result[part]} == {
        'torch'}
    assert main([*argv, '--engines', 'tensorrt', '--accuracy', str(scenes)]) == 0
    result = json.loads(out.read_text())
    assert result['scaling'] == [] and len(result['accuracy']) == 1
    assert 'runs on a CUDA GPU' in result['not_measured']['scaling tensorrt fp32 64x96 batch 1']


def test_scenes_are_looked_for_before_anything_is_timed(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(Benchmark, 'run', lambda self: pytest.fail('measured before'))
    with pytest.raises(FileNotFoundError, match='no folder'):
        main(['--model', str(tiny_model), '--accuracy', str(tmp_path / 'nothing')])


@pytest.mark.alone
def test_nodes_are_timed_over_dds(tiny_model, monkeypatch):
    pytest.importorskip('rclpy', reason='needs ROS 2')
    from svp_ros.benchmark import node
    monkeypatch.setattr(node, 'FIXED_HZ', (5.0,))
    monkeypatch.setattr(node, 'OVERLOAD_HZ', 5.0)
    monkeypatch.setattr(node, 'find_highest', lambda trial, low: trial(2.0))
    monkeypatch.setattr(node, 'OUTPUTS', [('disparity', 'depth', 'points2')])
    settings = {'model': str(tiny_model), 'device': 'cpu', 'engine': 'torch', 'precision': 'fp32',
                'network_height': 64, 'network_width': 96, 'num_threads': 1}
    rows = measure_node(settings, (96, 128), 1.0)
    assert [row['highest'] for row in rows] == [False, True]
    assert rows[1]['published_hz'] == pytest.approx(2, rel=0.5)
    assert rows[1]['drops'] < 1 and rows[1]['p50_ms'] > 0
    assert rows[1]['rss_mib'] > 50 and rows[1]['start_s'] > 0 and rows[1]['cpu_share'] > 0

    cameras, = measure_cameras(settings, [2], (96, 128), 1.0)
    assert cameras['cameras'] == 2 and cameras['rss_mib'] > 50
    assert 5 < cameras['total_hz'] <= 1.1 * cameras['published_hz']

    stages = {'input': [96, 128], 'preprocess_ms': 0.1, 'postprocess_ms': 0.1, 'p95_ms': 100.0}
    (overhead,), missing = measure_overhead(settings, [stages], 4.0)
    assert overhead['pairs'] >= 7 and missing == {}
    assert 0 < overhead['p50_ms'] <= overhead['p95_ms']
