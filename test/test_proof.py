from dataclasses import replace
import hashlib
import json
import subprocess

import cv2
import numpy as np
import pytest
import yaml

from svp_ros.cli import main as cli_main
from svp_ros.config import load_config, make_config
from svp_ros.data.formats import write_image, write_pfm
from svp_ros.data.pair_stream import DataSource
from svp_ros.eval.pretraining_report import read_columns
from svp_ros.eval.proof_report import read_curves
from svp_ros.train.pretrain import main
from svp_ros.train.proof import summarise
from svp_ros.train.proof_runs import (
    check_settings,
    finetuning_runs,
    is_finished,
    pretraining_runs,
    ProofConfig,
    run_all,
)
from svp_ros.train.runs import to_yaml

H, W, DISPARITY = 64, 96, 6
TINY_STREAM = {'height': H, 'width': W, 'render_height': H, 'render_width': W, 'batch': 1}
TINY = {
    'pretrain': {
        'size': 'nano', 'precision': '32-true', 'validation_pairs': 2,
        'stream': {**TINY_STREAM, 'stored_pairs': 4, 'world_config': {'street': 0.0}},
        'loop': {'steps': 2, 'validate_every': 1, 'log_every': 1}},
    'finetune': {
        'size': 'nano', 'precision': '32-true', 'validation_pairs': 4,
        'stream': {**TINY_STREAM, 'world': {'room': 0.0, 'clutter': 0.0, 'table': 0.0}},
        'loop': {'steps': 4, 'validate_every': 4, 'log_every': 4}},
    'budgets': [4], 'seeds': [0]}


def make_pair(seed):
    noise = np.random.default_rng(seed).uniform(0, 1, (H, W + DISPARITY, 3))
    wide = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    wide = wide.astype(np.uint8)
    return wide[:, :W], wide[:, DISPARITY:]


@pytest.fixture
def drives(tmp_path):
    """Two sequences; the second image of the first one is a labelled scene as well."""
    for sequence, seeds in (('first', range(6)), ('second', (6, 7))):
        for seed in seeds:
            for eye, image in zip(('left', 'right'), make_pair(seed)):
                folder = tmp_path / 'drives' / sequence / eye
                folder.mkdir(parents=True, exist_ok=True)
                write_image(folder / f'{seed}.png', image)
    scene = tmp_path / 'labelled' / 'scene'
    scene.mkdir(parents=True)
    for eye, image in zip(('left', 'right'), make_pair(1)):
        write_image(scene / f'{eye}.png', image)
    write_pfm(scene / 'disp.pfm', np.full((H, W), DISPARITY, np.float32))
    return tmp_path / 'drives'


def test_both_modes_differ_in_nothing_else():
    config = make_config(ProofConfig, TINY)
    config = replace(config, pretrain=replace(config.pretrain, stream=replace(
        config.pretrain.stream, data=(DataSource('drive'),))))
    runs = pretraining_runs(config)
    assert set(runs) == {'world_stereo', 'world_left_only', 'real_stereo', 'real_left_only'}
    for source in ('world', 'real'):
        assert replace(runs[f'{source}_stereo'], mode='left_only') == runs[f'{source}_left_only']
    assert runs['world_stereo'].stream.data == () and runs['real_stereo'].stream.world == 0


def test_fine_tunings_differ_in_start_budget_and_seed_only(tmp_path):
    loop = {**TINY['finetune']['loop'], 'steps': 8}
    config = make_config(ProofConfig, {**TINY, 'finetune': {**TINY['finetune'], 'loop': loop},
                                       'budgets': [4, 8], 'seeds': [0, 1]})
    runs = finetuning_runs(config, tmp_path)
    assert len(runs) == 3 * 2 * 2
    assert {run.stream.pairs for run in runs.values()} == {4, 8}
    same = {replace(run, start=None, seed=0, stream=replace(run.stream, pairs=4))
            for run in runs.values()}
    assert same == {replace(config.finetune, stream=replace(config.finetune.stream, pairs=4))}
    for (_, budget, seed), run in runs.items():
        assert (budget, seed) == (run.stream.pairs, run.seed)
    assert runs['none', 4, 0].start is None
    assert runs['left_only', 4, 0].start == str(
        tmp_path / 'world_left_only' / 'average.safetensors')


