"""README tells the truth: its tables name what the code has, its figures are those measured."""

from dataclasses import fields
import json
from pathlib import Path
import re

import pytest

from svp_ros.benchmark.readme import update_readme
from svp_ros.cli import COMMANDS
from svp_ros.ros.outputs import TOPICS
from svp_ros.ros.parameters import NodeSettings

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()
PRETRAINING = (ROOT / 'docs/pretraining.md').read_text()


def test_every_parameter_is_listed_with_its_default():
    rows = dict(re.findall(r'^\| `(\w+)` \| `([^`]*)` \|', README, re.MULTILINE))
    expected = {entry.name: str(entry.default).lower() if isinstance(entry.default, bool)
                else str(list(entry.default)) if isinstance(entry.default, tuple)
                else str(entry.default) for entry in fields(NodeSettings)}
    assert {name: rows.get(name) for name in expected} == expected


def test_every_topic_is_listed():
    missing = [topic for topic in TOPICS if f'`{topic}`' not in README]
    assert missing == []


def test_commands_in_code_blocks_exist():
    used = set(re.findall(r'^    svp ((?:finetune |evaluate )?\w+)', README, re.MULTILINE))
    assert used and used <= set(COMMANDS)


@pytest.mark.parametrize('page', [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))],
                         ids=lambda page: page.name)
def test_linked_files_exist(page):
    links = re.findall(r'\]\(((?!http)[^)#]+)\)', page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def table_rows(heading, text=README):
    section = text.split(heading, 1)[1].split('\n## ', 1)[0]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]]
            for cells in (line.strip('|').split('|') for line in section.splitlines()
                          if line.startswith('|'))}


@pytest.mark.parametrize('size', ['nano', 'small', 'base'])
def test_cost_of_the_sizes_is_what_was_measured(size):
    measured = json.loads((ROOT / 'docs/results/sizes.json').read_text())['sizes'][size]
    cells = table_rows('## The network')[size]
    assert cells[:2] == [f'{measured["parameters_m"]:.1f} M', f'{measured["gflop"]:.1f}']


@pytest.mark.parametrize('kind', ['cpu', 'cuda'])
def test_performance_is_what_was_measured(kind):
    path = ROOT / f'docs/results/benchmark_{kind}.json'
    if path.is_file():
        result = json.loads(path.read_text())
        assert update_readme(README, result, path.relative_to(ROOT).as_posix()) == README
    else:
        assert f'<!-- benchmark {kind} -->\n<!-- end -->' in README


@pytest.mark.parametrize('model', ['nano', 'small'])
def test_accuracy_is_what_was_measured(model):
    report = json.loads((ROOT / f'docs/results/disparity_{model}.json').read_text())
    rows = table_rows('## Accuracy')
    for name, method in ((model, 'model'), ('OpenCV SGBM', 'sgbm')):
        mean = report['mean'][method]
        assert rows[name][:3] == [f'{mean[key]:.2f}' for key in ('epe', 'bad_3', 'd1')]


def test_pretraining_is_worth_what_was_measured():
    proof = json.loads((ROOT / 'docs/results/pretrain_proof.json').read_text())
    rows = table_rows('## What it is worth', PRETRAINING)
    for budget, gain in proof['gain'].items():
        means = []
        for start in ('stereo', 'left_only', 'none'):
            runs = [run for run in proof['finetuning']
                    if (run['start'], run['budget']) == (start, int(budget))]
            epe, bad_3 = (sum(run[name] for run in runs) / len(runs) for name in ('epe', 'bad_3'))
            means.append(f'{epe:.2f} px, {bad_3:.1f} %')
        gains = [f'{100 * gain[f"epe_of_stereo_against_{other}"]:.0f} %, '
                 f'{100 * gain[f"bad_3_of_stereo_against_{other}"]:.0f} %'
                 for other in ('none', 'left_only')]
        assert rows[budget] == [*means, *gains]
    assert rows['24 labelled scenes of real cameras'] == [
        f'{proof["depth"]["real_labelled"][what]["epe"]:.2f} px, '
        f'{proof["depth"]["real_labelled"][what]["bad_3"]:.1f} %'
        for what in ('constant', 'untrained', 'world_stereo', 'real_stereo')]
    ratios = re.findall(r'\| (world|recordings) \| .* \| (0\.\d\d) \| \d', PRETRAINING)
    assert ratios == [('recordings' if source == 'real' else source, f'{ratio["colours"]:.2f}')
                      for source, sets in proof['ratio'].items() for ratio in sets.values()]


def test_labels_of_adaptation_are_as_good_as_measured():
    measured = json.loads((ROOT / 'docs/results/label_quality.json').read_text())['sets']
    rows = table_rows('## How good the labels are', (ROOT / 'docs/adaptation.md').read_text())
    for name, row in measured.items():
        assert rows[name] == [str(row['scenes']), f'{row["coverage"]:.0f} %', *(
            f'{row[what]["epe"]:.2f} px, {row[what]["bad_1"]:.1f} %, {row[what]["bad_3"]:.1f} %'
            for what in ('labels', 'network'))]


def test_adaptation_helps_as_much_as_measured():
    reports = [json.loads((ROOT / f'docs/results/{name}.json').read_text())['sets']
               for name in ('adapt_kitti_before', 'adapt_kitti_labelled')]
    columns = [(reports[0], 'model'), (reports[1], 'model'), (reports[1], 'sgbm')]
    rows = table_rows('## Whether it helps', (ROOT / 'docs/adaptation.md').read_text())
    groups = {name: [name] for name in reports[0]}
    groups['KITTI together'] = [name for name in groups if 'kitti' in name]
    groups['all others together'] = [name for name in reports[0] if 'kitti' not in name]
    for title, names in groups.items():
        count = sum(reports[0][name]['scenes'] for name in names)
        epe, bad_1, bad_3 = ([sum(sets[name]['scenes'] * sets[name]['mean'][who][metric]
                                  for name in names) / count for sets, who in columns]
                             for metric in ('epe', 'bad_1', 'bad_3'))
        assert rows[title] == [str(count), *(f'{a:.2f} px, {b:.1f} %, {c:.1f} %'
                                             for a, b, c in zip(epe, bad_1, bad_3))]
