"""`svp` in processes of their own, forked from one that has imported torch and Lightning."""

from multiprocessing import get_context
import os
from pathlib import Path
import resource
import signal
import sys
import time

import torch

from svp_ros.cli import main

FORKSERVER = get_context('forkserver')
FORKSERVER.set_forkserver_preload(['svp_ros.train.pretrain', 'svp_ros.train.disparity'])


class TrainingProcess:
    """`svp ... --out FOLDER --accelerator cpu --workers 0`; its output goes to FOLDER.log.

    `largest_file` limits what it may write, in bytes; `environment` is added to its variables.
    """

    def __init__(self, *command, out, largest_file=resource.RLIM_INFINITY, environment=None):
        self.out = Path(out)
        self.log = self.out.with_suffix('.log')
        argv = [*map(str, command), '--out', str(out), '--accelerator', 'cpu', '--workers', '0']
        self.process = FORKSERVER.Process(
            target=_run, args=(argv, self.log, largest_file, environment or {}), daemon=True)
        self.process.start()

    def wait(self, timeout_s=180):
        """Return the exit code."""
        self.process.join(timeout_s)
        return self.process.exitcode

    def wait_for_steps(self, steps):
        wait_for_steps(self.out, steps, lambda: self.process.exitcode is None)

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)
        self.process.join()

    def output(self):
        return self.log.read_text()


def wait_for_steps(folder, steps, runs):
    """Wait until train.csv has as many rows; `runs()` says whether there is still hope."""
    log = Path(folder) / 'train.csv'
    deadline = time.monotonic() + 240
    while not log.exists() or len(log.read_text().splitlines()) <= steps:
        assert runs() and time.monotonic() < deadline, f'no {steps} steps in time'
        time.sleep(0.01)


def load_state(folder):
    """Return what last.pt of a run folder holds."""
    return torch.load(Path(folder) / 'last.pt', weights_only=True)


def assert_equal_states(a, b):
    """Compare two checkpoints bit by bit."""
    assert a['step'] == b['step']
    for part in ('model', 'average'):
        assert all(torch.equal(a[part][name], b[part][name]) for name in a[part])
    for key in ('exp_avg', 'exp_avg_sq'):
        moments = [torch.cat([s[key].flatten() for s in x['optimizer']['state'].values()])
                   for x in (a, b)]
        assert torch.equal(*moments)


def _run(argv, log, largest_file, environment):
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    os.environ.update(environment)
    with open(log, 'a') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    torch.set_num_threads(1)
    sys.exit(main(argv))