def test_the_whole_proof_runs_and_what_is_finished_is_not_done_again(drives, tmp_path, capsys,
                                                                     monkeypatch):
    out, path = tmp_path / 'proof', tmp_path / 'tiny.yaml'
    source = {'path': str(drives), 'tail': 0.2, 'held_out': ['second']}
    stream = {**TINY['pretrain']['stream'], 'data': [source]}
    path.write_text(yaml.safe_dump({**TINY, 'pretrain': {**TINY['pretrain'], 'stream': stream}}))
    command = ['pretrain', '--experiment', 'proof', '--config', str(path), '--out', str(out),
               '--labelled', str(tmp_path / 'labelled'), '--accelerator', 'cpu', '--jobs', '2']
    assert cli_main(command) == 0
    result = json.loads((out / 'proof.json').read_text())
    assert result['command'].startswith('svp pretrain --experiment proof')
    assert result['left_out'] == ['first/1']

    # what the runs themselves measured on the same pairs with the same weights
    own = {name: read_columns(out / name / 'validate.csv') for name in result['reconstruction']}
    assert set(own) == {'world_stereo', 'world_left_only', 'real_stereo', 'real_left_only'}
    found = result['reconstruction']
    for mode in ('stereo', 'left_only'):
        for error in ('colours', 'structure', 'other_colours'):
            assert found[f'world_{mode}']['world'][error] == pytest.approx(
                own[f'world_{mode}'][f'world_{error}'][-1], rel=0.01)
    ratio = (own['world_stereo']['world_colours'][-1]
             / own['world_left_only']['world_colours'][-1])
    assert result['ratio']['world']['world']['colours'] == pytest.approx(ratio, rel=0.01)
    # one pair of the first drive and two of the second one validate together in the runs
    tail, sequence = (found['real_stereo'][name]['structure']
                      for name in ('real_tail', 'real_sequence'))
    assert min(tail, sequence) <= own['real_stereo']['data_structure'][-1] <= max(tail, sequence)
    assert result['depth']['world']['world_stereo']['epe'] == pytest.approx(
        own['world_stereo']['world_epe'][-1], rel=0.01)
    assert set(result['depth']) == {'world', 'new_kind', 'real_labelled'}
    for scores in result['depth'].values():
        assert set(scores) == {'constant', 'untrained', 'world_stereo', 'real_stereo'}
    assert result['depth']['real_labelled']['constant']['epe'] == 0  # all is at one depth
    # a single pair has no other scene
    assert 'other_colours' in found['real_stereo']['real_sequence']
    assert 'other_colours' not in found['real_stereo']['real_labelled']
    for row in result['finetuning']:
        log = read_columns(out / f'finetune_{row["start"]}_4_0' / 'validate.csv')
        assert (row['budget'], row['seed']) == (4, 0)
        assert (row['epe'], row['bad_3']) == (log['epe'][-1], log['bad_3'][-1])
        assert row['curve'] == {name: log[name] for name in ('step', 'epe', 'bad_3')}
    epe = {row['start']: row['epe'] for row in result['finetuning']}
    assert set(epe) == {'stereo', 'left_only', 'none'}
    for other in ('left_only', 'none'):
        gain = result['gain']['4'][f'epe_of_stereo_against_{other}']
        assert epe['stereo'] == pytest.approx((1 - gain) * epe[other])

    assert set(result['minutes']) == {path.parent.name for path in out.glob('*/train.csv')}
    steps = read_columns(out / 'real_stereo' / 'train.csv')
    assert result['minutes']['real_stereo'] == pytest.approx(
        sum(step_s * n for step_s, n in zip(steps['step_s'], np.diff([0, *steps['step']]))) / 60)

    assert summarise(result) in capsys.readouterr().out
    page = (out / 'report.html').read_text()
    assert '1 pairs on disk were left out' in page and 'real, another sequence' in page
    for name in ('loss_world', 'loss_real', 'reconstruction_world', 'reconstruction_real',
                 'attention_world', 'attention_real_labelled', 'finetune_epe', 'finetune_steps'):
        assert (out / f'{name}.png').stat().st_size > 1000, name
    curves = (out / 'curves.csv').read_text()
    assert 'world_left_only,2,world,colours,' in curves and 'real_stereo,1,data,' in curves

    # a stale folder is no part of it
    (out / 'old_stereo').mkdir()
    (out / 'old_stereo' / 'validate.csv').write_text('step,world_colours\n1,2\n')
    assert {run for run, _ in read_curves(out, result['reconstruction'])} == set(own)

    # again, nothing is trained; with other settings it is refused
    def states():
        return {path: path.stat().st_mtime_ns for path in out.glob('*/[los]*.*')}
    trained = states()
    monkeypatch.setattr('svp_ros.train.proof.proof_sets', lambda *_: {})
    monkeypatch.setattr('svp_ros.train.proof.measure', lambda *_: {
        key: result[key] for key in ('ratio', 'depth', 'gain')})
    monkeypatch.setattr('svp_ros.train.proof.write_proof', lambda *_: None)
    assert cli_main(command) == 0
    assert len(trained) > 7 * 3 and states() == trained
    capsys.readouterr()
    path.write_text(yaml.safe_dump({**TINY, 'seeds': [0], 'pretrain': {
        **TINY['pretrain'], 'mask_ratio': 0.8}}))
    assert cli_main(command) == 2
    error = capsys.readouterr().err
    assert 'world_stereo holds a run of other settings, mask_ratio 0.9 instead of 0.8; ch' in error
    assert error.count('\n') == 1


