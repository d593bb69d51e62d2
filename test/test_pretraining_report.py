import base64
from dataclasses import replace
from html.parser import HTMLParser
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
import yaml

from svp_ros.cli import main as cli_main
from svp_ros.data.formats import read_image, write_image, write_pfm
from svp_ros.data.labelled import find_scenes
from svp_ros.data.pairs import find_pairs
from svp_ros.eval.plots import plot_curves
from svp_ros.eval.pretraining_pictures import (
    attention_figure,
    attention_picture,
    AttentionReader,
    disparity_rows,
    look_along_rows,
    reconstruction_rows,
)
from svp_ros.eval.pretraining_report import baselines, read_run, untrained_network
from svp_ros.eval.reconstruction import (
    fixed_mask,
    FixedPairs,
    labelled_pairs,
    pairs_on_disk,
    read_disparity,
    score_reconstruction,
    spread_indices,
)
from svp_ros.model.build import build_reconstruction, NetworkConfig
from svp_ros.model.matching import spread_over_columns
from svp_ros.pictures import stack_pictures
from svp_ros.train.pretrain import main
from svp_ros.train.throughput import STARTING_STEPS

H, W = 64, 128
SHIFT = 10
TINY = NetworkConfig(channels=(8, 8, 16, 32), blocks=(0, 0, 0, 0), heads=2, encoder_depth=1,
                     attention_depth=1, decoder_depth=1, cost_channels=16, match_groups=2,
                     refine_channels=16, max_disparity=64)
FAST = {
    'size': 'nano', 'precision': '32-true', 'validation_pairs': 2,
    'stream': {'height': H, 'width': W, 'render_height': H, 'render_width': W, 'batch': 1,
               'stored_pairs': 8},
    'loop': {'steps': 4, 'validate_every': 2, 'log_every': 1}}


