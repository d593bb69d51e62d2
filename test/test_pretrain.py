from argparse import ArgumentParser
from copy import deepcopy
from dataclasses import replace
import os
import re
import shutil
import socket
import subprocess
import sys

from conftest import TINY
import cv2
import numpy as np
import pytest
import torch
from training_process import assert_equal_states, load_state, TrainingProcess
import yaml

from svp_ros.cli import main as cli_main
from svp_ros.config import load_config
from svp_ros.data import bag_messages
from svp_ros.data.formats import write_image
from svp_ros.data.pair_stream import DataSource, PairStream, PairStreamConfig
from svp_ros.data.rosbag2 import BagWriter
from svp_ros.data.stream import batches
from svp_ros.eval.reconstruction import fixed_mask, FixedPairs, score_reconstruction
from svp_ros.files import replace_file
from svp_ros.geometry import StereoCamera
from svp_ros.model.build import (
    build_reconstruction,
    get_size,
    load_checkpoint,
    load_reconstruction,
    read_checkpoint,
    RECONSTRUCTION,
    save_checkpoint,
)
from svp_ros.predictor import StereoPredictor
from svp_ros.train.masking import reconstruction_errors
from svp_ros.train.pretrain import make_losses, MaskedStream, PretrainConfig, sources_of
from svp_ros.train.runs import add_source_options

H, W = 64, 96
FAST = {
    'precision': '32-true', 'validation_pairs': 2,
    'stream': {'height': H, 'width': W, 'render_height': H, 'render_width': W, 'batch': 2,
               'stored_pairs': 8},
    'loop': {'steps': 6, 'validate_every': 3, 'log_every': 1, 'save_every_s': 0.0,
             'freeze_statistics': 4}}


def make_pair(seed, disparity=6):
    noise = np.random.default_rng(seed).uniform(0, 1, (H, W + disparity, 3))
    wide = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    wide = wide.astype(np.uint8)
    return wide[:, :W], wide[:, disparity:]


def write_pairs(folder, count=6):
    for index in range(count):
        for eye, image in zip(('left', 'right'), make_pair(index)):
            (folder / eye).mkdir(parents=True, exist_ok=True)
            write_image(folder / eye / f'{index}.png', image)
    return folder


def write_config(path, **changes):
    values = deepcopy(FAST)
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(values))
    return path


def run_cli(*arguments, out):
    return cli_main(['pretrain', *map(str, arguments), '--out', str(out), '--accelerator', 'cpu',
                     '--workers', '0'])


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    """Folder with pairs, a configuration of world and pairs, and rendered pairs."""
    folder = tmp_path_factory.mktemp('pretrain')
    write_pairs(folder / 'pairs', 10)  # the last two validate
    write_config(folder / 'mix.yaml', stream={'data': [{'path': str(folder / 'pairs')}]})
    return folder


def start(shared, out, *more, config='mix.yaml', **limits):
    return TrainingProcess('pretrain', '--config', shared / config,
                           '--cache', shared / 'cache', *more, out=out, **limits)


@pytest.fixture(scope='module')
def pretrained(shared):
    """Run folder of a finished run."""
    run = start(shared, shared / 'whole')
    assert run.wait() == 0, run.output()
    return shared / 'whole'


def test_a_killed_run_continues_bit_exactly(shared, pretrained, tmp_path):
    killed = start(shared, tmp_path / 'killed')
    killed.wait_for_steps(2)
    killed.kill()
    assert 0 < load_state(tmp_path / 'killed')['step'] < 6
    resumed = start(shared, tmp_path / 'killed', '--resume')
    assert resumed.wait() == 0, resumed.output()
    assert_equal_states(load_state(pretrained), load_state(tmp_path / 'killed'))
    assert load_state(pretrained)['step'] == 6
    # the scores too: masks and pairs of the validation are always the same
    for name in ('validate.csv', 'average.safetensors'):
        assert (pretrained / name).read_bytes() == (tmp_path / 'killed' / name).read_bytes()


