"""Child processes of the demo and the tests: start, watch the log, stop cleanly."""

from collections.abc import Sequence
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import time
from typing import Optional

from svp_ros.resources import find_resource


class ProcessError(RuntimeError):
    """A child process ended early, was late or failed; the message holds the end of its log."""


def ros_environment(domain_id: Optional[int] = None) -> dict[str, str]:
    """Return the environment of ROS 2 processes that see only each other.

    Args:
        domain_id: ROS_DOMAIN_ID, 0 to 101; None draws one.
    """
    profile = str(find_resource('config/fastdds.xml'))
    if domain_id is None:
        domain_id = random.SystemRandom().randint(1, 101)
    return {
        **os.environ, 'ROS_DOMAIN_ID': str(domain_id),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'PYTHONUNBUFFERED': '1',
        'FASTRTPS_DEFAULT_PROFILES_FILE': profile, 'FASTDDS_DEFAULT_PROFILES_FILE': profile}


class ModuleProcess:
    """`python -m module arguments...` with its output in a log file; use as a context manager.

    Leaving the context stops the process if it still runs.

    Args:
        module: name of the Python module.
        arguments: its command line.
        log: file for stdout and stderr.
        environment: all environment variables.
    """

    def __init__(self, module: str, arguments: Sequence[object], log: Path,
                 environment: dict[str, str]):
        self.module = module
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, 'wb') as stream:
            self._process = subprocess.Popen(
                [sys.executable, '-m', module, *map(str, arguments)], env=environment,
                stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)

    def __enter__(self) -> 'ModuleProcess':
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def output(self) -> str:
        """Return what the process has printed so far."""
        return self.log.read_text(errors='replace')

    def wait_for(self, text: str, timeout_s: float,
                 others: Sequence['ModuleProcess'] = ()) -> None:
        """Wait until `text` is in the log, while the others go on.

        Raises:
            ProcessError: If the process or one of the others ends first or the time is over.
        """
        deadline_s = time.monotonic() + timeout_s
        while text not in self.output():
            for other in others:
                other.check()
            if self._process.poll() is not None and text not in self.output():
                raise self.error(f'ended with exit code {self._process.returncode}')
            if time.monotonic() > deadline_s:
                raise self.error(f'did not print "{text}" within {timeout_s:g} s')
            time.sleep(0.05)

    def finish(self, timeout_s: float, others: Sequence['ModuleProcess'] = ()) -> None:
        """Wait until the process ends by itself, while the others go on.

        Raises:
            ProcessError: If it fails or takes longer, or one of the others ends.
        """
        deadline_s = time.monotonic() + timeout_s
        while self._process.poll() is None:
            for other in others:
                other.check()
            if time.monotonic() > deadline_s:
                raise self.error(f'did not end within {timeout_s:g} s')
            time.sleep(0.05)
        if self._process.returncode:
            raise self.error(f'failed with exit code {self._process.returncode}')

    def check(self) -> None:
        """Raise ProcessError if the process has ended."""
        if self._process.poll() is not None:
            raise self.error(f'ended with exit code {self._process.returncode}')

    def interrupt(self, timeout_s: float = 15.0) -> None:
        """Press Ctrl-C and wait for a clean end.

        Raises:
            ProcessError: If the process ended before, fails now, or does not end in time.
        """
        self.check()
        self._process.send_signal(signal.SIGINT)
        self.finish(timeout_s)

    def error(self, what: str, lines: int = 15) -> ProcessError:
        """Return an error that says what happened and shows the end of the log."""
        tail = '\n'.join('  | ' + line for line in self.output().splitlines()[-lines:])
        return ProcessError(f'{self.module} {what}; the end of {self.log}:\n{tail}')
