import argparse
import signal
import subprocess
import sys

import pytest

import svp_ros
from svp_ros import cli
from svp_ros.arguments import parse_arguments, parse_size


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Add `svp try this`, a command with the given body, and run it with arguments."""
    def run(body, *argv):
        (tmp_path / 'tried.py').write_text(f'def main(argv):\n    {body}\n')
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(cli.COMMANDS, 'try this', ('tried', 'a test'))
        monkeypatch.delitem(sys.modules, 'tried', raising=False)
        return cli.main(['try', 'this', *argv])
    return run


@pytest.mark.parametrize('name', list(cli.COMMANDS))
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), '--help'])
    assert stop.value.code == 0
    assert f'usage: svp {name}' in capsys.readouterr().out


@pytest.mark.parametrize('name', list(cli.COMMANDS))
def test_every_command_refuses_an_unknown_option(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), '--no-such-option'])
    assert stop.value.code == 2
    assert f'svp {name}: error:' in capsys.readouterr().err


def test_help_lists_every_command_on_a_line(capsys):
    assert cli.main(['--help']) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (_, text) in cli.COMMANDS.items():
        assert any(line.split() == [*name.split(), *text.split()] for line in lines)
    assert cli.main(['evaluate', '--help']) == 0
    listed = capsys.readouterr().out
    assert 'evaluate bag' in listed and 'render' not in listed


@pytest.mark.parametrize('argv, message', [
    (['paint'], 'no command "paint"; choose from: demo, render'),
    (['evaluate'], 'no command "evaluate"; choose from: evaluate disparity, evaluate detection'),
    (['evaluate', 'sound'], 'no command "evaluate sound"; choose from: evaluate disparity'),
])
def test_unknown_command_names_the_choices(argv, message, capsys):
    assert cli.main(argv) == 2
    assert message in capsys.readouterr().err


def test_command_gets_its_own_arguments_and_gives_its_exit_code(command):
    assert command("return 7 if argv == ['--a', 'b'] else 1", '--a', 'b') == 7


@pytest.mark.parametrize('error, code', [
    ('ValueError', 2), ('FileNotFoundError', 2), ('PermissionError', 1), ('OSError', 1)])
def test_error_of_a_user_or_machine_is_one_line(command, capsys, error, code):
    assert command(f'raise {error}("size 3 is odd; use 4")') == code
    assert capsys.readouterr().err == 'svp try this: size 3 is odd; use 4\n'


def test_missing_package_says_how_to_get_it(command, capsys):
    assert command('import rclpy_is_not_here') == 1
    error = capsys.readouterr().err
    assert 'needs the Python package "rclpy_is_not_here"' in error and 'svp_ros[ros]' in error


def test_errors_of_our_own_keep_their_traceback(command):
    with pytest.raises(ZeroDivisionError):
        command('1 / 0')
    with pytest.raises(ModuleNotFoundError):
        command('import svp_ros.no_such_module')


def test_interrupt_ends_with_130(command):
    assert command('raise KeyboardInterrupt') == 130


def test_pretrain_is_a_program_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['pretrain', '--out', str(tmp_path), '--resume'])
    assert cli.pretrain() == 2
    assert capsys.readouterr().err == (f'svp pretrain: nothing to resume: no '
                                       f'{tmp_path}/config.yaml; start without --resume\n')


def test_svp_runs_as_a_program_without_importing_torch():
    program = 'import sys; from svp_ros.cli import main; code = main(["--version"]); ' \
              'sys.exit("torch came along" if "torch" in sys.modules else code)'
    run = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, f'svp_ros {svp_ros.__version__}\n'), run.stderr
    run = subprocess.run([sys.executable, '-m', 'svp_ros', 'evaluate', 'disparity', '--data',
                          'no/such/folder'], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (
        2, 'svp evaluate disparity: no folder no/such/folder\n')


@pytest.fixture
def parse(tmp_path):
    def run(yaml, *argv):
        parser = argparse.ArgumentParser('test')
        parser.add_argument('--data', required=True)
        parser.add_argument('--count', type=int, default=1)
        parser.add_argument('--no-sgbm', action='store_true')
        (tmp_path / 'a.yaml').write_text(yaml)
        return parse_arguments(parser, ['--config', str(tmp_path / 'a.yaml'), *argv])
    return run


def test_yaml_file_gives_options_and_the_command_line_wins(parse):
    parsed = parse('data: there\ncount: 3\nno-sgbm: true\n', '--count', '5')
    assert (parsed.data, parsed.count, parsed.no_sgbm) == ('there', 5, True)
    assert parse('data: there\nno-sgbm: false\n').no_sgbm is False


def test_yaml_file_with_an_unknown_option_is_refused(parse):
    with pytest.raises(ValueError, match='unknown key "cuont"; known keys are data, count, no-'):
        parse('data: there\ncuont: 3\n')
    with pytest.raises(SystemExit):
        parse('data: there\ncount: many\n')


def test_sizes_are_height_x_width():
    assert parse_size('480x640') == (480, 640)
    for text in ('480', '480x', 'x640', '0x640', '-1x640', '480x640x3'):
        with pytest.raises(Exception, match='HEIGHTxWIDTH'):
            parse_size(text)


def test_ctrl_c_while_the_node_loads_ends_it_without_a_traceback():
    """rclpy is imported before torch: when it is there, seconds of loading lie ahead."""
    process = subprocess.Popen(
        [sys.executable, '-v', '-c', 'import sys; from svp_ros.cli import stereo_node; '
         'sys.exit(stereo_node())'], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("import 'rclpy"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 0
    assert 'Traceback' not in rest and 'waiting for' not in rest