def read_csv(path):
    header, *rows = (line.split(',') for line in path.read_text().splitlines())
    return [dict(zip(header, map(float, row))) for row in rows]


def test_a_run_logs_losses_times_and_scores_of_every_source(pretrained):
    rows = read_csv(pretrained / 'train.csv')
    assert [row['step'] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row['samples'] for row in rows] == [2, 4, 6, 8, 10, 12]
    shown = [tuple(map(float, ms)) for ms in re.findall(
        r'data_ms=([\d.]+), step_ms=([\d.]+)', pretrained.with_suffix('.log').read_text())]
    for row in rows:
        assert row['loss'] == pytest.approx(row['colours'] + row['structure'], rel=1e-4)
        assert 0 < row['data_s'] < row['step_s']
        ms = 1000 * row['data_s'], 1000 * row['step_s']  # of six digits, shown with one decimal
        assert any(pair == pytest.approx(ms, abs=0.06) for pair in shown)
    scores = read_csv(pretrained / 'validate.csv')
    assert [row['step'] for row in scores] == [3, 6]
    errors = {f'{prefix}{kind}' for prefix in ('', 'other_') for kind in ('colours', 'structure')}
    assert set(scores[0]) == {'step', 'world_epe', 'world_bad_3',
                              *(f'{source}_{x}' for source in ('world', 'data') for x in errors)}
    assert list((pretrained / 'tensorboard').iterdir())
    assert load_config(PretrainConfig, pretrained / 'config.yaml').mode == 'stereo'


def test_pretrained_weights_are_the_average_and_have_to_be_fine_tuned(pretrained):
    path = pretrained / 'average.safetensors'
    average = load_state(pretrained)['average']
    model, _ = load_reconstruction(path)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, average[name], atol=2e-3, rtol=2e-3)
    for load in (load_checkpoint, StereoPredictor.load):
        with pytest.raises(ValueError, match='is untrained; fine-tune it first: svp finetun'):
            load(path)


def test_fine_tuning_starts_from_pretrained_weights(shared, pretrained, tmp_path):
    values = {'precision': '32-true', 'validation_pairs': 4,
              'start': str(pretrained / 'average.safetensors'),
              'stream': {'height': H, 'width': W, 'render_height': H, 'render_width': W,
                         'batch': 1, 'pairs': 8},
              'loop': {'steps': 1, 'learning_rate': 1e-6}}
    config = tmp_path / 'finetune.yaml'
    config.write_text(yaml.safe_dump(values))
    run = TrainingProcess('finetune', 'disparity', '--config', config, '--cache',
                          shared / 'cache', out=tmp_path / 'run')
    assert run.wait() == 0, run.output()
    given, _, notes = read_checkpoint(pretrained / 'average.safetensors')
    assert notes['samples'] == '12' and load_state(tmp_path / 'run')['samples'] == 13
    tuned = load_state(tmp_path / 'run')['model']
    assert f'starting from {len(tuned)} of {len(tuned)} tensors' in run.output()
    for name in tuned:
        if name.endswith(('weight', 'bias')):  # one tiny step away
            torch.testing.assert_close(tuned[name], given[name], atol=2e-6, rtol=0)

    values['size'] = 'small'
    config.write_text(yaml.safe_dump(values))
    assert cli_main(['finetune', 'disparity', '--config', str(config), '--accelerator', 'cpu',
                     '--out', str(tmp_path / 'small')]) == 2


def test_left_only_is_the_same_without_the_right_image(shared, tmp_path):
    config = yaml.safe_load((shared / 'mix.yaml').read_text())
    write_config(tmp_path / 'short.yaml', stream=config['stream'],
                 loop={'steps': 1, 'validate_every': 1})
    run = start(shared, tmp_path / 'run', '--mode', 'left_only', config=tmp_path / 'short.yaml')
    assert run.wait() == 0, run.output()
    assert load_config(PretrainConfig, tmp_path / 'run/config.yaml').mode == 'left_only'
    for row in read_csv(tmp_path / 'run/validate.csv'):
        assert 'world_epe' not in row
        for source in ('world', 'data'):
            for kind in ('colours', 'structure'):
                assert row[f'{source}_{kind}'] == row[f'{source}_other_{kind}']


