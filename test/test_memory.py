"""Memory is kept for the next frame; in processes of their own, since it cannot be undone."""

import platform
import subprocess
import sys

import pytest

from svp_ros.memory import keep_freed_memory

COUNT_FAULTS = """
import resource, sys, threading
import numpy as np
from svp_ros.memory import keep_freed_memory

def frames(count):
    for _ in range(count):
        arrays = [np.ones(5_000_000, np.uint8) for _ in range(3)]

def count_faults():
    frames(3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    frames(20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[1] == 'keep':
    assert keep_freed_memory()
thread = threading.Thread(target=count_faults)  # as the worker's
thread.start()
thread.join()
"""


def faults(mode):
    return int(subprocess.run([sys.executable, '-c', COUNT_FAULTS, mode], check=True, text=True,
                              capture_output=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='of glibc alone')
def test_frames_cause_no_page_faults_once_memory_is_kept():
    returned, kept = faults('return'), faults('keep')
    print(f'{returned} page faults, {kept} with memory kept')
    assert kept < 500 < returned


def test_a_c_library_without_it_is_left_alone(monkeypatch):
    monkeypatch.setattr('ctypes.CDLL', lambda name: object())
    assert not keep_freed_memory()
