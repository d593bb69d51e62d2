"""`svp pretrain --show`: one page about a run of masked pre-training."""

from collections.abc import Mapping
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

import torch

from svp_ros.config import load_config
from svp_ros.data.formats import write_image
from svp_ros.data.pair_stream import PairStream
from svp_ros.eval.metrics import DisparityScore
from svp_ros.eval.page import (
    figure,
    heading,
    note,
    paragraph,
    side_by_side,
    table,
    write_page,
)
from svp_ros.eval.plots import plot_curves
from svp_ros.eval.pretraining_pictures import (
    attention_picture,
    disparity_rows,
    reconstruction_rows,
)
from svp_ros.eval.reconstruction import BATCH, FixedPairs, read_disparity, spread_indices
from svp_ros.model.build import build_reconstruction, load_reconstruction, NetworkConfig
from svp_ros.model.network import ReconstructionNetwork
from svp_ros.train.pretrain import PretrainConfig, validation_sets

SHOWN_PAIRS = 8
READ_OUTS = 4
PLOT_WIDTH = 700
KINDS_OF_ERROR = ('structure', 'colours')
EXPLANATION = ('Errors are mean squares over hidden pixels: colours in normalised RGB, structure '
               'of the texture of every patch, which is the patch less its mean colour, divided '
               'by its contrast.')
SOURCES = {'world': 'pairs of the procedural world', 'data': 'pairs on disk'}

Columns = dict[str, list[float]]  # of a CSV file, by their names


@dataclass(frozen=True)
class PretrainingRun:
    """What a run folder says.

    Attributes:
        folder: where it lies.
        config: its settings.
        train: columns of train.csv.
        validate: columns of validate.csv.
        model: the averaged weights of the last validation, in eval mode.
        network: architecture of the model.
    """

    folder: Path
    config: PretrainConfig
    train: Columns
    validate: Columns
    model: ReconstructionNetwork
    network: NetworkConfig


def read_run(folder: Path) -> PretrainingRun:
    """Read a run folder of `svp pretrain`.

    Raises:
        FileNotFoundError: If it is no run, or one that has not validated yet.
        ValueError: If it is the run of another command.
    """
    if not (folder / 'config.yaml').is_file():
        raise FileNotFoundError(f'{folder} is no run of svp pretrain: it has no config.yaml')
    try:
        config = load_config(PretrainConfig, folder / 'config.yaml')
    except ValueError as error:
        raise ValueError(f'{folder} is no run of svp pretrain: {error}') from error
    validate = read_columns(folder / 'validate.csv')
    if not validate:
        raise FileNotFoundError(f'{folder} has not validated yet; it does so every '
                                f'{config.loop.validate_every} steps (loop: validate_every)')
    model, network = load_reconstruction(folder / 'average.safetensors')
    return PretrainingRun(folder, config, read_columns(folder / 'train.csv'), validate,
                          model, network)


def read_columns(path: Path) -> Columns:
    """Read a CSV file of numbers; nothing if it has no rows or there is no such file."""
    if not path.is_file():
        return {}
    with path.open(newline='') as file:
        # the last row of a run in progress may not be complete
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    return {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}


def baselines(pairs: FixedPairs, network: NetworkConfig, seed: int = 0) -> dict[str, dict]:
    """Score what knows nothing: the median disparity everywhere, and an untrained network.

    Args:
        pairs: with known disparity.
        network: architecture.
        seed: of the fresh weights.

    Returns:
        `constant` and `untrained`, each with `epe` in pixels and `bad_3` in percent, over the
        same pixels as `score_reconstruction`.
    """
    known = pairs.disparity.isfinite()
    guess = torch.full_like(pairs.disparity, pairs.disparity[known].median().item())
    constant, untrained = DisparityScore(), DisparityScore()
    constant.update(guess, pairs.disparity, known)
    model = untrained_network(pairs, network, seed)
    device = model.backbone.mean.device
    with torch.inference_mode():
        for start in range(0, len(pairs.left), BATCH):
            part = slice(start, start + BATCH)
            left, right = (x[part].to(device).float() / 255 for x in (pairs.left, pairs.right))
            untrained.update(read_disparity(model, left, right), pairs.disparity[part],
                             known[part])
    return {name: {metric: score.result()[metric] for metric in ('epe', 'bad_3')}
            for name, score in (('constant', constant), ('untrained', untrained))}


