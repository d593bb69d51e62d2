"""`svp pretrain --experiment throughput`: does reading pairs keep up with the training?"""

import csv
from dataclasses import replace
import json
from pathlib import Path
import shlex
from tempfile import TemporaryDirectory
from typing import Optional

from lightning.fabric import seed_everything
import numpy as np

from svp_ros.data.pair_stream import PairStream
from svp_ros.data.stream import batches
from svp_ros.model.build import build_reconstruction, get_size
from svp_ros.provenance import describe_device, find_commit
from svp_ros.train.loop import TrainingRun
from svp_ros.train.pretrain import make_losses, MaskedStream, PretrainConfig
from svp_ros.train.runs import make_fabric

STEPS = 60
STARTING_STEPS = 12  # not counted: workers start, caches fill, the first batches were prepared


def measure_throughput(config: PretrainConfig, accelerator: str = 'auto',
                       cache: Optional[Path] = None, workers: int = 1) -> dict:
    """Train for STEPS steps on pairs on disk and time them; the weights are not kept.

    The loop is that of the training. A step's time is that of the whole step, from one request
    for a batch to the next; its data time is the part in which it waits for its batch.

    Args:
        config: the experiment; its world is left out.
        accelerator: auto, cpu or cuda.
        cache: folder for unpacked recordings.
        workers: processes that prepare batches.

    Returns:
        What was measured, and what on.

    Raises:
        FileNotFoundError, ValueError: If there are no pairs or settings cannot be used.
    """
    if not config.stream.data:
        raise ValueError('throughput is that of pairs on disk: name a folder with --data')
    total = STARTING_STEPS + STEPS
    config = replace(config, stream=replace(config.stream, world=0.0), loop=replace(
        config.loop, steps=total, log_every=1, validate_every=total, save_every_s=1e9))
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fabric = make_fabric(accelerator, '1', config.precision, folder)
        seed_everything(config.seed, verbose=False)
        on_gpu = fabric.device.type == 'cuda' and cache is None  # as in the training
        workers = 0 if on_gpu else workers
        stream = PairStream(config.stream, config.seed, str(fabric.device) if on_gpu else 'cpu',
                            unpacked=(cache or folder) / 'recordings')
        run = TrainingRun(build_reconstruction(get_size(config.size)), config.loop, folder, fabric)
        masked = MaskedStream(stream, config.mask_ratios)
        run.train(batches(masked, 0, total, workers), make_losses(config))
        with (folder / 'train.csv').open(newline='') as file:
            rows = list(csv.DictReader(file))[STARTING_STEPS:]
    waits, times = (1000 * np.array([float(row[name]) for row in rows])
                    for name in ('data_s', 'step_s'))
    c = config.stream
    return {
        'device': describe_device(str(fabric.device)), 'precision': config.precision,
        'size': config.size, 'height': c.height, 'width': c.width, 'batch': c.batch,
        'workers': workers,
        'pairs': sum(map(len, stream.training)),
        'steps': STEPS, 'steps_left_out_at_the_start': STARTING_STEPS,
        'data_ms': _spread(waits), 'step_ms': _spread(times),
        'data_share_of_step': float(waits.mean() / times.mean()),
        'pairs_per_s': float(1000 * c.batch / times.mean())}


def write_throughput(config: PretrainConfig, out: Path, argv: list[str], **where) -> None:
    """Measure, print one line and write the figures with the command.

    Args:
        config: the experiment.
        out: .json file, or a folder for throughput.json.
        argv: arguments of `svp pretrain`; of absolute paths the last part is kept.
        where: arguments of `measure_throughput`.
    """
    result = measure_throughput(config, **where)
    path = out if out.suffix == '.json' else out / 'throughput.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    command = 'svp pretrain ' + shlex.join(
        Path(word).name if word.startswith('/') else word for word in argv)
    path.write_text(json.dumps({'command': command, 'commit': find_commit(), **result}, indent=2)
                    + '\n')
    data, step = result['data_ms'], result['step_ms']
    print(f'data {data["mean"]:.1f} ms (p95 {data["p95"]:.1f}) of a step of {step["mean"]:.1f} ms '
          f'(p95 {step["p95"]:.1f}): {100 * result["data_share_of_step"]:.1f} %; '
          f'{result["pairs_per_s"]:.1f} pairs/s; {path}')


def _spread(milliseconds: np.ndarray) -> dict[str, float]:
    return {'mean': float(milliseconds.mean()), 'p95': float(np.percentile(milliseconds, 95))}
