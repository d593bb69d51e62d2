"""The `svp` command: finds the sub-command, runs it, turns user errors into one line."""

from importlib import import_module
import logging
import os
import signal
import sys
from typing import Optional

import svp_ros

# Sub-command -> (module with main(argv) -> int, one line of help). Modules are imported when run.
COMMANDS = {
    'demo': ('svp_ros.demo', 'play stereo recordings through the node and report the scores'),
    'render': ('svp_ros.data.render', 'write procedural stereo data to a folder or a rosbag2'),
    'pretrain': ('svp_ros.train.pretrain', 'masked stereo pre-training, without labels'),
    'finetune disparity': ('svp_ros.train.disparity', 'train a disparity network'),
    'finetune detection': ('svp_ros.train.detection', 'teach a disparity network 3D boxes'),
    'adapt': ('svp_ros.train.adapt', 'tune a network to a camera with a recording of it'),
    'evaluate disparity': ('svp_ros.eval.disparity', 'score a model on labelled stereo pairs'),
    'evaluate detection': ('svp_ros.eval.detection', 'score the 3D boxes of a model'),
    'evaluate bag': ('svp_ros.eval.bag', 'score models on a stereo recording'),
    'play': ('svp_ros.ros.player', 'publish a rosbag2 on its topics, with /clock'),
    'export': ('svp_ros.export', 'write a model as ONNX, or prepare its int8 network'),
    'benchmark': ('svp_ros.benchmark.command', 'time network, predictor and node, and baselines'),
    'info': ('svp_ros.info', 'show versions, devices and the models'),
}


def main(argv: Optional[list[str]] = None) -> int:
    """Run `svp <command> [arguments]`.

    Returns:
        The command's exit code; 2 for what the user can correct, 1 for a failure of the machine,
        130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ('-h', '--help'):
        print(_usage())
        return 0 if argv else 2
    if argv[0] == '--version':
        print(f'svp_ros {svp_ros.__version__}')
        return 0
    command = next((name for name in COMMANDS if argv[:len(name.split())] == name.split()), None)
    if command is None:
        return _explain(argv)
    logging.basicConfig(format='%(message)s')
    logging.getLogger('svp_ros').setLevel(logging.INFO)
    try:
        module = import_module(COMMANDS[command][0])
        return module.main(argv[len(command.split()):])
    except ModuleNotFoundError as error:
        if (error.name or 'svp_ros').startswith('svp_ros'):
            raise
        print(f'svp {command}: needs the Python package "{error.name}", which is not installed; '
              'for ROS packages source ROS 2 or run: pip install "svp_ros[ros]"', file=sys.stderr)
        return 1
    except (ValueError, FileNotFoundError) as error:
        print(f'svp {command}: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'svp {command}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def pretrain() -> int:
    """Run `svp pretrain` with this program's arguments; for `ros2 run svp_ros pretrain`."""
    return main(['pretrain', *sys.argv[1:]])


def stereo_node() -> int:
    """Run the node; Ctrl-C ends it in the seconds while its libraries load, too."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    from svp_ros.ros.node import main as run_node
    return run_node()


def _usage(prefix: str = '') -> str:
    commands = {name: line for name, (_, line) in COMMANDS.items() if name.startswith(prefix)}
    width = max(map(len, commands))
    lines = [f'  {name:{width}}  {line}' for name, line in commands.items()]
    return '\n'.join([f'usage: svp {prefix}<command> [arguments]', '',
                      'Stereo perception for ROS 2: train it, score it, run it.', '', *lines, '',
                      'svp <command> --help lists the arguments; svp --version the version.'])


def _explain(argv: list[str]) -> int:
    """Answer `svp evaluate`, `svp evaluate --help` and unknown commands."""
    group = f'{argv[0]} '
    if any(name.startswith(group) for name in COMMANDS):
        if argv[1:2] in (['-h'], ['--help']):
            print(_usage(group))
            return 0
        got = ' '.join(argv[:2])
        choices = [name for name in COMMANDS if name.startswith(group)]
    else:
        got, choices = argv[0], list(COMMANDS)
    print(f'svp: no command "{got}"; choose from: {", ".join(choices)}', file=sys.stderr)
    return 2