def test_a_validation_always_hides_the_same(shared):
    torch.manual_seed(0)
    model = build_reconstruction(TINY).eval()
    left, right = (torch.from_numpy(np.stack(eye)).permute(0, 3, 1, 2)
                   for eye in zip(*(make_pair(seed) for seed in range(6))))
    pairs = FixedPairs(left, right)
    scores = score_reconstruction(model, pairs, 0.9)
    torch.manual_seed(1)
    assert score_reconstruction(model, pairs, 0.9) == scores
    assert score_reconstruction(model, pairs, 0.5) != scores
    # batches of other pairs change nothing about a pair
    first = score_reconstruction(model, FixedPairs(left[:4], right[:4]), 0.9)
    assert first['structure'] != scores['structure']
    sums = [score_reconstruction(model, FixedPairs(left[:n], right[:n]), 0.9)['structure'] * n
            for n in (4, 5, 6)]
    for index, difference in ((4, sums[1] - sums[0]), (5, sums[2] - sums[1])):
        eyes = [eye[index:index + 1].float() / 255 for eye in (left, right)]
        mask = fixed_mask(index, H, W, 0.9)
        with torch.no_grad():
            alone = reconstruction_errors(model(*eyes, mask), model.backbone.normalise(eyes[0]),
                                          mask)
        assert difference == pytest.approx(alone['structure'].item(), rel=1e-4)


def test_every_step_and_every_process_hides_anew(shared):
    config = PairStreamConfig(H, W, 2, (DataSource(str(shared / 'pairs')),), world=0.0)

    def masks(rank):
        stream = MaskedStream(PairStream(config, 0, rank=rank), (0.5, 0.9))
        return [stream[step]['patch_mask'] for step in (0, 1)]

    found = [*masks(0), *masks(1)]
    assert len({tuple(mask.flatten().tolist()) for mask in found}) == 4
    assert torch.equal(masks(1)[1], found[3])
    hidden = [mask.sum(dim=(1, 2)).tolist() for mask in found]
    assert all(a == b and 12 <= a <= 22 for a, b in hidden)
    assert len({a for a, _ in hidden}) > 1


