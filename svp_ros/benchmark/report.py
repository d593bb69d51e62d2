"""A benchmark as Markdown, and the comparison of two of them."""

from collections.abc import Iterable, Sequence
from typing import Optional

from svp_ros.benchmark.bars import EAGER


def to_markdown(result: dict) -> str:
    """Tables of everything that was measured."""
    baselines = result.get('baselines', {})
    parts = [f'{result["device"]}; {result["threads"]} thread(s); commit {result["commit"]}']
    if baselines:
        parts.append(table(('baseline', 'p50 ms', 'p95 ms', 'p99 ms'), (
            (name, *_times(row)) for name, row in baselines.items())))
    if result.get('networks'):
        parts.append(_networks(result))
    if result.get('not_measured'):
        parts.append(_not_measured(result['not_measured']))
    if result.get('predictor'):
        parts.append(table(
            ('model', 'engine', 'precision', 'images', 'p50 ms', 'p95 ms', 'p99 ms', 'before ms',
             'network ms', 'after ms', 'before and after / network'),
            ((*_name(row), _size(row['input']), *_times(row),
              *(f'{row[f"{stage}_ms"]:.1f}' for stage in (
                  'preprocess', 'inference', 'postprocess')), f'{100 * row["overhead"]:.0f} %')
             for row in result['predictor'])))
    if result.get('accuracy'):
        parts.append(table(
            ('model', 'engine', 'precision', 'scenes', 'EPE px', 'change', 'bad-3 %', 'bar'),
            ((*_name(row), row['scenes'], f'{row["epe"]:.3f}',
              f'{100 * row["epe_change"]:+.2f} %', f'{row["bad_3"]:.2f}', _kept(
                  row['within_bar'])) for row in result['accuracy'])))
    parts += [part for part in (scaling_table(result), cameras_table(result), node_table(result),
                                overhead_table(result), bars_table(result)) if part]
    return '\n\n'.join(parts) + '\n'


def scaling_table(result: dict) -> Optional[str]:
    """What size and number of pairs in one pass cost."""
    rows = result.get('scaling')
    return rows and table(
        ('model', 'engine', 'precision', 'size', 'pairs', 'p50 ms', 'p95 ms', 'p99 ms',
         'ms per pair', *(('GPU MiB',) if 'gpu_mib' in rows[0] else ())),
        ((*_name(row), _size(row['size']), row['batch'], *_times(row),
          f'{row["ms_per_pair"]:.1f}', *((f'{row["gpu_mib"]:.0f}',) if 'gpu_mib' in row else ()))
         for row in rows))


def cameras_table(result: dict) -> Optional[str]:
    """What several cameras at once get."""
    rows = result.get('cameras')
    return rows and table(
        ('model', 'engine', 'precision', 'cameras', 'published Hz, all', 'received Hz, all',
         'p95 ms, worst', 'CPU %, all', 'RSS MiB of each'),
        ((*_name(row), row['cameras'], f'{row["published_hz"]:.1f}', f'{row["total_hz"]:.1f}',
          _number(row['p95_ms']), f'{100 * row["cpu_share"]:.0f}', f'{row["rss_mib"]:.0f}')
         for row in rows))


def node_table(result: dict) -> Optional[str]:
    """What the node answers at which rate."""
    rows = result.get('node')
    return rows and table(
        ('model', 'engine', 'precision', 'images', 'published Hz', 'received Hz', 'dropped %',
         'p50 ms', 'p95 ms', 'p99 ms', 'CPU %', 'RSS MiB'),
        ((*_name(row), _size(row['input']),
          f'{row["published_hz"]:.1f}{" (highest)" if row["highest"] else ""}',
          f'{row["received_hz"]:.1f}', f'{100 * row["drops"]:.1f}',
          *(_number(row[key]) for key in ('p50_ms', 'p95_ms', 'p99_ms')),
          f'{100 * row["cpu_share"]:.0f}', f'{row["rss_mib"]:.0f}') for row in rows))