@torch.no_grad()
def untrained_network(pairs: FixedPairs, network: NetworkConfig,
                      seed: int = 0) -> ReconstructionNetwork:
    """Fresh weights in eval mode, on the CPU, that normalise as a trained network does.

    Fresh BatchNorm layers assume features of mean 0 and variance 1, which random weights do not
    give. One pass over the pairs in training mode, nothing hidden, measures those on the way to
    the disparity; no weight is changed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_reconstruction(network)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the mean of all batches counts, not mainly the last
    model.train()
    for start in range(0, len(pairs.left), BATCH):
        read_disparity(model, *(x[start:start + BATCH].float() / 255
                                for x in (pairs.left, pairs.right)))
    return model.eval()


def show_run(folder: Path, device: str = 'cpu', cache: Optional[Path] = None) -> Path:
    """Write report.html, with its pictures as PNG files beside it, into a run folder.

    Args:
        folder: of the run.
        device: where the network runs.
        cache: that of the run, if it had one, where its recordings are unpacked.

    Returns:
        The page.

    Raises:
        FileNotFoundError: If it is no run, it has not validated yet or its data are gone.
        ValueError: If it is the run of another command.
    """
    run = read_run(folder)
    run.model.to(device)
    stream = run.config.stream
    on_disk = PairStream(replace(stream, world=0.0), run.config.seed,
                         unpacked=(cache or folder) / 'recordings').validation \
        if stream.data else []
    sets = validation_sets(run.config, on_disk)
    untaught = {source: baselines(pairs, run.network) for source, pairs in sets.items()
                if pairs.disparity is not None and run.config.mode == 'stereo'}

    parts = [paragraph(_summary(run)), *_figures(run, sets, untaught), heading('Curves'),
             side_by_side(_curves(run, untaught))]
    for source, pairs in sets.items():
        parts += _pictures(run, source, pairs)
    parts += [heading('Settings'), _settings(run)]
    path = folder / 'report.html'
    write_page(path, f'Masked pre-training: {folder.resolve().name}', parts)
    return path


def _summary(run: PretrainingRun) -> str:
    config = run.config
    eyes = {'stereo': 'from the rest and the whole right image',
            'left_only': 'from the rest alone: the right features are zero'}[config.mode]
    return (f'{config.size} network, step {run.validate["step"][-1]:.0f} of {config.loop.steps}. '
            f'{100 * config.mask_ratio:.0f} % of the 16-pixel patches of the left image are '
            f'hidden and rebuilt {eyes}. All figures are those of the last validation, on pairs '
            'that are never trained on.')


def _figures(run: PretrainingRun, sets: Mapping[str, FixedPairs],
             untaught: Mapping[str, dict]) -> list[str]:
    last = {name: values[-1] for name, values in run.validate.items()}
    tables, notes = [], []
    for source, pairs in sets.items():
        own, other = ([last.get(f'{source}_{prefix}{kind}') for kind in KINDS_OF_ERROR]
                      for prefix in ('', 'other_'))
        rows = [('with its right image', *(f'{error:.3f}' for error in own))]
        if None not in other:  # a single pair has no other scene
            rows += [('with that of another scene', *(f'{error:.3f}' for error in other)),
                     ('ratio', *(f'{a / b:.2f}' for a, b in zip(own, other)))]
        tables.append(table(f'Error of hidden pixels, {len(pairs.left)} {SOURCES[source]}', rows,
                            ('', *KINDS_OF_ERROR)))
    for source, scores in untaught.items():
        own = {name: last[f'{source}_{name}'] for name in ('epe', 'bad_3')}
        tables.append(table(
            f'Disparity without labels, {SOURCES[source]}', [
                (name, f'{score["epe"]:.2f} px', f'{score["bad_3"]:.1f} %') for name, score in (
                    ('this network', own),
                    ('an untrained one', scores['untrained']),
                    ('median of all disparities', scores['constant']))],
            ('', 'EPE', 'bad-3')))
    notes.append(note(
        f'{EXPLANATION} A ratio well below 1 says that the network uses the right image. How much '
        'that helps is another question, because that of another scene also misleads: compare '
        'with a run with --mode left_only.'))
    if run.config.mode == 'left_only':
        notes.append(note('A left_only network does not see the right image: its error with '
                          'another one is equal, and it has no disparity to read.'))
    elif not untaught:
        notes.append(note('No ground truth: the pairs of this run have no known disparity, so '
                          'that what the network knows of it is shown but not scored.'))
    return [side_by_side(tables), *notes]


def _curves(run: PretrainingRun, untaught: Mapping[str, dict]) -> list[str]:
    train, validate, config = run.train, run.validate, run.config
    parts = []

    def plot(name: str, curves: dict, y_label: str, title: str, caption: str,
             levels: Optional[dict] = None) -> None:
        path = run.folder / f'{name}.png'
        plot_curves(path, curves, 'step', y_label, title, levels=levels)
        parts.append(figure(path, caption, PLOT_WIDTH))

    for source in SOURCES:
        for kind in KINDS_OF_ERROR:
            if f'{source}_{kind}' not in validate:
                continue
            curves = {'validation': (validate['step'], validate[f'{source}_{kind}'])}
            if config.mode == 'stereo' and f'{source}_other_{kind}' in validate:
                curves['right image of another scene'] = (
                    validate['step'], validate[f'{source}_other_{kind}'])
            if kind in train:
                # train.csv holds the weighted terms of the loss
                weight = getattr(config, kind)
                curves['training'] = (train['step'], [x / weight for x in train[kind]])
            plot(f'{source}_{kind}', curves, 'mean squared error',
                 f'Error of the {kind} of hidden pixels', f'Validation on {SOURCES[source]}, as '
                 'they are; training pairs are augmented and from all sources.')
        if source in untaught:
            plot(f'{source}_epe', {'this network': (validate['step'], validate[f'{source}_epe'])},
                 'EPE, pixels', 'Disparity, nothing hidden',
                 f'Error of the disparity of {SOURCES[source]}; no label was used in training.', {
                     'untrained network': untaught[source]['untrained']['epe'],
                     'median of all disparities': untaught[source]['constant']['epe']})
    return parts


def _pictures(run: PretrainingRun, source: str, pairs: FixedPairs) -> list[str]:
    left_only = run.config.mode == 'left_only'
    shown = spread_indices(len(pairs.left), SHOWN_PAIRS)
    parts = [heading(f'Reconstructions: {SOURCES[source]}'), _picture(
        run, f'{source}_reconstructions.png',
        reconstruction_rows({'reconstruction': (run.model, left_only)}, pairs, shown,
                            run.config.mask_ratio),
        'Validation pairs with their masks; the visible patches are pasted in.')]
    if left_only:
        return parts
    known = pairs.disparity is not None
    parts += [
        heading(f'Disparity: {SOURCES[source]}'),
        _picture(run, f'{source}_disparity.png',
                 disparity_rows(run.model, pairs, shown[:READ_OUTS]),
                 'Nothing hidden, no label used, blue far and red near, every row '
                 'with its own range' + ('.' if known else '; there is no true disparity.')),
        heading(f'Where the rows look: {SOURCES[source]}'),
        _picture(run, f'{source}_attention.png',
                 attention_picture(run.model, pairs, _most_depth(pairs)),
                 'For three rows of one pair: the probability (its square root) of every x_right '
                 'for every x_left, nothing hidden'
                 + ('.' if known else '; there is no true disparity to compare with.'))]
    return parts


def _most_depth(pairs: FixedPairs) -> int:
    """Index of the pair whose disparities vary most, the first one if they are unknown."""
    if pairs.disparity is None:
        return 0
    known = pairs.disparity.isfinite()
    return max(range(len(known)), key=lambda i: pairs.disparity[i][known[i]].std().item())


def _picture(run: PretrainingRun, name: str, picture, caption: str) -> str:
    write_image(run.folder / name, picture)
    return figure(run.folder / name, caption)


def _settings(run: PretrainingRun) -> str:
    c, stream, loop = run.config, run.config.stream, run.config.loop
    commit = run.folder / 'commit'
    rows = [
        ('network', f'{c.size}, {sum(x.numel() for x in run.model.parameters()):,} parameters'),
        ('mode', c.mode),
        ('start', c.start or 'fresh weights'),
        ('seed', c.seed),
        ('hidden patches', f'{100 * c.mask_ratio:g} %'),
        ('weights of the loss', f'structure {c.structure:g}, colours {c.colours:g}'),
        ('crop', f'{stream.height}x{stream.width}'),
        ('batch', f'{stream.batch} pairs per process'),
        ('steps', loop.steps),
        ('learning rate', f'{loop.learning_rate:g}'),
        ('precision', c.precision),
        *(('pairs on disk', f'{source.path}, weight {source.weight:g}') for source in stream.data),
        ('procedural world', f'weight {stream.world:g}' if stream.world else 'not used'),
        ('commit', commit.read_text().strip() if commit.is_file() else 'unknown')]
    return table('', rows)