@pytest.fixture(scope='module')
def pairs():
    """Three textured planes at a disparity of SHIFT; that of the last row is unknown."""
    noise = np.random.default_rng(0).uniform(0, 1, (3, H, W + SHIFT, 3))
    wide = np.stack([cv2.normalize(cv2.GaussianBlur(x, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
                     for x in noise])
    wide = torch.from_numpy(wide).byte().permute(0, 3, 1, 2)
    disparity = torch.full((3, 1, H, W), float(SHIFT))
    disparity[..., -1, :] = float('inf')
    return FixedPairs(wide[..., :W], wide[..., SHIFT:], disparity)


@pytest.fixture(scope='module')
def model(pairs):
    return untrained_network(pairs, TINY)


@pytest.fixture(scope='module')
def folder_of_pairs(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp('pairs')
    for index in range(6):
        for eye, images in (('left', pairs.left), ('right', pairs.right)):
            (folder / eye).mkdir(exist_ok=True)
            write_image(folder / eye / f'{index}.png',
                        images[index % 3].permute(1, 2, 0).numpy())
    return folder


def write_config(folder, **changes):
    path = folder / 'fast.yaml'
    path.write_text(yaml.safe_dump({**FAST, **changes}))
    return path


def pretrain(folder, **changes):
    run = folder / 'run'
    assert main(['--config', str(write_config(folder, **changes)), '--out', str(run),
                 '--accelerator', 'cpu', '--workers', '0']) == 0
    return run


def without_world(folder):
    return {**FAST['stream'], 'world': 0, 'data': [{'path': str(folder), 'tail': 0.4}]}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return pretrain(tmp_path_factory.mktemp('world'))


class Page(HTMLParser):
    """Text, tables as lists of rows, and pictures of a report."""

    def __init__(self, path):
        super().__init__()
        self.text, self.tables, self.pictures = '', {}, []
        self._tag = self._caption = ''
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self._tag = tag
        if tag == 'table':
            self._rows, self._caption = [], ''
        elif tag == 'tr':
            self._rows.append([])
        elif tag in ('th', 'td'):
            self._rows[-1].append('')
        elif tag == 'img':
            kind, content = dict(attributes)['src'].split(',')
            assert kind == 'data:image/png;base64'
            self.pictures.append(base64.b64decode(content))

    def handle_endtag(self, tag):
        self._tag = ''
        if tag == 'table':
            self.tables[self._caption] = self._rows

    def handle_data(self, data):
        self.text += data
        if self._tag == 'caption':
            self._caption = data
        elif self._tag in ('th', 'td'):
            self._rows[-1][-1] += data


def is_blank(picture):
    return np.ptp(picture) < 100


def test_the_report_says_what_the_run_folder_says(run, capsys):
    assert main(['--show', str(run), '--accelerator', 'cpu']) == 0
    assert capsys.readouterr().out.strip() == str(run / 'report.html')
    page = Page(run / 'report.html')
    last = read_run(run).validate
    assert last['step'] == [2, 4]
    errors = page.tables['Error of hidden pixels, 2 pairs of the procedural world']
    own, other = last['world_structure'][-1], last['world_other_structure'][-1]
    assert [row[1] for row in errors] == ['structure', f'{own:.3f}', f'{other:.3f}',
                                          f'{own / other:.2f}']
    disparity = page.tables['Disparity without labels, pairs of the procedural world']
    assert [row[0] for row in disparity] == [
        '', 'this network', 'an untrained one', 'median of all disparities']
    assert disparity[1][1:] == [f'{last["world_epe"][-1]:.2f} px',
                                f'{last["world_bad_3"][-1]:.1f} %']
    settings = dict(page.tables[''])
    assert settings['batch'] == '1 pairs per process' and settings['commit']
    assert 'no known disparity' not in page.text
    names = ('world_structure', 'world_colours', 'world_epe', 'world_reconstructions',
             'world_disparity', 'world_attention')
    assert page.pictures == [(run / f'{name}.png').read_bytes() for name in names]
    assert not any(is_blank(read_image(run / f'{name}.png')) for name in names)


def test_a_run_without_truth_says_so(folder_of_pairs, tmp_path):
    run = pretrain(tmp_path, stream=without_world(folder_of_pairs))
    assert main(['--show', str(run), '--accelerator', 'cpu']) == 0
    page = Page(run / 'report.html')
    assert list(page.tables) == ['Error of hidden pixels, 2 pairs on disk', '']
    assert 'no known disparity' in page.text
    assert page.text.count('there is no true disparity') == 2
    assert len(page.pictures) == 5


def test_a_left_only_run_has_no_disparity(folder_of_pairs, tmp_path):
    run = pretrain(tmp_path, mode='left_only', stream=without_world(folder_of_pairs))
    assert main(['--show', str(run), '--accelerator', 'cpu']) == 0
    page = Page(run / 'report.html')
    assert 'the right features are zero' in page.text
    assert 'has no disparity to read' in page.text
    assert len(page.tables) == 2 and len(page.pictures) == 3


def test_what_is_no_run_is_one_sentence(run, tmp_path, capsys):
    def complain(folder):
        assert cli_main(['pretrain', '--show', str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.count('\n') == 1
        return error

    assert 'is no run of svp pretrain: it has no config.yaml' in complain(tmp_path)
    (tmp_path / 'config.yaml').write_text('stream: {pairs: 6000}\n')
    assert 'is no run of svp pretrain: ' in complain(tmp_path)
    shutil.copy(run / 'config.yaml', tmp_path)
    assert 'has not validated yet; it does so every 2 steps' in complain(tmp_path)
    (tmp_path / 'validate.csv').write_text('step,world_structure\n')
    assert 'has not validated yet' in complain(tmp_path)
    with pytest.raises(SystemExit):
        main(['--show', str(run), '--out', str(run)])
    assert 'not allowed with' in capsys.readouterr().err


def test_reconstructions_show_masks_and_keep_what_is_visible(model, pairs):
    picture = reconstruction_rows({'stereo': (model, False), 'left only': (model, True)}, pairs,
                                  [2, 0], 0.9)
    assert picture.shape == (20 + 2 * (2 * H + 4), 5 * (2 * W + 4), 3)

    def cell(row, column):
        y, x = 22 + row * (2 * H + 4), 2 + column * (2 * W + 4)
        return picture[y:y + 2 * H:2, x:x + 2 * W:2].astype(int)  # shown twice as large

    for row, index in enumerate((2, 0)):
        left = pairs.left[index].permute(1, 2, 0).numpy()
        hidden = fixed_mask(index, H, W, 0.9)[0].repeat_interleave(16, 0).repeat_interleave(16, 1)
        hidden = hidden.numpy()
        assert np.all(cell(row, 0)[hidden] == 128)
        for column in (0, 2, 3, 4):
            assert np.array_equal(cell(row, column)[~hidden], left[~hidden])
        assert np.array_equal(cell(row, 4), left)
        assert np.abs(cell(row, 2)[hidden] - left[hidden]).mean() > 10
        assert not np.array_equal(cell(row, 2), cell(row, 3))


def test_disparity_rows_with_and_without_truth(model, pairs):
    picture = disparity_rows(model, pairs, [0, 1])
    assert picture.shape[1] == 4 * 260 and not is_blank(picture)
    truth = picture[22:22 + 2 * H:2, 262:262 + 2 * W:2]
    assert np.all(truth[-1] == 0) and np.all(truth[:-1].any(-1)), 'black where it is unknown'
    error = picture[22:22 + 2 * H:2, 782:782 + 2 * W:2]
    assert np.all(error[-1] == 90), 'grey where it is unknown'
    assert disparity_rows(model, replace(pairs, disparity=None), [0]).shape[1] == 3 * 260


def test_levels_become_columns_of_the_right_image():
    probability = torch.zeros(1, 4, 1, 6)
    probability[:, 2] = 1  # x_right = x_left - 2
    spread = spread_over_columns(probability)[0, 0]
    assert spread.shape == (6, 6)
    assert spread.nonzero().tolist() == [[x, max(x - 2, 0)] for x in range(6)]


def test_attention_is_what_the_layer_applies(model, pairs):
    layer = model.backbone.disparity_attention[-1]
    seen = {}
    handles = [layer.register_forward_pre_hook(lambda _, x: seen.update(right=x[1])),
               layer.project.register_forward_pre_hook(lambda _, x: seen.update(mixed=x[0]))]
    left, right = (images[:1].float() / 255 for images in (pairs.left, pairs.right))
    with torch.inference_mode(), AttentionReader(model) as reader:
        model.backbone(left, right)
        value = layer.key_value(layer.norm_right(seen['right'])).unflatten(-1, (2, 2, -1))[..., 1,
                                                                                        :, :]
        mixed = torch.einsum('byhij,byjhc->byihc', reader.attention, value).flatten(-2)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(mixed, seen['mixed'])
    reader.attention = None
    model.backbone(left, right)
    assert reader.attention is None, 'still reading after the end'


def test_the_line_of_the_truth_lies_at_the_shift(model, pairs):
    looks = look_along_rows(model, pairs, 0, rows=2)
    assert [look.y for look in looks] == [16, 48]
    assert looks[0].matching.shape == (W // 8, W // 8)
    assert looks[0].attention.shape == (W // 16, W // 16)
    for level in (looks[0].matching, looks[0].attention):
        np.testing.assert_allclose(level.sum(0), 1, atol=1e-5)
    left, right = (images[0].permute(1, 2, 0).numpy() for images in (pairs.left, pairs.right))
    panels = attention_figure(left, right, looks).subfigs[1].axes
    assert len(panels) == 4
    for axes in panels:
        assert axes.images[0].get_extent() == [0, W, 0, W]
        line = next(line for line in axes.lines if line.get_label() == 'truth')
        x_left, x_right = line.get_data()
        np.testing.assert_allclose(x_left - x_right, SHIFT)
        assert (x_left.min(), x_left.max()) == (SHIFT + 0.5, W - 0.5)


def test_attention_pictures(model, pairs):
    picture = attention_picture(model, pairs, 1)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and not is_blank(picture)
    unknown = look_along_rows(model, replace(pairs, disparity=None), 1)
    assert all(look.disparity is None for look in unknown)
    assert not np.array_equal(attention_picture(model, replace(pairs, disparity=None), 1), picture)


def test_baselines_know_nothing(pairs):
    mixed = pairs.disparity.clone()
    mixed[0, :, :H // 2] = SHIFT + 4  # of 3 * 63 known rows, 32 are 4 px away from the median
    scores = baselines(replace(pairs, disparity=mixed), TINY)
    assert scores['constant']['epe'] == pytest.approx(4 * 32 / 189)
    assert scores['constant']['bad_3'] == pytest.approx(100 * 32 / 189)
    state = torch.get_rng_state()
    again = baselines(replace(pairs, disparity=mixed), TINY)
    assert again == scores and torch.equal(torch.get_rng_state(), state)
    assert baselines(pairs, TINY, seed=1)['untrained'] != scores['untrained']


def test_an_untrained_network_normalises_its_features(model, pairs):
    def spread(model):
        layer, seen = model.head.matching.match8[0][1], []
        assert isinstance(layer, torch.nn.BatchNorm2d) and not model.training
        handle = layer.register_forward_hook(lambda *x: seen.append(x[2].clone()))
        with torch.inference_mode():
            read_disparity(model, *(x.float() / 255 for x in (pairs.left, pairs.right)))
        handle.remove()
        return torch.cat(seen).std(dim=(0, 2, 3)).mean().item()

    assert 0.7 < spread(model) < 1.4
    assert spread(build_reconstruction(TINY).eval()) < 0.5


def test_plots(tmp_path):
    curves = {'stereo': ([250, 1000, 4000], [3, 2, 1]), 'none': ([250, 1000, 4000], [5, 3, 1])}
    plot_curves(tmp_path / 'plot.png', curves, 'labelled pairs', 'EPE, px', 'Fine-tuning', True,
                {'stereo': ([250, 1000, 4000], [2, 1, 0.5], [4, 3, 2])}, {'constant': 6})
    picture = read_image(tmp_path / 'plot.png')
    assert picture.shape == (800, 1400, 3)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert np.all(picture == colour, axis=2).sum() > 500
    with pytest.raises(ValueError, match='curve "a" has 2 x but 1 y'):
        plot_curves(tmp_path / 'plot.png', {'a': ([1, 2], [1])}, '', '', '')
    with pytest.raises(ValueError, match='band "b" belongs to no curve; there are a'):
        plot_curves(tmp_path / 'plot.png', {'a': ([1], [1])}, '', '', '',
                    bands={'b': ([1], [1], [1])})


def test_stacked_pictures_need_full_rows():
    with pytest.raises(ValueError, match='2 titles need rows of as many pictures, got rows of 1'):
        stack_pictures(['a', 'b'], [[np.zeros((4, 6, 3), np.uint8)]])
    assert spread_indices(20, 4) == [0, 5, 10, 15] and spread_indices(2, 8) == [0, 1]


def test_labelled_scenes_are_cropped_as_other_pairs(tmp_path):
    wide = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (2 * H, 600, 3)), (0, 0), 3)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    (tmp_path / 'scene').mkdir()
    for eye, image in (('left', wide[:, :500]), ('right', wide[:, 4 * SHIFT:][:, :500])):
        write_image(tmp_path / 'scene' / f'{eye}.png', image)
    truth = np.full((2 * H, 500), 4 * SHIFT, np.float32)
    truth[:2 * H // 4] = np.inf
    write_pfm(tmp_path / 'scene' / 'disp.pfm', truth)

    pairs = labelled_pairs(find_scenes(tmp_path), H, W)
    same = pairs_on_disk(find_pairs(tmp_path), 1, H, W)
    assert torch.equal(pairs.left, same.left) and torch.equal(pairs.right, same.right)
    shift = 2 * SHIFT  # the crop is half as large: 256 of 500 columns become 128
    assert pairs.disparity[0, 0, H // 4:].unique().tolist() == [shift]
    assert pairs.disparity[0, 0, :H // 4].isnan().all()
    left, right = pairs.left[..., shift:].float(), pairs.right[..., :-shift].float()
    assert (left - right).abs().mean() < 1


def test_one_pair_has_no_other_scene(model, pairs, folder_of_pairs, tmp_path):
    one = FixedPairs(pairs.left[:1], pairs.right[:1], pairs.disparity[:1])
    assert set(score_reconstruction(model, one, 0.9)) == {'colours', 'structure', 'epe', 'bad_3'}
    stream = without_world(folder_of_pairs)
    stream['data'][0]['tail'] = 0.2  # of six pairs, one
    run = pretrain(tmp_path, stream=stream)
    assert main(['--show', str(run), '--accelerator', 'cpu']) == 0
    errors = Page(run / 'report.html').tables['Error of hidden pixels, 1 pairs on disk']
    assert [row[0] for row in errors] == ['', 'with its right image']


def test_throughput_is_measured_and_written(folder_of_pairs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('svp_ros.train.throughput.STEPS', 5)
    out = tmp_path / 'results' / 'pretrain_throughput.json'
    main(['--experiment', 'throughput', '--config', str(write_config(tmp_path)), '--data',
          str(folder_of_pairs), '--out', str(out), '--accelerator', 'cpu', '--workers', '2'])
    result = json.loads(out.read_text())
    assert result['command'] == (
        'svp pretrain --experiment throughput --config fast.yaml --data '
        f'{folder_of_pairs.name} --out pretrain_throughput.json --accelerator cpu --workers 2')
    assert str(tmp_path) not in out.read_text()
    assert (result['steps'], result['workers'], result['pairs']) == (5, 2, 5)
    assert result['steps_left_out_at_the_start'] == STARTING_STEPS
    for name in ('data_ms', 'step_ms'):
        assert 0 < result[name]['mean'] and 0 < result[name]['p95']
    assert 0 < result['data_share_of_step'] < 1
    assert result['pairs_per_s'] == pytest.approx(1000 / result['step_ms']['mean'])
    assert 'pairs/s' in capsys.readouterr().out
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name]


def test_throughput_needs_pairs_on_disk(tmp_path):
    with pytest.raises(ValueError, match='name a folder with --data'):
        main(['--experiment', 'throughput', '--out', str(tmp_path)])