def test_two_samples_are_overfitted():
    torch.manual_seed(0)
    model = build_reconstruction(TINY)
    losses = make_losses(PretrainConfig(mask_ratio=0.5))
    left, right = (torch.from_numpy(np.stack(eye)).permute(0, 3, 1, 2).float() / 255
                   for eye in zip(*(make_pair(seed) for seed in range(2))))
    batch = {'left': left, 'right': right, 'patch_mask': torch.rand(2, H // 16, W // 16) < 0.5}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(50):
        terms = losses(model, batch)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        history.append({name: term.item() for name, term in terms.items()})
    assert set(history[0]) == {'colours', 'structure'}
    for name in history[0]:
        assert history[-1][name] < 0.7 * history[0][name], history[::20]


def test_losses_are_weighted_and_those_of_weight_zero_left_out():
    torch.manual_seed(0)
    model = build_reconstruction(TINY).eval()
    batch = {'left': torch.rand(1, 3, H, W), 'right': torch.rand(1, 3, H, W),
             'patch_mask': torch.rand(1, H // 16, W // 16) < 0.9}
    one, other = (make_losses(PretrainConfig(colours=1, structure=s))(model, batch)
                  for s in (1, 3))
    assert other['structure'].item() == pytest.approx(3 * one['structure'].item())
    assert other['colours'].item() == one['colours'].item()
    assert set(make_losses(PretrainConfig(colours=0))(model, batch)) == {'structure'}


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return str(listener.getsockname()[1])


def run_two(*command, out, **limits):
    """Run two processes of one training; return their exit codes and their output."""
    environment = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port(), 'NODE_RANK': '0',
                   'WORLD_SIZE': '2'}
    ranks = [TrainingProcess('pretrain', *command, '--devices', 2, out=out, **limits,
                             environment={**environment, 'LOCAL_RANK': str(rank)})
             for rank in (0, 1)]
    return [rank.wait(120) for rank in ranks], ranks[0].output()


@pytest.fixture
def one_step(shared):
    """A configuration of a single step on pairs from given weights."""
    torch.manual_seed(0)
    model, start = build_reconstruction(get_size('nano')), shared / 'start.safetensors'
    torch.nn.init.normal_(model.backbone.hidden_token)  # at 0 its gradient hides all others
    save_checkpoint(start, model.state_dict(), get_size('nano'), half=False, kind=RECONSTRUCTION)
    return write_config(
        shared / 'one.yaml', start=str(start),
        loop={'steps': 1, 'warmup_steps': 0, 'cooldown': 0.0},
        stream={'data': [{'path': str(shared / 'pairs')}], 'world': 0.0})


def test_two_processes_step_along_the_mean_of_their_gradients(one_step, tmp_path):
    config = load_config(PretrainConfig, one_step)
    losses, gradients = make_losses(config), []
    for rank in (0, 1):
        model, _ = load_reconstruction(config.start)
        model.train()
        batch = MaskedStream(PairStream(config.stream, config.seed, rank=rank),
                             config.mask_ratios)[0]
        sum(losses(model, batch).values()).backward()
        gradients.append([p.grad for p in model.parameters()])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.loop.learning_rate,
                                  weight_decay=config.loop.weight_decay)
    for parameter, a, b in zip(model.parameters(), *gradients):
        parameter.grad = (a + b) / 2
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.loop.clip)
    optimizer.step()

    codes, output = run_two('--config', one_step, out=tmp_path / 'run')
    assert codes == [0, 0], output
    state = load_state(tmp_path / 'run')
    moments = [item['exp_avg'] for item in state['optimizer']['state'].values()]
    for (name, parameter), moment in zip(model.named_parameters(), moments, strict=True):
        torch.testing.assert_close(moment, 0.1 * parameter.grad, atol=1e-7, rtol=1e-4)
        # the first step of AdamW is the sign of the gradient, which noise may turn near zero
        clear = parameter.grad.abs() > 1e-6
        torch.testing.assert_close(state['model'][name][clear], parameter[clear],
                                   atol=1e-5, rtol=1e-5)
    one, other, mean = (torch.cat([x.flatten() for x in gradient])
                        for gradient in (*gradients, [p.grad for p in model.parameters()]))
    assert (mean.abs() > 1e-6).float().mean() > 0.8
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) < 0.9
    assert len(read_csv(tmp_path / 'run/validate.csv')) == 1


