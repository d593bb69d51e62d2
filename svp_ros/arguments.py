"""Command lines that can also be written as a YAML file."""

import argparse
from pathlib import Path
from typing import Optional

from svp_ros.config import load_yaml


def parse_arguments(parser: argparse.ArgumentParser,
                    argv: Optional[list[str]]) -> argparse.Namespace:
    """Parse `argv` after the options of the YAML file named by `--config`, which it overrides.

    The file holds `option: value` lines with the option's long name; switches take true or false,
    options with several values a list.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a YAML mapping or has a key that is no option.
    """
    known = [action.option_strings[-1][2:] for action in parser._actions
             if action.option_strings and action.dest != 'help']
    parser.add_argument('--config', type=Path, metavar='FILE',
                        help='YAML file with "option: value" lines; the command line wins')
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument('--config', type=Path)
    path, rest = finder.parse_known_args(argv)
    if path.config is None:
        return parser.parse_args(argv)
    options = []
    for key, value in load_yaml(path.config).items():
        if key not in known:
            raise ValueError(f'{path.config}: unknown key "{key}"; known keys are '
                             + ', '.join(known))
        if value is True:
            options.append(f'--{key}')
        elif isinstance(value, list):
            options += [f'--{key}', *map(str, value)]
        elif value is not False and value is not None:
            options.append(f'--{key}={value}')
    return parser.parse_args([*options, *rest])


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """Add how the pairs of a recording are read: topics, rectification, tolerance."""
    for name in ('left', 'right', 'left-info', 'right-info'):
        kind = 'CameraInfo' if 'info' in name else 'images'
        parser.add_argument(f'--{name}', metavar='TOPIC',
                            help=f'{kind} of the {name[:5].rstrip("-")} camera in a recording; '
                            'default: found by type and name')
    parser.add_argument('--rectify', choices=('auto', 'on', 'off'), default='auto',
                        help='rectify raw images; auto does it when camera_info has distortion '
                        'and the name of the topic does not say "rect"')
    parser.add_argument('--tolerance', type=float, default=0.0, metavar='SECONDS',
                        help='by which the stamps of a pair may differ')


def parse_size(text: str) -> tuple[int, int]:
    """Parse "480x640" to (height, width), for argparse."""
    height, x, width = text.partition('x')
    if not (x and height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f'a size is HEIGHTxWIDTH such as 480x640, got "{text}"')
    return int(height), int(width)
