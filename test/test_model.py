from dataclasses import replace

from conftest import TINY
import numpy as np
import pytest
import torch

from svp_ros.model.build import (
    build_model,
    build_reconstruction,
    load_checkpoint,
    load_reconstruction,
    load_start,
    NetworkConfig,
    read_checkpoint,
    RECONSTRUCTION,
    save_checkpoint,
    SIZES,
)
from svp_ros.model.cross_attention import DisparityAttention, width_attention
from svp_ros.model.heads import spread_evidence, spread_lookups
from svp_ros.model.layers import (
    bilinear_mix,
    convex_upsample,
    enlarge,
    fill_in,
    gather_disparities,
    upsample,
)
from svp_ros.model.matching import (
    continue_outside,
    copy_matches,
    expected_disparity,
    local_correlation,
    mask_outside,
    match_rows,
    row_similarity,
    sample_rows,
)
from svp_ros.predictor import StereoPredictor
from svp_ros.train.losses import disparity_losses


def pair(height=64, width=96, batch=2):
    return torch.rand(batch, 3, height, width), torch.rand(batch, 3, height, width)


def losses(model, left, right):
    disparity = torch.rand(left.shape[0], 1, *left.shape[-2:]) * 20
    occluded = disparity > 18
    terms = disparity_losses(model(left, right), disparity, disparity >= 0, occluded)
    return torch.stack(list(terms.values())).sum()


def test_width_attention_equals_a_loop_over_rows_and_heads():
    torch.manual_seed(0)
    B, h, w, heads, C = 2, 3, 5, 2, 4
    query, key, value = torch.randn(3, B, h, w, heads, C).unbind(0)
    bias = torch.randn(heads, w, w)
    expected = torch.empty_like(query)
    for b in range(B):
        for y in range(h):
            for head in range(heads):
                for x in range(w):
                    logits = torch.stack([query[b, y, x, head] @ key[b, y, j, head] / C ** 0.5
                                          + bias[head, x, j] for j in range(w)])
                    expected[b, y, x, head] = logits.softmax(0) @ value[b, y, :, head]
    torch.testing.assert_close(width_attention(query, key, value, bias), expected)


def test_attention_never_leaves_its_row():
    torch.manual_seed(0)
    layer = DisparityAttention(8, 2)
    left, right = torch.randn(1, 4, 5, 8), torch.randn(1, 4, 5, 8)
    changed = right.clone()
    changed[:, 2] = torch.randn(1, 5, 8)
    difference = (layer(left, right) - layer(left, changed)).abs().amax(dim=(0, 2, 3))
    assert difference[2] > 1e-3
    assert difference[[0, 1, 3]].max() == 0


def test_matches_are_indexed_by_disparity_and_never_negative():
    similarity = torch.arange(12.).view(1, 3, 4)[:, :, :3].contiguous()
    volume = gather_disparities(similarity, 3, fill=-1)
    for x_left in range(3):
        for d in range(3):
            expected = similarity[0, x_left, x_left - d] if d <= x_left else -1
            assert volume[0, x_left, d] == expected


def test_row_matching_finds_a_known_shift():
    torch.manual_seed(0)
    features = torch.randn(1, 8, 3, 20)
    shift = 4
    left, right = features[..., :-shift], features[..., shift:]
    matches = match_rows(left, right, levels=8, groups=2)
    logits = mask_outside(matches.mean(dim=1) * 50)
    disparity = expected_disparity(logits.softmax(dim=1))
    torch.testing.assert_close(disparity[..., shift:], torch.full((1, 1, 3, 12), 4.0),
                               atol=0.05, rtol=0)


def test_rows_go_on_outside_the_right_image_with_what_follows_them():
    disparity = torch.tensor([[5.0, 5.0, 1.0, 4.0, 3.0, 9.0],  # 0 and 1 are outside
                              [0.0, 7.0, 1.0, 1.0, 1.0, 1.0],  # the first is inside
                              [8.0, 8.0, 8.0, 8.0, 8.0, 6.0]])[None, None].requires_grad_()
    continued = continue_outside(disparity)
    assert continued[0, 0].tolist() == [[1, 1, 1, 4, 3, 9], [0, 7, 1, 1, 1, 1], [6] * 6]
    continued.sum().backward()  # what lies outside teaches nothing about what follows
    assert disparity.grad[0, 0].tolist() == [[0, 0, 1, 1, 1, 1], [1] * 6, [0] * 5 + [1]]


