"""A benchmark as Markdown, and the comparison of two of them."""

from collections.abc import Iterable


def to_markdown(result: dict) -> str:
    """Tables of everything that was measured."""
    baselines = result.get('baselines', {})
    parts = [f'{result["device"]}; {result["threads"]} thread(s); commit {result["commit"]}']
    if baselines:
        parts.append(_table(('baseline', 'p50 ms', 'p95 ms', 'p99 ms'), (
            (name, *_times(row)) for name, row in baselines.items())))
    if result.get('networks'):
        parts.append(_table(
            ('model', 'engine', 'precision', 'size', 'batch', 'p50 ms', 'p95 ms', 'p99 ms',
             *(f'x {name}' for name in baselines)),
            ((row['model'], row['engine'], row['precision'], _size(row['size']), row['batch'],
              *_times(row), *(f'{row["ratios"][name]:.2f}' for name in baselines))
             for row in result['networks'])))
    if result.get('not_measured'):
        parts.append('\n'.join(f'* not measured: {name}: {reason}'
                               for name, reason in result['not_measured'].items()))
    if result.get('predictor'):
        parts.append(_table(
            ('model', 'engine', 'precision', 'images', 'p50 ms', 'p95 ms', 'p99 ms', 'before ms',
             'network ms', 'after ms', 'before and after / network'),
            ((row['model'], row['engine'], row['precision'], _size(row['input']), *_times(row),
              *(f'{row[f"{stage}_ms"]:.1f}' for stage in (
                  'preprocess', 'inference', 'postprocess')), f'{100 * row["overhead"]:.0f} %')
             for row in result['predictor'])))
    if result.get('accuracy'):
        parts.append(_table(
            ('model', 'engine', 'precision', 'scenes', 'EPE px', 'change', 'bad-3 %', 'bar'),
            ((row['model'], row['engine'], row['precision'], row['scenes'], f'{row["epe"]:.3f}',
              f'{100 * row["epe_change"]:+.2f} %', f'{row["bad_3"]:.2f}',
              'kept' if row['within_bar'] else 'MISSED') for row in result['accuracy'])))
    if result.get('node'):
        parts.append(_table(
            ('published Hz', 'received Hz', 'dropped %', 'p50 ms', 'p95 ms', 'p99 ms', 'CPU %',
             'RSS MiB'),
            ((f'{row["published_hz"]:.1f}{" (highest)" if row["highest"] else ""}',
              f'{row["received_hz"]:.1f}', f'{100 * row["drops"]:.1f}',
              *(f'{row[key]:.0f}' if row[key] is not None else '-'
                for key in ('p50_ms', 'p95_ms', 'p99_ms')),
              f'{100 * row["cpu_share"]:.0f}', f'{row["rss_mib"]:.0f}')
             for row in result['node'])))
    return '\n\n'.join(parts) + '\n'


def compare(new: dict, old: dict) -> str:
    """Markdown table of what both benchmarks measured: medians, and their change.

    A busy machine slows everything, so the change against OpenCV's SGBM of the same run is
    beside the change of the time.
    """
    before = {_key(row): row for row in old.get('networks', ())}
    rows = []
    for row in new.get('networks', ()):
        was = before.get(_key(row))
        if was is not None:
            ratio = row['ratios']['opencv_sgbm'] / was['ratios']['opencv_sgbm']
            rows.append((*_key(row), f'{was["p50_ms"]:.1f}', f'{row["p50_ms"]:.1f}',
                         f'{100 * (row["p50_ms"] / was["p50_ms"] - 1):+.0f} %',
                         f'{100 * (ratio - 1):+.0f} %'))
    if not rows:
        return 'the two benchmarks have nothing in common\n'
    return _table(('model', 'engine', 'precision', 'size', 'batch', 'old ms', 'new ms', 'change',
                   'change against SGBM'), rows) + '\n'


def _key(row: dict) -> tuple:
    return row['model'], row['engine'], row['precision'], _size(row['size']), row['batch']


def _size(size: list[int]) -> str:
    return f'{size[0]}x{size[1]}'


def _times(row: dict) -> tuple[str, ...]:
    return tuple(f'{row[key]:.1f}' for key in ('p50_ms', 'p95_ms', 'p99_ms'))


def _table(header: Iterable[str], rows: Iterable[Iterable]) -> str:
    header = tuple(header)
    lines = [header, ('---',) * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines)
