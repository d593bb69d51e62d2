"""What ends a process, or must not let it start, and its last words; see faults.py."""

from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
import resource
import shutil
import signal
import subprocess
import sys

from fault_driver import Driver
import faulty_node
from safetensors.torch import save_file
from stereo_rig import random_pair, Rig
import torch

from svp_ros.processes import ros_environment
from svp_ros.ros.node import main


@dataclass(frozen=True)
class Ending:
    """What ends a process, with its exit code and all that it prints as its last words.

    Args:
        name: what happens.
        run: lets it happen; called with an empty folder and the path of a model, returns the exit
            code and what was said.
        code: exit code.
        says: the whole text, with … for what varies.
    """

    name: str
    run: Callable
    code: int
    says: str


def start_with(make_model):
    """A run of the node with what make_model(folder, model) returns as its parameter model."""
    def run(folder, model):
        with redirect_stderr(StringIO()) as output:
            code = main(['--ros-args', '-p', f'model:={make_model(folder, model)}'])
        return code, output.getvalue().strip()
    return run


def cut_off(folder, model):
    path = folder / 'model.safetensors'
    path.write_bytes(model.read_bytes()[:-1000])
    return path


def replaced(folder, model):
    path = folder / 'model.safetensors'
    shutil.copy(model, path)
    path.with_suffix('.md').write_text(f'SHA-256 `{"0" * 64}`')
    return path


def pickled(folder, model):
    path = folder / 'model.safetensors'
    torch.save({'weight': torch.zeros(3)}, path)
    return path


def foreign(folder, model):
    path = folder / 'model.safetensors'
    save_file({'weight': torch.zeros(3)}, path)
    return path


def fill_disk(folder, model):
    recorder = subprocess.Popen(
        [sys.executable, '-m', 'svp_ros.ros.recorder', folder / 'bag', '--duration', '1',
         '/depth=sensor_msgs/msg/Image'],
        env=ros_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert recorder.stdout.readline().startswith('recording')
    # The kernel refuses to let files grow beyond this, as it does on a full disk.
    resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (10, 10))
    errors = recorder.communicate(timeout=60)[1]
    return recorder.returncode, errors.strip()


def interrupt_twice(folder, model):
    return _signal_under_load(folder, model, signal.SIGINT, signal.SIGINT)


def terminate(folder, model):
    return _signal_under_load(folder, model, signal.SIGTERM)


def interrupt_loading(folder, model):
    slow = shutil.copy(model, folder / 'slow.safetensors')
    rig = Rig('-p', f'model:={slow}', log=folder / 'stderr', program=[faulty_node.__file__])
    try:
        assert rig.spin_until(lambda: 'sleeping' in rig.log.read_text(), 120)
        log_before = len(rig.log.read_text())
        rig.process.send_signal(signal.SIGINT)
        code = rig.process.wait(60)
    finally:
        rig.close()
    return code, rig.log.read_text()[log_before:]


def terminate_hanging(folder, model):
    rig = Rig('-p', f'model:={model}', '-p', 'network_height:=64', '-p', 'network_width:=96',
              log=folder / 'stderr', program=[faulty_node.__file__])
    try:
        rig.wait_until_ready()
        rig.listen('disparity')
        rig.exchange([1])
        left, right = random_pair()
        left[0, 0] = 1, 2, faulty_node.HANG
        rig.send_pair(2, (left, right))
        rig.spin_for(0.5)
        log_before = len(rig.log.read_text())
        rig.process.send_signal(signal.SIGTERM)
        code = rig.process.wait(60)
    finally:
        rig.close()
    return code, rig.log.read_text()[log_before:].strip()


def _signal_under_load(folder, model, *numbers):
    rig = Rig('-p', f'model:={model}', '-p', 'network_height:=64', '-p', 'network_width:=96',
              log=folder / 'stderr')
    try:
        rig.wait_until_ready()
        rig.listen('disparity')
        rig.exchange([1])
        driver, log_before = Driver(rig, model), len(rig.log.read_text())
        for number in numbers:
            for _ in range(5):
                driver.send()
            rig.process.send_signal(number)
        code = rig.process.wait(60)
    finally:
        rig.close()
    return code, rig.log.read_text()[log_before:]


ENDS = [
    Ending('the model does not exist', start_with(lambda folder, model: 'no_such_model'), 1,
           'stereo_node: no model "no_such_model": it is no file, and the shipped models are …'),
    Ending('the model is a folder', start_with(lambda folder, model: folder), 1,
           'stereo_node: no model "…": it is no file, and the shipped models are …'),
    Ending('the model file is cut off', start_with(cut_off), 1,
           'stereo_node: … is not a readable .safetensors file: …'),
    Ending('the model file is a pickle', start_with(pickled), 1,
           'stereo_node: … is not a readable .safetensors file: …'),
    Ending('the model file is not the one of its card', start_with(replaced), 1,
           'stereo_node: … is damaged or was replaced: its SHA-256 is …, its card model.md says '
           '…; restore the file, or correct the card'),
    Ending('the model file comes from another program', start_with(foreign), 1,
           'stereo_node: … was not written by svp_ros: its metadata lacks "format: svp_ros 1"'),
    Ending('the model is pre-trained only', start_with(lambda folder, model: 'nano_pretrained'),
           1, 'stereo_node: … is a pre-trained network, its confidence is untrained; fine-tune it '
           'first: svp finetune disparity with "start" in its config'),
    Ending('the disk is full while recording', fill_disk, 1,
           'recorder: cannot write …: … File too large; the recording is incomplete'),
    Ending('SIGINT twice under load', interrupt_twice, 0, ''),
    Ending('SIGTERM under load', terminate, 0, ''),
    Ending('SIGINT while the network loads for minutes', interrupt_loading, 0, ''),
    Ending('SIGTERM while the network hangs', terminate_hanging, 1,
           '… the pair in work is not ready after … s: cpu hangs or is overloaded; it is left '
           'behind'),
]
