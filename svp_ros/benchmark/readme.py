"""The performance tables of the README, written from a benchmark."""

from svp_ros.benchmark.bars import EAGER
from svp_ros.benchmark.baselines import STAND_IN
from svp_ros.benchmark.report import node_table, table

NAMES = {'opencv_bm': 'OpenCV BM', 'opencv_sgbm': 'OpenCV SGBM, 128 disparities',
         STAND_IN: "stand-in of the prototype's 211 GFLOP, eager fp32"}


def update_readme(text: str, result: dict, link: str) -> str:
    """Renew what is between `<!-- benchmark cpu -->` (or cuda) and `<!-- end -->`.

    Args:
        text: of the README.
        result: of a benchmark.
        link: to its JSON, from the README.

    Raises:
        ValueError: If the marks are not there.
    """
    mark = f'<!-- benchmark {result["device_type"]} -->'
    before, found, rest = text.partition(f'{mark}\n')
    _, end, after = rest.partition('<!-- end -->')
    if not (found and end):
        raise ValueError(f'the README needs the marks {mark} and <!-- end -->')
    return f'{before}{found}{section(result, link)}{end}{after}'


def section(result: dict, link: str) -> str:
    """Tables for readers, with where they come from."""
    parts = []
    if result.get('networks'):
        parts += [
            f'Network alone, one {_columns_first(result["networks"][0]["size"])} pair, median ms '
            f'(times OpenCV SGBM in the same run):\n\n{_by_engine(result)}',
            table(('beside it', 'ms'), ((NAMES.get(name, name), f'{row["p50_ms"]:.0f}')
                                        for name, row in result['baselines'].items()))]
    if result.get('node'):
        parts.append('Node, publish stamp to disparity received by another process:\n\n'
                     + node_table(result))
    bars = result.get('bars', ())
    missed = [f'{row["bar"]} ({row["measured"]:.2f}, at most {row["limit"]:g})'
              for row in bars if not row['kept']]
    if bars:
        parts.append(f'Of {len(bars)} bars we set ourselves {len(missed)} are missed'
                     f'{": " if missed else ""}{"; ".join(missed)}.')
    parts.append(f'{result["device"]}, {result["threads"]} thread(s), commit '
                 f'{(result["commit"] or "unknown")[:8]}: `{result["command"]}`, all figures, '
                 'also of other sizes, several pairs in one pass, several cameras and what the '
                 f'node adds, in [{link.rpartition("/")[2]}]({link}).')
    return '\n\n'.join(parts) + '\n'


def _by_engine(result: dict) -> str:
    rows = {(row['model'], row['engine'], row['precision']): row for row in result['networks']}
    models, engines = (list(dict.fromkeys(key[part] for key in rows))
                       for part in (slice(0, 1), slice(1, 3)))
    engines.sort(key=lambda engine: engine[0] != EAGER)

    def cell(key: tuple) -> str:
        row = rows.get(key)
        return f'{row["p50_ms"]:.0f} ({row["ratios"]["opencv_sgbm"]:.1f})' if row else ''
    return table(
        ('', *(' '.join(engine).replace(EAGER, 'torch, eager') for engine in engines)),
        ((model[0], *(cell((*model, *engine)) for engine in engines)) for model in models))


def _columns_first(size: list[int]) -> str:
    return f'{size[1]}x{size[0]}'