def test_two_processes_end_together_on_a_full_disk(shared, pretrained, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(pretrained, folder)
    longer = tmp_path / 'longer.yaml'
    values = yaml.safe_load((pretrained / 'config.yaml').read_text())
    longer.write_text(yaml.safe_dump({**values, 'loop': {**values['loop'], 'steps': 9}}))
    codes, output = run_two('--config', longer, '--cache', shared / 'cache', '--resume',
                            out=folder, largest_file=1_000_000)
    assert codes == [1, 0], output
    assert output.count(f'svp pretrain: cannot write {folder}/last.pt: File too large; the '
                        'previous one is kept\n') == 1
    assert 'Traceback' not in output


def test_an_unreadable_image_of_one_process_ends_both(one_step, tmp_path):
    config = load_config(PretrainConfig, one_step)
    pairs = tmp_path / 'pairs'
    stream = replace(config.stream, batch=1, data=(DataSource(str(pairs)),))

    def fails(rank):
        try:
            PairStream(stream, config.seed, rank=rank)[0]
        except ValueError:
            return True
        return False

    for index in range(6):  # one that the second process reads at once, and the first does not
        broken = write_pairs(pairs) / 'left' / f'{index}.png'
        broken.write_bytes(b'no image')
        if fails(1) and not fails(0):
            break
    else:
        pytest.fail('both processes read the same image first')
    values = yaml.safe_load(one_step.read_text())
    values['stream'].update(batch=1, data=[{'path': str(pairs)}])
    path = tmp_path / 'broken.yaml'
    path.write_text(yaml.safe_dump(values))
    codes, output = run_two('--config', path, out=tmp_path / 'run')
    assert codes == [2, 0], output
    assert output.count('svp pretrain: ') == output.count(str(broken)) == 1
    assert 'Traceback' not in output


def test_two_machines_train_as_two_processes_of_one(one_step, tmp_path):
    port, nodes = free_port(), []
    for rank in (0, 1):
        with open(tmp_path / f'{rank}.log', 'w') as log:
            nodes.append(subprocess.Popen(
                [sys.executable, '-m', 'torch.distributed.run', '--nnodes=2',
                 f'--node_rank={rank}', '--nproc_per_node=1', '--master_addr=127.0.0.1',
                 f'--master_port={port}',
                 '-m', 'svp_ros', 'pretrain', '--nodes', '2', '--devices', '1',
                 '--accelerator', 'cpu', '--workers', '0', '--config', str(one_step),
                 '--out', str(tmp_path / 'run')],
                env={**os.environ, 'OMP_NUM_THREADS': '1'}, stdout=log, stderr=log))
    for rank, node in enumerate(nodes):
        assert node.wait(90) == 0, (tmp_path / f'{rank}.log').read_text()
    assert 'Starting with 2 processes' in (tmp_path / '0.log').read_text()
    assert load_state(tmp_path / 'run')['step'] == 1
    assert len(read_csv(tmp_path / 'run/train.csv')) == 1


def test_without_room_for_the_checkpoint_the_one_before_survives(shared, pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / 'run')
    files = {name: (tmp_path / 'run' / name).read_bytes() for name in (
        'last.pt', 'average.safetensors', 'config.yaml', 'validate.csv')}
    longer = tmp_path / 'longer.yaml'
    values = yaml.safe_load(files['config.yaml'])
    longer.write_text(yaml.safe_dump({**values, 'loop': {**values['loop'], 'steps': 9}}))
    run = start(shared, tmp_path / 'run', '--resume', config=longer, largest_file=1_000_000)
    assert run.wait() == 1
    assert run.output().splitlines()[-1] == (
        f'svp pretrain: cannot write {tmp_path}/run/last.pt: File too large; the previous one is '
        'kept'), run.output()
    assert 'Traceback' not in run.output()
    for name in ('last.pt', 'average.safetensors', 'validate.csv'):
        assert (tmp_path / 'run' / name).read_bytes() == files[name]
    assert not list((tmp_path / 'run').glob('*.tmp'))
    assert load_config(PretrainConfig, tmp_path / 'run/config.yaml').loop.steps == 9


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    if shutil.which('mount') is None or subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', str(folder)],
            capture_output=True).returncode:
        pytest.skip('a small file system cannot be mounted here')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


def test_a_full_disk_costs_nothing_that_was_there(full_disk):
    path = full_disk / 'last.pt'
    replace_file(path, b'before')
    with pytest.raises(OSError, match='^cannot write .*/last.pt: No space left on device; the '
                                      'previous one is kept$'):
        replace_file(path, bytes(500_000))
    assert path.read_bytes() == b'before'
    state = {'weight': torch.zeros(100_000)}
    with pytest.raises(OSError, match='^cannot write .*/average.safetensors: No space left on '
                                      'device$'):
        save_checkpoint(full_disk / 'average.safetensors', state, TINY, half=False)
    assert [file.name for file in full_disk.iterdir()] == ['last.pt']
    world = PairStream(PairStreamConfig(render_height=96, render_width=128), 0, cache=full_disk)
    with pytest.raises(OSError, match='No space left on device$') as caught:
        next(batches(world, 0, 1, workers=1))
    assert '\n' not in str(caught.value)


