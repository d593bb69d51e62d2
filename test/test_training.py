import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from lightning.fabric import Fabric
import pytest
import torch
from training_process import assert_equal_states, load_state, TrainingProcess, wait_for_steps
import yaml

from svp_ros.cli import main as cli_main
from svp_ros.config import load_config
from svp_ros.data.pair_stream import DataSource, PairStreamConfig
from svp_ros.model.build import build_model, load_checkpoint, NetworkConfig, save_checkpoint
from svp_ros.predictor import StereoPredictor
from svp_ros.train.adapt import AdaptConfig
from svp_ros.train.detection import DetectionTraining
from svp_ros.train.disparity import DisparityTraining, main
from svp_ros.train.loop import (
    _drop_rows_after,
    LoopConfig,
    NonFiniteLossError,
    TrainingRun,
    WeightAverage,
)
from svp_ros.train.losses import at_stride, masked_mean, matching_loss
from svp_ros.train.pretrain import PretrainConfig
from svp_ros.train.runs import make_fabric, settle_config, to_yaml

FAST = {
    'size': 'nano', 'precision': '32-true', 'validation_pairs': 4,
    'stream': {'height': 64, 'width': 96, 'render_height': 64, 'render_width': 96, 'batch': 1,
               'pairs': 8},
    'loop': {'steps': 8, 'validate_every': 8, 'log_every': 1, 'save_every_s': 0.0}}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'fast.yaml'
    path.write_text(yaml.safe_dump(FAST))
    return path


def start(config: Path, out: Path, *more: str) -> TrainingProcess:
    return TrainingProcess('finetune', 'disparity', '--config', config,
                           '--cache', out.parent / 'cache', *more, out=out)


def test_a_killed_run_continues_bit_exactly(config, tmp_path):
    whole = start(config, tmp_path / 'whole')
    assert whole.wait() == 0, whole.output()

    killed = start(config, tmp_path / 'killed')
    killed.wait_for_steps(3)
    killed.kill()
    assert 0 < load_state(tmp_path / 'killed')['step'] < 8

    resumed = start(config, tmp_path / 'killed', '--resume')
    assert resumed.wait() == 0, resumed.output()
    state = load_state(tmp_path / 'whole')
    assert state['step'] == 8
    assert_equal_states(state, load_state(tmp_path / 'killed'))

    folder = tmp_path / 'whole'
    assert {'config.yaml', 'commit', 'train.csv', 'validate.csv', 'validation.png',
            'average.safetensors'} <= {p.name for p in folder.iterdir()}
    assert list((folder / 'tensorboard').iterdir())
    assert StereoPredictor.load(folder / 'average.safetensors').card['parameters'] > 1e6
    model, _, _ = load_checkpoint(folder / 'average.safetensors')
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state['average'][name], atol=2e-3, rtol=2e-3)


def test_a_run_that_is_told_to_stop_saves_first(tmp_path):
    slow = {**FAST, 'loop': {**FAST['loop'], 'steps': 100000, 'save_every_s': 1e6}}
    path = tmp_path / 'slow.yaml'
    path.write_text(yaml.safe_dump(slow))
    run = start(path, tmp_path / 'run')
    run.wait_for_steps(3)
    assert not (tmp_path / 'run' / 'last.pt').exists()
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 130
    assert 'continue with --resume' in run.output()
    assert load_state(tmp_path / 'run')['step'] >= 3


class Killed(BaseException):
    """Ends a run where it stands."""


def train_line(folder, validate, resume=False, stop_at=None):
    """Train a line for six steps; every third one validates, every one is saved."""
    torch.manual_seed(0)
    fabric = Fabric(accelerator='cpu', devices=1)
    fabric.launch()
    config = LoopConfig(steps=6, warmup_steps=0, validate_every=3, log_every=1, save_every_s=0)
    run = TrainingRun(torch.nn.Linear(1, 1), config, folder, fabric)
    if resume:
        run.resume()

    def losses(model, batch):
        if run.step + 1 == stop_at:
            run.stop()
        return {'square': (model(batch['left']) - 3).square().mean()}

    run.train(iter([{'left': torch.full((2, 1), float(step))} for step in range(run.step, 6)]),
              losses, validate)
    return run


