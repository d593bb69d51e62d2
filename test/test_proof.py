from dataclasses import replace
import json

import pytest
import yaml

from svp_ros.cli import main
from svp_ros.config import load_config, make_config
from svp_ros.data.pair_stream import DataSource
from svp_ros.train.proof import (
    finetuning_runs,
    pretraining_runs,
    ProofConfig,
    run_all,
    summarise,
)

TINY_STREAM = {'height': 64, 'width': 96, 'render_height': 64, 'render_width': 96, 'batch': 1}
TINY = {
    'pretrain': {
        'size': 'nano', 'precision': '32-true', 'validation_pairs': 4,
        'stream': {**TINY_STREAM, 'stored_pairs': 8, 'world_config': {'street': 0.0}},
        'loop': {'steps': 2, 'validate_every': 1, 'log_every': 1}},
    'finetune': {
        'size': 'nano', 'precision': '32-true', 'validation_pairs': 4,
        'stream': {**TINY_STREAM, 'world': {'room': 0.0, 'clutter': 0.0, 'table': 0.0}},
        'loop': {'steps': 2, 'validate_every': 2, 'log_every': 1}},
    'budgets': [4], 'seeds': [0]}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'tiny.yaml'
    path.write_text(yaml.safe_dump(TINY))
    return path


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
    config = replace(make_config(ProofConfig, TINY), budgets=(4, 8), seeds=(0, 1))
    runs = finetuning_runs(config, tmp_path)
    assert len(runs) == 3 * 2 * 2
    assert {run.stream.pairs for run in runs.values()} == {4, 8}
    same = {replace(run, start=None, seed=0, stream=replace(run.stream, pairs=4))
            for run in runs.values()}
    assert same == {replace(config.finetune, stream=replace(config.finetune.stream, pairs=4))}
    assert runs['finetune_none_4_0'].start is None
    assert runs['finetune_left_only_4_0'].start == str(
        tmp_path / 'world_left_only' / 'average.safetensors')


def test_the_whole_proof_runs_and_what_is_finished_is_not_done_again(config, tmp_path, capsys):
    out = tmp_path / 'proof'
    command = ['pretrain', '--experiment', 'proof', '--config', str(config), '--out', str(out),
               '--accelerator', 'cpu', '--jobs', '2']
    assert main(command) == 0
    result = json.loads((out / 'proof.json').read_text())
    assert result['command'].startswith('svp pretrain --experiment proof')
    for key in ('world', 'new_kind'):
        ratio = result['ratio']['world'][key]['colours']
        both, left = (result['reconstruction'][f'world_{mode}'][key]['colours']
                      for mode in ('stereo', 'left_only'))
        assert ratio == pytest.approx(both / left)
        assert set(result['depth'][key]) == {'constant', 'untrained', 'world_stereo'}
    assert {(row['start'], row['budget']) for row in result['finetuning']} == {
        ('stereo', 4), ('left-only', 4), ('none', 4)}
    assert summarise(result) in capsys.readouterr().out
    for name in ('report.html', 'curves.csv', 'loss_world.png', 'reconstruction_world.png',
                 'attention_world.png', 'finetune_epe.png'):
        assert (out / name).stat().st_size > 1000 or name == 'curves.csv', name
    assert 'world_left_only,2,world,colours,' in (out / 'curves.csv').read_text()

    finished = (out / 'world_stereo' / 'last.pt').stat().st_mtime_ns
    assert main(command) == 0
    assert (out / 'world_stereo' / 'last.pt').stat().st_mtime_ns == finished


def test_a_run_that_fails_is_named(tmp_path):
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'last.pt').write_text('broken')
    runs = {'broken': make_config(ProofConfig, TINY).pretrain}
    with pytest.raises(ChildProcessError, match='broken ended with 2: svp pretrain: nothing to'):
        run_all(runs, ['pretrain'], tmp_path, 1)


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match='one size, got nano and small'):
        make_config(ProofConfig, {'finetune': {'size': 'small'}})
    with pytest.raises(ValueError, match='at least one'):
        make_config(ProofConfig, {'budgets': []})


def test_the_shipped_proofs_are_valid():
    for name in ('proof', 'proof_quick', 'proof_gpu'):
        config = load_config(ProofConfig, f'config/train/{name}.yaml')
        trained, new = config.pretrain.stream.world_config, config.finetune.stream.world
        assert trained.street == 0 < new.street  # fine-tuning is on a kind that was not seen