def overhead_table(result: dict) -> Optional[str]:
    """What the node adds to the predictor."""
    rows = result.get('overhead')
    return rows and table(
        ('model', 'engine', 'precision', 'images', 'outputs', 'beyond the predictor, p50 ms',
         'p95 ms'),
        ((*_name(row), _size(row['input']), ' + '.join(row['outputs']), f'{row["p50_ms"]:.1f}',
          f'{row["p95_ms"]:.1f}') for row in rows))


def bars_table(result: dict) -> Optional[str]:
    """Which bars are kept."""
    rows = result.get('bars')
    return rows and table(('bar', 'measured', 'at most', ''), (
        (row['bar'], f'{row["measured"]:.2f}', f'{row["limit"]:g}', _kept(row['kept']))
        for row in rows))


def table(header: Iterable[str], rows: Iterable[Iterable]) -> str:
    """Lay out a Markdown table."""
    header = tuple(header)
    lines = [header, ('---',) * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines)


def compare(new: dict, old: dict) -> str:
    """Markdown table of what both benchmarks measured: medians, and their change.

    A busy machine slows everything, so the change against OpenCV's SGBM of the same run is
    beside the change of the time, where both have it.
    """
    sgbm = [result.get('baselines', {}).get('opencv_sgbm', {}).get('p50_ms')
            for result in (old, new)]
    rows = []
    for what in ('networks', 'predictor', 'scaling', 'node', 'overhead'):
        before = {_key(row): row['p50_ms'] for row in old.get(what, ())}
        for row in new.get(what, ()):
            was, now = before.get(_key(row)), row['p50_ms']
            if was and now:
                rows.append((what, *_key(row), f'{was:.1f}', f'{now:.1f}', _change(now, was),
                             _change(now / sgbm[1], was / sgbm[0]) if all(sgbm) else '-'))
    if not rows:
        return 'the two benchmarks have nothing in common\n'
    return table(('part', 'model', 'engine', 'precision', 'case', 'old ms', 'new ms', 'change',
                  'change against SGBM'), rows) + '\n'


def _networks(result: dict) -> str:
    baselines = result['baselines']
    return table(
        ('model', 'engine', 'precision', 'size', 'p50 ms', 'p95 ms', 'p99 ms', 'GFLOP',
         'compute ms', 'memory ms', 'x roofline', *(f'x {name}' for name in baselines)),
        ((*_name(row), _size(row['size']), *_times(row), f'{row["gflop"]:.1f}',
          *((f'{row["compute_ms"]:.1f}', f'{row["memory_ms"]:.1f}', f'{row["times_floor"]:.1f}')
            if 'times_floor' in row else ('-',) * 3),
          *(f'{row["ratios"][name]:.2f}' for name in baselines)) for row in result['networks']))


def _not_measured(reasons: dict[str, str]) -> str:
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return '\n'.join(f'* not measured: {", ".join(names)}: {reason}'
                     for reason, names in names.items())


def _key(row: dict) -> tuple:
    """Return the configuration of a row and, in words, what else tells it from others."""
    case = [_size(row[key]) for key in ('size', 'input') if key in row]
    if row.get('batch', 1) > 1:
        case.append(f'{row["batch"]} pairs')
    if 'highest' in row:
        case.append('highest rate' if row['highest'] else f'{row["published_hz"]:.0f} Hz')
    return *_name(row), ' '.join([*case, *row.get('outputs', ())])


def _name(row: dict) -> tuple[str, str, str]:
    return row['model'], row['engine'].replace(EAGER, 'torch, eager'), row['precision']


def _size(size: Sequence[int]) -> str:
    return f'{size[0]}x{size[1]}'


def _times(row: dict) -> tuple[str, ...]:
    return tuple(f'{row[key]:.1f}' for key in ('p50_ms', 'p95_ms', 'p99_ms'))


def _number(value: Optional[float]) -> str:
    return '-' if value is None else f'{value:.0f}'


def _change(new: float, old: float) -> str:
    return f'{100 * (new / old - 1):+.0f} %'


def _kept(kept: bool) -> str:
    return 'kept' if kept else 'MISSED'