def test_a_non_finite_loss_names_the_checkpoint_and_keeps_it(shared, pretrained, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(pretrained, folder)
    state = load_state(folder)
    state['model']['reconstruction.images.bias'][0] = float('inf')
    state['step'] = 5
    torch.save(state, folder / 'last.pt')
    before = (folder / 'last.pt').read_bytes()
    run = start(shared, folder, '--resume')
    assert run.wait() == 2
    assert ('at step 6 (colours inf, structure ' in run.output()
            and f'; continue from {folder}/last.pt with --resume and a lower learning_rate than '
            '0.0008\n' in run.output()), run.output()
    assert 'Traceback' not in run.output()
    assert (folder / 'last.pt').read_bytes() == before


def write_bag(path, images='image_raw', infos=()):
    with BagWriter(path, 'mcap') as bag:
        for stamp in (1, 2):
            header = bag_messages.make_header(stamp, 'camera')
            for side, image in zip(('left', 'right'), make_pair(stamp)):
                bag.write(f'/{side}/{images}', stamp, bag_messages.make_image(image, header))
                for info in infos:
                    bag.write(f'/{side}/camera_info', stamp, info)
    return path


def make_uncalibrated_info():
    info, _ = bag_messages.make_camera_infos(
        StereoCamera(50.0, 50.0, W / 2, H / 2, 0.1, W, H), bag_messages.make_header(1, 'camera'))
    info.k[:], info.p[:] = 0, 0
    return info


def test_unusable_data_is_one_sentence(tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    shutil.copytree(write_pairs(tmp_path / 'good') / 'left', tmp_path / 'one_sided/left')
    write_bag(tmp_path / 'other', images='thermal')
    write_bag(tmp_path / 'blind')
    write_bag(tmp_path / 'raw', infos=[make_uncalibrated_info()])
    unequal = write_pairs(tmp_path / 'unequal')
    for path in (unequal / 'right').iterdir():
        write_image(path, make_pair(0)[0][:-1])

    def complaint(path, **source):
        config = write_config(tmp_path / 'data.yaml', stream={
            'data': [{'path': str(tmp_path / path), **source}], 'world': 0.0})
        assert run_cli('--config', config, out=tmp_path / 'run') == 2
        *progress, line = capsys.readouterr().err.splitlines()
        assert not any('Traceback' in text for text in progress)
        assert not (tmp_path / 'run/last.pt').exists()
        return line.removeprefix('svp pretrain: ').replace(str(tmp_path), '')

    assert complaint('nothing') == 'no folder /nothing'
    assert complaint('empty').startswith('no stereo pairs below /empty; expected <sequence>/left')
    assert complaint('one_sided').startswith('/one_sided has 6 left images but no right ones; ')
    assert complaint('other', left='/cam0', right='/cam1') == (
        '/other has no topic /cam0; it has /left/thermal, /right/thermal')
    assert complaint('blind') == (
        '/blind has no calibration for /left/image_raw: no camera_info lies beside it; record '
        'that topic too, or name it. CameraInfo topics: none')
    assert complaint('raw').startswith('/raw: left/camera_info: ')
    assert complaint('unequal').endswith('must be of one size, got 96x64 and 96x63; rectify the '
                                         'pair')
    assert complaint('good', held_out=['b']) == 'no sequence b to hold out; there are good'


def test_weights_of_another_size_are_refused(pretrained, tmp_path, capsys):
    own = yaml.safe_load((pretrained / 'config.yaml').read_text())
    other = tmp_path / 'other.yaml'
    other.write_text(yaml.safe_dump({**own, 'size': 'small'}))
    assert run_cli('--config', other, '--resume', out=pretrained) == 2
    assert f'{pretrained}: size was nano, now small; a resumed run' in capsys.readouterr().err
    start = str(pretrained / 'average.safetensors')
    other.write_text(yaml.safe_dump({**own, 'size': 'small', 'start': start}))
    assert run_cli('--config', other, out=tmp_path / 'run') == 2
    assert f'svp pretrain: {start} is a network of another size' in capsys.readouterr().err
    assert run_cli('--config', other, out=pretrained) == 2
    assert 'already holds a run; add --resume' in capsys.readouterr().err


def test_mask_ratios_of_training():
    assert PretrainConfig().mask_ratios == (0.4, 0.9)
    assert PretrainConfig(mask_ratio=0.3).mask_ratios == (0.3, 0.3)
    assert PretrainConfig(least_mask_ratio=0.9).mask_ratios == (0.9, 0.9)


@pytest.mark.parametrize('change, message', [
    ({'mode': 'mono'}, 'mode must be stereo or left_only, got mono'),
    ({'mask_ratio': 1.0}, 'mask_ratio 1.0 hides 192 of the 192 patches of a 256x192 image; at '),
    ({'mask_ratio': 0.1, 'stream': {'height': 32, 'width': 32}},
     'mask_ratio 0.1 hides 0 of the 4 patches of a 32x32 image; at least one has to be hidden'),
    ({'mask_ratio': 0.5, 'least_mask_ratio': 0.6}, 'least_mask_ratio 0.6 must not be above mask'),
    ({'colours': 0.0, 'structure': 0.0}, 'none negative, one positive; got 0.0 and 0.0'),
    ({'validation_pairs': 1}, 'validation_pairs must be at least 2, got 1'),
    ({'stream': {'dato': []}}, 'stream: unknown key "dato"; known keys are height, width, batch')])
def test_wrong_settings_are_refused(tmp_path, capsys, change, message):
    (tmp_path / 'wrong.yaml').write_text(yaml.safe_dump(change))
    assert run_cli('--config', tmp_path / 'wrong.yaml', out=tmp_path / 'run') == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('arguments, message', [
    ('--resume --mode left_only', '--resume without --config keeps the settings of the run; leave '
                                  'out --mode'),
    ('--resume --data a --held-out b', 'settings of the run; leave out --data and --held-out'),
    ('--held-out b', 'sequences of --data can be held out, and there is none; leave out --held-o'),
    ('--left /left', 'no --data is a recording; leave out --left'),
    ('--data x --tolerance 1 --right-info y', 'leave out --right-info and --tolerance'),
    ('--jobs 2', 'only --experiment proof needs labels and runs several trainings; leave out --j'),
    ('--labelled a', 'runs several trainings; leave out --labelled'),
    ('--experiment proof --mode stereo --resume', 'leave out --mode and --resume'),
    ('--experiment proof --nodes 2', 'when it is started again; leave out --workers and --nodes'),
    ('--experiment throughput --devices 2 --data a', 'of one process; leave out --devices')])
def test_options_that_would_be_ignored_are_refused(tmp_path, capsys, arguments, message):
    assert run_cli(*arguments.split(), out=tmp_path / 'run') == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert not (tmp_path / 'run').exists()


def test_every_source_holds_out_the_sequences_that_it_has(tmp_path):
    for path in ('one/a', 'one/b', 'two/b', 'two/c', 'two/d'):
        write_pairs(tmp_path / path, 1)
    data = [str(tmp_path / name) for name in ('one', 'two')]

    def sources(*held_out):
        parser = ArgumentParser()
        add_source_options(parser)
        arguments = parser.parse_args([word for path in data for word in ('--data', path)])
        arguments.held_out = list(held_out)
        return sources_of(parser, arguments)
    found = sources('b', 'c')
    assert [source.path for source in found] == data
    assert [source.held_out for source in found] == [('b',), ('b', 'c')]
    stream = PairStream(PairStreamConfig(H, W, 2, tuple(found), world=0.0), 0)
    assert [pair.sequence for pair in stream.validation] == ['b', 'b', 'c']
    assert [[pair.sequence for pair in part] for part in stream.training] == [['a'], ['d']]
    with pytest.raises(ValueError, match='^no sequence e, f to hold out; there are a, b, c, d$'):
        sources('f', 'b', 'e')
    write_bag(tmp_path / 'drive')
    data.append(str(tmp_path / 'drive'))
    assert sources('c')[2].held_out == ()
