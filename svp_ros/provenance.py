"""What a measurement must carry to be repeated: the commit and the machine."""

import os
from pathlib import Path
import platform
import subprocess
from typing import Optional

import torch

import svp_ros


def find_commit() -> Optional[str]:
    """Return the commit of the source tree, with "-dirty" after local changes; else None."""
    root = Path(svp_ros.__file__).resolve().parent.parent
    if not (root / 'package.xml').is_file():
        return None
    git = ['git', '-C', str(root), 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe_device(device: str) -> str:
    """Name the GPU or CPU behind a torch device, with the version of torch."""
    if device.startswith('cuda'):
        name = torch.cuda.get_device_name(device)
    else:
        name = f'{_find_cpu_model()}, {torch.get_num_threads()} of {os.cpu_count()} threads'
    return f'{name}, torch {torch.__version__}'


def _find_cpu_model() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else ():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.machine()
