"""The soak test itself: what it finds in figures, and a short run with the real node."""

import json

import numpy as np
import pytest

from svp_ros.ros.soak import (
    find_failures,
    main,
    Sample,
    summarise_ages,
    summarise_calls,
    summarise_memory,
)

pytestmark = pytest.mark.alone


def make_samples(growth_mb_per_hour, count=600):
    generator = np.random.default_rng(0)
    return [Sample(second, 500 + 50 * (second < count / 20) + growth_mb_per_hour * second / 3600
                   + generator.normal(0, 0.2), 3.0) for second in range(count)]


def make_report(samples, ages_ms, **others):
    received = [(10 ** 9 * number, 10 ** 9 * number + round(1e6 * age))
                for number, age in enumerate(ages_ms)]
    return {'rss_mb': summarise_memory(samples), 'age_ms': summarise_ages(received),
            'parameter_ms': summarise_calls(samples), 'exceptions': 0, 'pairs': {}, **others}


def test_a_leak_is_measured_in_spite_of_noise_and_warm_up():
    memory = summarise_memory(make_samples(120.0))
    assert memory['growth_mb_per_hour'] == pytest.approx(120, rel=0.02)
    assert memory['growth_percent'] == pytest.approx(100 * 120 * 0.81 / 6 / 502, rel=0.05)
    assert abs(summarise_memory(make_samples(0.0))['growth_percent']) < 0.1


def test_a_steady_run_has_no_failures_and_each_loss_is_one():
    steady = make_report(make_samples(0.0), [200.0] * 100)
    assert find_failures(steady, 1.0) == []
    assert steady['parameter_ms'] == {'calls': 600, 'lost': 0, 'p50': 3.0, 'p99': 3.0, 'max': 3.0}
    lost = [*make_samples(0.0), Sample(600.0, 500.0, None)]
    cases = {
        'memory grew by 3.': make_report(make_samples(120.0), [200.0] * 100),
        '1 parameter calls were not': make_report(lost, [200.0] * 100),
        'from 200 to 900 ms': make_report(make_samples(0.0), [200.0] * 50 + [900.0] * 50),
        'no pair was answered': make_report(make_samples(0.0), []),
        'has 2 exceptions': {**steady, 'exceptions': 2},
        '3 pairs were dropped': {**steady, 'pairs': {'dropped': 3}}}
    for text, report in cases.items():
        (failure,) = find_failures(report, 1.0)
        assert text in failure


def test_a_short_soak_of_the_real_node(tiny_model, tmp_path, monkeypatch):
    for name in ('ROS_DOMAIN_ID', 'OMP_NUM_THREADS'):
        monkeypatch.setenv(name, '1')  # restored afterwards
    out = tmp_path / 'soak.json'
    arguments = ['--minutes', '0.1', '--rate', '20', '--model', str(tiny_model), '--device', 'cpu',
                 '--network-size', '64x96', '--max-growth', '50', '--out', str(out)]
    assert main(arguments) == 0
    report = json.loads(out.read_text())
    assert report['pairs']['answered'] > 10 and report['pairs']['processed'] > 10
    assert report['pairs']['published'] == 120
    assert report['parameter_ms']['lost'] == 0 and report['parameter_ms']['calls'] >= 3
    assert report['failures'] == [] and report['exceptions'] == 0
    assert report['rss_mb']['start'] > 50 and report['age_ms']['p50'] > 0
    assert report['samples'] and {'command', 'commit', 'device'} <= set(report)


@pytest.mark.parametrize('argument, message', [
    (['--minutes', '0'], 'must be positive, got 0, 30 and 1'),
    (['--model', 'none'], 'no model "none"')])
def test_wrong_arguments_are_refused(argument, message, tmp_path, capsys):
    assert main([*argument, '--out', str(tmp_path / 'soak.json')]) == 2
    assert message in capsys.readouterr().err
