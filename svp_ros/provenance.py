"""What a measurement must carry to be repeated: the commit, the machine and the versions."""

from importlib import metadata
import os
from pathlib import Path
import platform
import subprocess
from typing import Optional

import torch

import svp_ros

PACKAGES = ('nncf', 'numpy', 'onnxruntime', 'opencv-python', 'opencv-python-headless', 'openvino',
            'rclpy', 'ros-rclpy', 'rosbags', 'timm', 'torch')


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


def find_versions() -> dict[str, str]:
    """Return the versions of python, svp_ros and those packages of `PACKAGES` that are there."""
    versions = {'python': platform.python_version(), 'svp_ros': svp_ros.__version__}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _find_cpu_model() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else ():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.machine()
