"""The bars this project sets itself, and whether a benchmark keeps them."""

from collections.abc import Iterator
from typing import Optional

from svp_ros.benchmark.baselines import STAND_IN

EAGER = 'torch_eager'
SGBM_RATIO = {'nano': 1.5, 'small': 6.0}  # CPU, one thread, fastest engine
STAND_IN_RATIO = 2.5  # base in eager fp32
OVERHEAD_SHARE, OVERHEAD_GPU_MS = 0.10, 2.0  # of the predictor
NODE_MS = {'depth': 3.0, 'points2': 12.0}  # p95 at 480x640, by the last output
LARGE = 2.0  # times as much at 720x1280
START_S = 10.0
GPU_MS = {('small', 'fp16'): 1.5, ('base', 'fp16'): 2.5, ('base', 'fp32'): 8.0}  # an H200
FLOOR = 3.0  # times the roofline, on a GPU


def judge(result: dict) -> list[dict]:
    """Hold a benchmark against the bars that it has figures for.

    Returns:
        Rows with `bar` in words, `measured`, `limit` and `kept`; every limit is an upper one.
    """
    on_gpu = result['device_type'] == 'cuda'
    found = _on_gpu(result) if on_gpu else _on_cpu(result)
    return [{'bar': bar, 'measured': measured, 'limit': limit, 'kept': measured <= limit}
            for bar, measured, limit in (*found, *_of_node(result))]


def fastest(result: dict, model: str, int8: bool = True) -> Optional[dict]:
    """Row of the fastest engine of a model, with or without int8; None if there is none."""
    rows = [row for row in result.get('networks', ())
            if row['model'] == model and row['engine'] != EAGER
            and (int8 or row['precision'] != 'int8')]
    return min(rows, key=lambda row: row['p50_ms'], default=None)


def _on_cpu(result: dict) -> Iterator[tuple[str, float, float]]:
    full_size = [row for row in result.get('networks', ()) if row['size'] == [480, 640]]
    if full_size and result['threads'] == 1:
        for model, limit in SGBM_RATIO.items():
            best = fastest(result, model)
            if best:
                yield (f'{model}, {best["engine"]} {best["precision"]}, times OpenCV SGBM',
                       best['ratios']['opencv_sgbm'], limit)
        for row in full_size:
            if (row['model'], row['engine']) == ('base', EAGER) and STAND_IN in row['ratios']:
                yield ('base in eager fp32, times the stand-in of the prototype',
                       row['ratios'][STAND_IN], 1 / STAND_IN_RATIO)
    for row in result.get('predictor', ()):
        yield (f'{_predictor(row)}: before and after, share of the network', row['overhead'],
               OVERHEAD_SHARE)


def _on_gpu(result: dict) -> Iterator[tuple[str, float, float]]:
    for row in result.get('networks', ()):
        if row['size'] != [480, 640] or row['engine'] != 'torch':
            continue
        limit = GPU_MS.get((row['model'], row['precision']))
        if limit and 'H200' in result['device']:
            yield f'{row["model"]} {row["precision"]}, ms', row['p50_ms'], limit
        if 'times_floor' in row:
            yield (f'{row["model"]} {row["precision"]}, times its roofline', row['times_floor'],
                   FLOOR)
    for row in result.get('predictor', ()):
        yield (f'{_predictor(row)}: before and after, ms',
               row['preprocess_ms'] + row['postprocess_ms'], OVERHEAD_GPU_MS)


def _of_node(result: dict) -> Iterator[tuple[str, float, float]]:
    for row in result.get('overhead', ()):
        limit = NODE_MS[row['outputs'][-1]] * (LARGE if row['input'] == [720, 1280] else 1)
        yield (f'node, {row["input"][1]}x{row["input"][0]}, {" + ".join(row["outputs"])}: beyond '
               'the predictor, p95 ms', row['p95_ms'], limit)
    for row in result.get('node', ())[:1]:
        yield 'node: start until it waits for images, s', row['start_s'], START_S


def _predictor(row: dict) -> str:
    return (f'predictor {row["model"]}, {row["engine"]} {row["precision"]}, '
            f'{row["input"][1]}x{row["input"][0]}')