def test_expectation_does_not_blur_two_modes():
    probability = torch.zeros(1, 16, 1, 1)
    probability[0, 2], probability[0, 12] = 0.4, 0.6
    assert expected_disparity(probability).item() == pytest.approx(12)


def test_local_correlation_equals_a_loop_and_is_zero_outside():
    torch.manual_seed(0)
    left, right = torch.nn.functional.normalize(torch.randn(2, 1, 6, 2, 9), dim=2).unbind(0)
    disparity = torch.rand(1, 1, 2, 9) * 5
    scores = local_correlation(row_similarity(left, right), disparity, radius=2)
    for y in range(2):
        for x in range(9):
            for k, offset in enumerate(range(-2, 3)):
                position = x - disparity[0, 0, y, x].item() + offset
                low = int(position // 1)
                expected = 0.0
                for column, weight in ((low, 1 - (position - low)), (low + 1, position - low)):
                    if 0 <= column < 9:
                        expected += weight * (left[0, :, y, x] @ right[0, :, y, column]).item()
                assert scores[0, k, y, x].item() == pytest.approx(expected, abs=1e-5)


def test_convex_upsampling_scales_a_constant_map():
    fine = convex_upsample(torch.full((1, 1, 3, 4), 2.5), torch.randn(1, 144, 3, 4))
    torch.testing.assert_close(fine, torch.full((1, 1, 12, 16), 10.0))


def test_a_fresh_mix_enlarges_bilinearly_and_another_one_keeps_edges_sharp():
    torch.manual_seed(0)
    coarse = torch.rand(2, 1, 5, 7)
    logits = bilinear_mix(2)[:, None, None].expand(2, 36, 5, 7)
    torch.testing.assert_close(convex_upsample(coarse, logits, 2), 2 * upsample(coarse),
                               atol=2e-3, rtol=0)
    nearest = torch.zeros(2, 9, 4, 5, 7)
    nearest[:, 4] = 50
    assert convex_upsample(coarse, nearest.flatten(1, 2), 2).unique().numel() == coarse.numel()


def test_copying_along_certain_matches_shifts_exactly():
    torch.manual_seed(0)
    right = torch.randn(2, 3, 4, 9)
    for d in (0, 3):
        probability = torch.zeros(2, 5, 4, 9)
        probability[:, d] = 1
        copied = copy_matches(right, probability)
        assert torch.equal(copied[..., d:], right[..., :9 - d])
        # beyond the border there is nothing but the border
        assert torch.equal(copied[..., :d], right[..., :1].expand(2, 3, 4, d))


def test_copying_along_uncertain_matches_equals_a_loop():
    torch.manual_seed(0)
    right, probability = torch.randn(1, 2, 3, 7), torch.rand(1, 4, 3, 7).softmax(dim=1)
    copied = copy_matches(right, probability)
    for y in range(3):
        for x in range(7):
            expected = sum(probability[0, d, y, x] * right[0, :, y, max(x - d, 0)]
                           for d in range(4))
            torch.testing.assert_close(copied[0, :, y, x], expected)


def test_rows_are_sampled_as_numpy_interpolates():
    torch.manual_seed(0)
    right, disparity = torch.randn(2, 3, 4, 9), torch.rand(2, 1, 4, 9) * 12 - 3
    sampled = sample_rows(right, disparity)
    columns = np.arange(9)
    for b in range(2):
        for c in range(3):
            for y in range(4):
                expected = np.interp(columns - disparity[b, 0, y].numpy(), columns,
                                     right[b, c, y].numpy())
                np.testing.assert_allclose(sampled[b, c, y], expected, atol=1e-5)


def test_one_row_and_one_column_are_sampled_too():
    right = torch.arange(5.).view(1, 1, 1, 5)
    sampled = sample_rows(right, torch.full((1, 1, 1, 5), 1.5))
    assert sampled.flatten().tolist() == [0, 0, 0.5, 1.5, 2.5]
    right = torch.arange(3.).view(1, 1, 3, 1)
    assert torch.equal(sample_rows(right, torch.full((1, 1, 3, 1), 0.5)), right)


def test_copying_and_sampling_leave_bfloat16():
    right = torch.full((1, 2, 3, 9), 1.001)
    with torch.autocast('cpu', torch.bfloat16):
        for copied in (copy_matches(right, torch.full((1, 4, 3, 9), 0.25)),
                       sample_rows(right, torch.ones(1, 1, 3, 9))):
            torch.testing.assert_close(copied, right)


def test_cells_of_a_mask_become_pixels():
    mask = torch.tensor([[[True, False, False], [False, False, True]]])
    expected = np.kron(mask[0].numpy(), np.ones((4, 4), bool))
    assert enlarge(mask, 4).shape == (1, 1, 8, 12)
    assert np.array_equal(enlarge(mask, 4)[0, 0], expected)


@pytest.mark.parametrize('height, width', [(16, 24), (7, 11), (1, 5), (2, 3)])
def test_filling_keeps_the_visible_and_never_asks_the_hidden(height, width):
    torch.manual_seed(0)
    image = torch.randn(2, 3, height, width)
    visible = torch.rand(2, 1, height, width) < 0.3
    visible[..., 0, 0] = True
    filled = fill_in(image, visible)
    everywhere = visible.expand_as(image)
    assert torch.equal(filled[everywhere], image[everywhere])
    assert filled.isfinite().all()
    other = fill_in(torch.where(visible, image, 100 * torch.randn_like(image)), visible)
    torch.testing.assert_close(other, filled)
    low, high = (getattr(image.masked_fill(~visible, limit), name)(dim=(2, 3), keepdim=True)
                 for name, limit in (('amin', torch.inf), ('amax', -torch.inf)))
    assert ((filled >= low - 1e-4) & (filled <= high + 1e-4)).all()


def test_filling_continues_what_is_near():
    image = torch.zeros(1, 1, 16, 32)
    image[..., 16:] = 1
    visible = torch.zeros(1, 1, 16, 32, dtype=torch.bool)
    visible[..., ::16, 3], visible[..., ::16, 28] = True, True
    filled = fill_in(image, visible)
    assert filled[..., :4].max() < 0.2 and filled[..., 28:].min() > 0.8
    constant = fill_in(torch.full((1, 2, 8, 8), 5.0), torch.rand(1, 1, 8, 8) < 0.2)
    torch.testing.assert_close(constant, torch.full((1, 2, 8, 8), 5.0))


def test_an_image_without_anything_visible_is_filled_with_zeros():
    filled = fill_in(torch.randn(1, 3, 8, 12), torch.zeros(1, 1, 8, 12, dtype=torch.bool))
    assert torch.equal(filled, torch.zeros(1, 3, 8, 12))


def test_evidence_spreads_from_visible_cells_into_hidden_ones():
    torch.manual_seed(0)
    inside = torch.arange(5)[:, None, None] <= torch.arange(6)
    matches = torch.randn(1, 2, 5, 4, 6).masked_fill(~inside, -1)
    assert spread_evidence(matches, None) is matches
    patch_mask = torch.zeros(1, 2, 3, dtype=torch.bool)
    patch_mask[0, 0, 1] = True
    spread = spread_evidence(matches, patch_mask)
    hidden = torch.zeros(4, 6, dtype=torch.bool)
    hidden[:2, 2:4] = True
    assert torch.equal(spread[..., ~hidden], matches[..., ~hidden])
    changed = torch.where(hidden & inside, matches + 50, matches)
    torch.testing.assert_close(spread_evidence(changed, patch_mask), spread)
    # groups and levels stay apart
    changed = matches.clone()
    changed[:, 1, 3] += 7
    difference = spread_evidence(changed, patch_mask) - spread
    torch.testing.assert_close(difference[0, 1, 3, :, 3:], torch.full((4, 3), 7.0))
    assert difference.abs().sum(dim=(0, 3, 4)).count_nonzero() == 1


def test_lookups_of_hidden_cells_come_from_visible_ones():
    lookups = torch.randn(1, 9, 4, 6, generator=torch.Generator().manual_seed(0))
    assert spread_lookups(lookups, None) is lookups
    patch_mask = torch.tensor([[[False, True, True], [True, True, True]]])
    spread = spread_lookups(lookups, patch_mask)
    assert torch.equal(spread[..., :2, :2], lookups[..., :2, :2])
    low, high = (f(lookups[..., :2, :2].flatten(2), -1) for f in (torch.amin, torch.amax))
    assert (spread >= low[..., None, None]).all() and (spread <= high[..., None, None]).all()


def test_what_lies_outside_the_right_image_is_no_evidence():
    """Perfect matches at disparity 3: hidden cells get them whole, next to the border too."""
    left = torch.randn(1, 64, 8, 24)
    matches = match_rows(left, left.roll(-3, -1), levels=6)
    patch_mask = torch.rand(1, 4, 12, generator=torch.Generator().manual_seed(3)) < 0.8
    spread = spread_evidence(matches, patch_mask)
    # column 3 is the first that can see its match, cells at 4 and 5 come from it or the right
    torch.testing.assert_close(spread[0, 0, 3, :, 3:], torch.ones(8, 21))
    assert (spread[0, 0, 3, :, :3] == -1).all()


def leave_start(model):
    """Move the weights that begin at zero, because what they multiply learns only then."""
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return model


@pytest.mark.parametrize('size', ['tiny', 'nano'])
def test_every_parameter_gets_a_gradient(size):
    torch.manual_seed(0)
    config = TINY if size == 'tiny' else SIZES[size]
    model = leave_start(build_model(config))
    losses(model, *pair()).backward()
    unused = [name for name, p in model.named_parameters()
              if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert unused == []
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ['backbone.hidden_token']  # pre-training alone hides patches


def test_every_parameter_of_the_reconstruction_gets_a_gradient():
    torch.manual_seed(0)
    model = leave_start(build_reconstruction(TINY))
    left, right = pair()
    patch_mask = torch.rand(2, 4, 6) < 0.9
    output = model(left, right, patch_mask)
    (output.colours.square().mean() + output.structure.square().mean()).backward()
    assert [name for name, p in model.named_parameters()
            if p.grad is None or not p.grad.any()] == []


def test_hidden_patches_do_not_leak_into_the_reconstruction():
    torch.manual_seed(0)
    model = build_reconstruction(TINY).eval()
    left, right = pair(batch=1)
    patch_mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    patch_mask[0, 1, 2] = True
    changed = left.clone()
    changed[:, :, 16:32, 32:48] = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        image = model(left, right, patch_mask).colours
        assert torch.equal(image, model(changed, right, patch_mask).colours)
        assert not torch.equal(image, model(left, right, ~patch_mask).colours)


def test_left_only_ignores_the_right_image_and_stereo_does_not():
    torch.manual_seed(0)
    model = build_reconstruction(TINY).eval()
    left, right = pair(batch=1)
    patch_mask = torch.rand(1, 4, 6) < 0.9
    other = torch.rand_like(right)
    with torch.inference_mode():
        alone = model(left, right, patch_mask, left_only=True).colours
        assert torch.equal(alone, model(left, other, patch_mask, left_only=True).colours)
        assert not torch.allclose(model(left, right, patch_mask).colours,
                                  model(left, other, patch_mask).colours)
    model.train()  # BatchNorm must not tell either
    assert torch.equal(model(left, right, patch_mask, left_only=True).colours,
                       model(left, other, patch_mask, left_only=True).colours)


def test_another_right_image_changes_the_disparity():
    torch.manual_seed(0)
    model = build_model(TINY).eval()
    left, right = pair()
    with torch.inference_mode():
        difference = model(left, right).disparity - model(left, right.flip(0)).disparity
    assert difference.abs().mean() > 1e-3


@pytest.mark.parametrize('height, width', [(32, 32), (64, 160), (96, 128)])
def test_any_multiple_of_32_works(height, width):
    model = build_model(TINY).eval()
    with torch.inference_mode():
        output = model(*pair(height, width, 1))
    assert output.disparity.shape == output.log_scale.shape == (1, 1, height, width)
    assert output.disparity.min() >= 0


@pytest.mark.parametrize('left, right, message', [
    ((1, 3, 64, 90), (1, 3, 64, 90), 'multiples of 32, got 64x90'),
    ((1, 3, 64, 96), (1, 3, 64, 64), 'left is .* but right is'),
])
def test_wrong_sizes_are_refused(left, right, message):
    with pytest.raises(ValueError, match=message):
        build_model(TINY)(torch.rand(left), torch.rand(right))


def test_a_shifted_pair_is_matched_after_overfitting():
    """A few hundred steps on shifted noise: the network must find the shift of new noise."""
    torch.manual_seed(0)
    model = build_model(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def shifted(d):
        wide = torch.nn.functional.interpolate(torch.rand(2, 3, 16, 40), scale_factor=4,
                                               mode='bilinear')
        return wide[..., 32:128], wide[..., 32 + d:128 + d]

    generator = torch.Generator().manual_seed(1)
    for step in range(300):
        optimizer.param_groups[0]['lr'] = 3e-3 * min(1, (300 - step) / 150)
        if step == 150:  # as the training loop does: learn with what inference will use
            for module in model.modules():
                module.train(not isinstance(module, torch.nn.BatchNorm2d))
        d = int(torch.randint(4, 29, (), generator=generator))
        left, right = shifted(d)
        target = torch.full((2, 1, 64, 96), float(d))
        visible = torch.arange(96).expand(2, 1, 64, 96) >= d
        loss = sum(disparity_losses(model(left, right), target, visible, ~visible).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    for d in (8, 20):
        with torch.inference_mode():
            found = model(*shifted(d)).disparity[..., d + 8:]
        assert (found - d).abs().mean() < 1.5, f'shift {d} read as {found.mean():.1f}'


@pytest.mark.parametrize('name, limit', [('nano', 11), ('small', 50), ('base', 120)])
def test_sizes_stay_within_their_budget(name, limit):
    from torch.utils.flop_counter import FlopCounterMode
    model = build_model(SIZES[name]).eval()
    image = torch.rand(1, 3, 480, 640)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(image, image)
    assert 0.5 * limit * 1e9 < counter.get_total_flops() <= limit * 1e9


def test_checkpoint_round_trip_gives_the_same_output(tmp_path):
    torch.manual_seed(0)
    model = build_model(TINY).eval()
    path = tmp_path / 'a.safetensors'
    save_checkpoint(path, model.state_dict(), TINY, half=False, steps='12')
    loaded, config, notes = load_checkpoint(path)
    left, right = pair()
    with torch.inference_mode():
        assert torch.equal(loaded(left, right).disparity, model(left, right).disparity)
    assert config == TINY
    assert notes == {'steps': '12'}


def test_a_checkpoint_goes_on_with_more_looks(tmp_path):
    """All looks share their weights; the first of them give what they gave."""
    torch.manual_seed(0)
    model = leave_start(build_model(TINY)).eval()
    save_checkpoint(tmp_path / 'a.safetensors', model.state_dict(), TINY, half=False)
    more = replace(TINY, looks=3)
    longer = build_model(more).eval()
    count, _ = load_start(longer, more, tmp_path / 'a.safetensors')
    assert count == len(longer.state_dict())
    with torch.inference_mode():
        left, right = pair(batch=1)
        short, long = model(left, right).stages, longer(left, right).stages
    assert (len(short), len(long)) == (5, 7)
    for i, stage in enumerate(short):
        torch.testing.assert_close(long[i], stage)
    assert (long[6] - long[5]).abs().mean() > 1e-4


def test_stages_of_further_looks_share_one_weight():
    model = build_model(replace(TINY, looks=3))
    left, right = pair(batch=1)
    output = model(left, right)
    truth = torch.full((1, 1, 64, 96), 12.0)
    terms = {name: term.item() for name, term in
             disparity_losses(output, truth, truth > 0, truth < 0).items()}
    # further looks start as "as it is": each has the error of the first
    assert sum(terms[f'r4_{i}'] for i in (1, 2, 3)) == pytest.approx(terms['d4'], rel=1e-4)


def test_half_precision_weights_stay_close(tmp_path):
    torch.manual_seed(0)
    model = build_model(TINY).eval()
    save_checkpoint(tmp_path / 'a.safetensors', model.state_dict(), TINY)
    state, _, _ = read_checkpoint(tmp_path / 'a.safetensors')
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state[name], value, atol=1e-3, rtol=1e-3)


def test_foreign_and_broken_checkpoints_are_refused(tmp_path):
    from safetensors.torch import save_file
    with pytest.raises(FileNotFoundError, match='no checkpoint'):
        load_checkpoint(tmp_path / 'none.safetensors')
    (tmp_path / 'text.safetensors').write_text('hello')
    with pytest.raises(ValueError, match='not a readable .safetensors file'):
        load_checkpoint(tmp_path / 'text.safetensors')
    save_file({'x': torch.zeros(1)}, tmp_path / 'foreign.safetensors')
    with pytest.raises(ValueError, match='was not written by svp_ros'):
        load_checkpoint(tmp_path / 'foreign.safetensors')
    save_checkpoint(tmp_path / 'other.safetensors', build_reconstruction(TINY).state_dict(), TINY)
    with pytest.raises(ValueError, match='no disparity network'):
        load_checkpoint(tmp_path / 'other.safetensors')


def test_pretrained_networks_are_kept_apart_from_disparity_networks(tmp_path, tiny_model):
    torch.manual_seed(0)
    model = build_reconstruction(TINY).eval()
    path = tmp_path / 'pretrained.safetensors'
    save_checkpoint(path, model.state_dict(), TINY, half=False, kind=RECONSTRUCTION)
    loaded, config = load_reconstruction(path)
    left, right = pair()
    patch_mask = torch.rand(2, 4, 6) < 0.9
    with torch.inference_mode():
        assert torch.equal(loaded(left, right, patch_mask).colours,
                           model(left, right, patch_mask).colours)
    assert config == TINY and not loaded.training
    with pytest.raises(ValueError, match='pretrained.safetensors is a pre-trained network, its '
                                         'confidence is untrained; fine-tune it first: svp fine'):
        load_checkpoint(path)
    with pytest.raises(ValueError, match='pretrained.safetensors is a pre-trained network'):
        StereoPredictor.load(path, 'cpu')
    with pytest.raises(ValueError, match='is no pre-trained network; svp pretrain writes them'):
        load_reconstruction(tiny_model)


@pytest.mark.parametrize('build, other', [(build_reconstruction, build_model),
                                          (build_model, build_reconstruction),
                                          (build_reconstruction, build_reconstruction)])
def test_a_start_gives_all_that_both_networks_have(build, other, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / 'start.safetensors'
    given = build(TINY).state_dict()
    save_checkpoint(path, given, TINY, half=False, samples='12')

    model = other(TINY)
    fresh = {name: x.clone() for name, x in model.state_dict().items()}
    assert load_start(model, TINY, path) == (len(set(given) & set(fresh)), {'samples': '12'})
    for name, x in model.state_dict().items():
        assert torch.equal(x, given.get(name, fresh[name])), name
    assert any(not torch.equal(fresh[name], x) for name, x in given.items() if name in fresh)
    only_here = set(given) ^ set(fresh)
    assert all(name.startswith('reconstruction.') for name in only_here)
    assert bool(only_here) == (build is not other)


def test_a_start_of_another_size_is_refused(tmp_path):
    path = tmp_path / 'tiny.safetensors'
    save_checkpoint(path, build_reconstruction(TINY).state_dict(), TINY, kind=RECONSTRUCTION)
    model = build_model(SIZES['nano'])
    with pytest.raises(ValueError, match=r"tiny.safetensors is a network of another size; it has "
                                         r"\{'channels': \(8, 8, 16, 32\)"):
        load_start(model, SIZES['nano'], path)


@pytest.mark.parametrize('values, message', [
    ({'channels': (8, 8, 16, 30), 'heads': 4}, 'not a multiple of heads'),
    ({'channels': (8, 8, 16)}, 'need 4 entries'),
    ({'max_disparity': 100}, 'multiple of 16, got 100'),
])
def test_impossible_architectures_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**values)