@pytest.mark.parametrize('step', [3, 6])
def test_a_validation_that_was_killed_is_done_by_the_resumed_run(tmp_path, step):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    done = []

    def validate(weights, samples):
        assert samples == 2 * 3 * (len(done) % 2 + 1)
        done.append(weights['weight'].item())
        return {'weight': done[-1]}

    def validate_until_killed(weights, samples):
        if len(done) == step // 3 - 1:
            raise Killed
        return validate(weights, samples)

    for folder in (whole, killed):
        folder.mkdir()
    train_line(whole, validate)
    expected = done.copy()
    assert len(expected) == 2
    done.clear()
    with pytest.raises(Killed):
        train_line(killed, validate_until_killed)
    train_line(killed, validate, resume=True)
    assert done == expected
    assert (killed / 'validate.csv').read_text() == (whole / 'validate.csv').read_text()
    assert_equal_states(load_state(whole), load_state(killed))


def test_a_run_that_is_stopped_before_a_validation_does_it_first(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_line(tmp_path, lambda weights, _: {'weight': weights['weight'].item()}, stop_at=3)
    assert load_state(tmp_path)['step'] == 3
    assert (tmp_path / 'validate.csv').read_text().splitlines()[-1].startswith('3,')


def test_two_processes_train_and_stop_together(tmp_path):
    """The signal reaches the first process alone, which must not leave the other waiting."""
    path = tmp_path / 'slow.yaml'
    path.write_text(yaml.safe_dump({**FAST, 'loop': {
        **FAST['loop'], 'steps': 100000, 'validate_every': 2, 'save_every_s': 1e6}}))
    folder = tmp_path / 'run'
    with open(tmp_path / 'log', 'w') as log:
        run = subprocess.Popen(
            [sys.executable, '-m', 'svp_ros', 'finetune', 'disparity', '--config', str(path),
             '--out', str(folder), '--accelerator', 'cpu', '--devices', '2', '--workers', '0'],
            env={**os.environ, 'OMP_NUM_THREADS': '1'}, stdout=log, stderr=log)
    wait_for_steps(folder, 5, lambda: run.poll() is None)
    run.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert run.wait(60) == 130, (tmp_path / 'log').read_text()
    assert time.monotonic() - asked < 20
    step = load_state(folder)['step']
    assert step >= 5
    assert (tmp_path / 'log').read_text().count(
        f'stopped after step {step}; continue with --resume') == 1
    assert 'Traceback' not in (tmp_path / 'log').read_text()
    assert len((folder / 'validate.csv').read_text().splitlines()) >= 1 + (step - 1) // 2


def test_a_finished_folder_is_not_overwritten(config, tmp_path):
    (tmp_path / 'last.pt').touch()
    with pytest.raises(ValueError, match='add --resume'):
        main(['--config', str(config), '--out', str(tmp_path)])


def test_resume_without_a_run_says_so(config, tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing to resume'):
        main(['--config', str(config), '--out', str(tmp_path), '--resume',
              '--accelerator', 'cpu'])


@pytest.mark.parametrize('change, message', [
    ({'sise': 'nano'}, 'unknown key "sise"'),
    ({'size': 'huge'}, 'no network size "huge"; there are nano, small, base'),
    ({'stream': {'height': 50}}, 'height must be a positive multiple of 32, got 50'),
    ({'loop': {'steps': 'many'}}, "steps must be int, got 'many'"),
    ({'loop': {'log_every': 0}}, 'log_every must be at least 1, got 0'),
    ({'stream': {'augment': {'grey': 2}}}, 'grey is a probability, got 2'),
    ({'precision': '16-mixed'}, 'precision must be 32-true or bf16-mixed, got 16-mixed'),
])
def test_wrong_settings_are_refused(tmp_path, change, message):
    path = tmp_path / 'wrong.yaml'
    path.write_text(yaml.safe_dump(change))
    with pytest.raises(ValueError, match=message):
        main(['--config', str(path), '--out', str(tmp_path / 'run')])


def test_a_start_of_another_size_is_refused(tmp_path):
    other = NetworkConfig(channels=(8, 8, 16, 32), heads=2)
    save_checkpoint(tmp_path / 'other.safetensors', build_model(other).state_dict(), other)
    path = tmp_path / 'start.yaml'
    path.write_text(yaml.safe_dump({**FAST, 'start': str(tmp_path / 'other.safetensors')}))
    with pytest.raises(ValueError, match=r'of another size; it has .*channels.: \(8, 8, 16'):
        main(['--config', str(path), '--out', str(tmp_path / 'run'), '--accelerator', 'cpu'])
    with pytest.raises(FileNotFoundError, match='no model "nothing"'):
        main(['--config', str(path), '--out', str(tmp_path / 'run'), '--accelerator', 'cpu',
              '--start', 'nothing'])


def test_a_non_finite_loss_stops_the_run_and_keeps_the_checkpoint(config, tmp_path):
    """A start with a NaN weight is what a diverged network looks like."""
    model = build_model(NetworkConfig())
    state = model.state_dict()
    state['head.upsampling.bias'][0] = float('nan')
    save_checkpoint(tmp_path / 'nan.safetensors', state, NetworkConfig())
    path = tmp_path / 'nan.yaml'
    path.write_text(yaml.safe_dump({**FAST, 'start': str(tmp_path / 'nan.safetensors')}))
    with pytest.raises(NonFiniteLossError,
                       match='loss is nan at step 1 .*start again and a lower learning_rate'):
        main(['--config', str(path), '--out', str(tmp_path / 'run'), '--accelerator', 'cpu',
              '--workers', '0'])


def test_user_errors_of_training_are_one_line(tmp_path, capsys):
    assert cli_main(['finetune', 'disparity', '--out', str(tmp_path), '--devices', 'many']) == 2
    assert capsys.readouterr().err == (
        'svp finetune disparity: --devices must be auto or a positive number, got many\n')


def test_a_resumed_run_keeps_its_own_settings(config, tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'config.yaml').write_text(config.read_text())
    changed = tmp_path / 'changed.yaml'
    changed.write_text(yaml.safe_dump({**FAST, 'seed': 5}))
    with pytest.raises(ValueError, match=f'^{run}: seed was 0, now 5; a resumed run'):
        main(['--config', str(changed), '--out', str(run), '--resume', '--accelerator', 'cpu'])
    for change, message in (
            ({'height': 32}, 'stream.height was 64, now 32; '),
            ({'augment': {'zoom': [-1, 0.25]}},
             r'stream.augment.zoom was \[-0.3, 0.5\], now \[-1.0, 0.25\]; ')):
        other = {**FAST, 'stream': {**FAST['stream'], **change}}
        changed.write_text(yaml.safe_dump(other))
        with pytest.raises(ValueError, match=f'^{run}: {message}'):
            settle_config(load_config(DisparityTraining, changed), run, resume=True, given=True)
    own = load_config(DisparityTraining, config)
    assert settle_config(DisparityTraining(), run, resume=True, given=False) == own
    longer = load_config(DisparityTraining, config, loop={'steps': 99})
    assert settle_config(longer, run, resume=True, given=True) == longer


def test_a_resumed_run_names_the_source_that_changed(tmp_path):
    own, more, other = (
        PretrainConfig(stream=PairStreamConfig(data=tuple(map(DataSource, paths))))
        for paths in ('a', 'ab', 'b'))
    (tmp_path / 'config.yaml').write_text(yaml.safe_dump(to_yaml(own)))
    for config, message in ((more, 'stream.data had 1 entries, now 2; '),
                            (other, 'stream.data.0.path was a, now b; ')):
        with pytest.raises(ValueError, match=f'^{tmp_path}: {message}'):
            settle_config(config, tmp_path, resume=True, given=True)


def test_a_resumed_run_needs_no_start(tmp_path):
    """Its own weights replace those, so that the file may be gone."""
    weights = tmp_path / 'start.safetensors'
    save_checkpoint(weights, build_model(NetworkConfig()).state_dict(), NetworkConfig())
    path = tmp_path / 'start.yaml'
    values = {**FAST, 'start': str(weights), 'loop': {**FAST['loop'], 'steps': 1}}
    path.write_text(yaml.safe_dump(values))
    arguments = ['--config', str(path), '--out', str(tmp_path / 'run'), '--accelerator', 'cpu',
                 '--workers', '0', '--cache', str(tmp_path / 'cache')]
    assert main(arguments) == 0
    weights.unlink()
    values['loop']['steps'] = 2
    path.write_text(yaml.safe_dump(values))
    assert main([*arguments, '--resume']) == 0
    assert load_state(tmp_path / 'run')['step'] == 2


def test_a_resumed_run_refuses_photographs_that_it_would_ignore(tmp_path):
    with pytest.raises(ValueError, match='--resume without --config keeps the settings of the '
                                         'run; leave out --photographs'):
        main(['--out', str(tmp_path), '--resume', '--photographs', str(tmp_path)])


def test_steps_that_are_done_again_are_logged_once(tmp_path):
    log = tmp_path / 'train.csv'
    log.write_text('step,loss\n50,3\n100,2\n150,1\n')
    _drop_rows_after(log, 100)
    assert log.read_text() == 'step,loss\n50,3\n100,2\n'


def test_masked_mean_ignores_the_invalid():
    values = torch.tensor([1.0, 5.0, 3.0])
    assert masked_mean(values, torch.tensor([True, False, True])) == 2
    assert masked_mean(values, torch.zeros(3, dtype=torch.bool)) == 0


def test_at_stride_takes_cell_centres():
    x = torch.arange(16.).view(1, 1, 4, 4)
    assert torch.equal(at_stride(x, 2), x[..., 1::2, 1::2])


def test_matching_loss_is_lowest_at_the_truth():
    disparity = torch.full((1, 1, 1, 1), 3.25)
    valid = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    levels = torch.arange(8.)

    def loss(centre):
        return matching_loss(-(levels - centre).abs().view(1, 8, 1, 1) * 4, disparity, valid)

    assert loss(3.25) < loss(2) and loss(3.25) < loss(5)
    exact = torch.full((1, 8, 1, 1), -50.0)
    exact[0, 3], exact[0, 4] = torch.tensor(0.75).log(), torch.tensor(0.25).log()
    # (0.75 * 0.75 + 0.25 * 0.25) of the probability lies where the truth is
    assert loss_value(exact, disparity, valid) == pytest.approx(-torch.tensor(0.625).log().item(),
                                                                abs=1e-4)


def loss_value(logits, disparity, valid):
    return matching_loss(logits, disparity, valid).item()


def test_weight_average_follows_the_model():
    model = torch.nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(0)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(1)
    for step in range(1000):
        average.update(model, step)
    assert average.state['weight'].item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize('path', sorted(Path(__file__).parent.parent.glob('config/train/*.yaml')),
                         ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path):
    kind = path.stem.split('_')[0]
    if kind == 'proof':
        proof = pytest.importorskip('svp_ros.train.proof')
        load_config(proof.ProofConfig, path)
    else:
        configuration = {'pretrain': PretrainConfig, 'disparity': DisparityTraining,
                         'detection': DetectionTraining, 'adapt': AdaptConfig}[kind]
        least = 300 if kind == 'adapt' else 1000
        assert load_config(configuration, path).loop.steps >= least


@pytest.mark.parametrize('capability, precision, warns', [
    ('AVX2', 'bf16-mixed', True), ('AVX2', '32-true', False), ('AVX512', 'bf16-mixed', False)])
def test_bf16_is_advised_against_where_the_cpu_has_none(capability, precision, warns, monkeypatch,
                                                        caplog, tmp_path):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    make_fabric('cpu', '1', precision, tmp_path)
    assert ('this CPU has no bf16' in caplog.text) == warns