@pytest.fixture
def finished(tmp_path):
    """Folder and settings of a fine-tuning that looks finished."""
    start = tmp_path / 'start.safetensors'
    start.write_bytes(b'weights')
    config = make_config(ProofConfig, TINY)
    settings = replace(config.finetune, start=str(start))
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'config.yaml').write_text(yaml.safe_dump(to_yaml(settings)))
    (folder / 'validate.csv').write_text('step,epe\n4,1.5\n')
    (folder / 'start.sha256').write_text(
        hashlib.sha256(b'weights').hexdigest())
    return folder, settings


def test_a_run_is_finished_after_its_last_step_only(finished):
    folder, settings = finished
    assert is_finished(folder, settings)
    (folder / 'validate.csv').write_text('step,epe\n3,1.5\n')
    assert not is_finished(folder, settings)
    assert not is_finished(folder.parent / 'nowhere', settings)


def test_a_run_of_other_settings_is_refused(finished):
    folder, settings = finished
    longer = replace(settings, seed=3, loop=replace(settings.loop, steps=5))
    with pytest.raises(ValueError, match='run holds a run of other settings, seed 0 instead of 3; '
                                         'loop.steps 4 instead of 5; choose another --out or'):
        check_settings(folder, longer)
    check_settings(folder, settings)


def test_a_run_from_another_start_is_refused(finished):
    folder, settings = finished
    moved = folder.parent / 'moved.safetensors'
    moved.write_bytes(b'weights')
    assert is_finished(folder, replace(settings, start=str(moved)))
    moved.write_bytes(b'others')
    with pytest.raises(ValueError, match='run holds a run that did not start from what .*moved.sa'
                                         'fetensors is now; remove it to train it again'):
        is_finished(folder, replace(settings, start=str(moved)))
    (folder / 'start.sha256').unlink()
    with pytest.raises(ValueError, match='did not start from what .*start.safetensors is now'):
        run_all({'run': settings}, ['finetune', 'disparity'], folder.parent, 1)


@pytest.mark.parametrize('given, threads', [('3', '3'), (None, None)])
def test_threads_are_shared_unless_the_user_says(given, threads, tmp_path, monkeypatch):
    seen = []

    def note(command, env, **_):
        seen.append(env['OMP_NUM_THREADS'])
        return subprocess.CompletedProcess(command, 0)
    monkeypatch.setattr('svp_ros.train.proof_runs.subprocess.run', note)
    monkeypatch.setattr('svp_ros.train.proof_runs.os.sched_getaffinity', lambda _: range(9))
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    if given:
        monkeypatch.setenv('OMP_NUM_THREADS', given)
    runs = {name: make_config(ProofConfig, TINY).pretrain for name in 'ab'}
    run_all(runs, ['pretrain'], tmp_path, 2)
    assert seen == [threads or '4'] * 2


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_a_gpu_renders_for_the_pre_training_itself(device, tmp_path, monkeypatch):
    options = {}

    def note(runs, command, out, jobs, more):
        options[command[0]] = ' '.join(more)
        if command[0] == 'finetune':
            raise KeyboardInterrupt
    monkeypatch.setattr('svp_ros.train.proof.run_all', note)
    monkeypatch.setattr('svp_ros.train.proof.choose_device', lambda _: device)
    path = tmp_path / 'tiny.yaml'
    path.write_text(yaml.safe_dump(TINY))
    with pytest.raises(KeyboardInterrupt):
        main(['--experiment', 'proof', '--config', str(path), '--out', str(tmp_path / 'proof')])
    assert ('--cache' in options['pretrain']) == (device == 'cpu')
    assert f'--cache {tmp_path / "proof" / "cache"}' in options['finetune']


def test_a_run_that_fails_is_named(tmp_path):
    runs = {'broken': make_config(ProofConfig, TINY).pretrain}
    with pytest.raises(ChildProcessError, match='/broken ended with 2: svp.*nonsense'):
        run_all(runs, ['nonsense'], tmp_path, 1)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match='one size, got nano and small'):
        make_config(ProofConfig, {'finetune': {'size': 'small'}})
    with pytest.raises(ValueError, match='at least one'):
        make_config(ProofConfig, {'budgets': []})
    with pytest.raises(ValueError, match='kinds of scene, but room, clutter is in both worlds'):
        make_config(ProofConfig, {
            'pretrain': {'stream': {'world_config': {'table': 0}}},
            'finetune': {'stream': {'world': {'street': 0}}}})
    for budget in (3, 5):  # a store is rendered in fours; four steps of one pair use four
        with pytest.raises(ValueError, match='budgets must lie between 4 and 4, the pairs that 4 '
                                             f'steps of finetune use, got {budget}'):
            make_config(ProofConfig, {**TINY, 'budgets': [4, budget]})
    ProofConfig()


def test_the_shipped_proofs_are_valid():
    for name in ('proof', 'proof_quick', 'proof_gpu'):
        config = load_config(ProofConfig, f'config/train/{name}.yaml')
        trained, new = config.pretrain.stream.world_config, config.finetune.stream.world
        assert trained.clutter == 0 < new.clutter  # fine-tuning is on a kind that was not seen
