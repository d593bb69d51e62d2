"""`svp info`: versions, devices, the sizes of the network with their cost, the shipped models."""

import argparse
import json
from pathlib import Path
import platform
import time
from typing import Optional

import torch
from torch.utils.flop_counter import FlopCounterMode

import svp_ros
from svp_ros.arguments import parse_arguments
from svp_ros.model.build import build_model, read_checkpoint, SIZES
from svp_ros.predictor import choose_device, NETWORK_SIZE
from svp_ros.provenance import describe_device, find_commit
from svp_ros.resources import find_resource

PROTOTYPE = {'parameters_m': 34.6, 'gflop': 211.0}  # StereoVisionPretrain, from its README


def measure_size(name: str, device: str = 'cpu', threads: int = 1, repeats: int = 5) -> dict:
    """Parameters (millions), GFLOP and latency (ms, fp32 eager, best of `repeats`) of a pair.

    GFLOP counts a multiply-add as two operations, as the prototype's figure does.
    """
    model = build_model(SIZES[name]).to(device).eval()
    image = torch.rand(1, 3, *NETWORK_SIZE, device=device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            with FlopCounterMode(display=False) as counter:
                model(image, image)
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                model(image, image).disparity.cpu()
                times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return {'parameters_m': sum(p.numel() for p in model.parameters()) / 1e6,
            'gflop': counter.get_total_flops() / 1e9, 'latency_ms': 1e3 * min(times)}


def main(argv: Optional[list[str]] = None) -> int:
    """Entry point of `svp info`."""
    parser = argparse.ArgumentParser(prog='svp info', description=__doc__)
    parser.add_argument('--device', default='cpu', help='where latency is measured')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads for the measurement')
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    arguments = parse_arguments(parser, argv)
    if arguments.threads < 1:
        raise ValueError(f'--threads must be at least 1, got {arguments.threads}')
    device = choose_device(arguments.device)

    print(f'svp_ros {svp_ros.__version__}, Python {platform.python_version()}')
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'
    print(f'CPU: {describe_device("cpu")}; GPU: {gpu}\n')
    h, w = NETWORK_SIZE
    print(f'{"size":10} {"parameters":>10} {"GFLOP":>7} {"latency":>10}   '
          f'(one {w}x{h} pair, fp32, eager, {device}, {arguments.threads} thread(s))')
    figures = {}
    for name in SIZES:
        figures[name] = f = measure_size(name, device, arguments.threads)
        print(f'{name:10} {f["parameters_m"]:9.1f}M {f["gflop"]:7.1f} {f["latency_ms"]:7.0f} ms')
    print(f'{"prototype":10} {PROTOTYPE["parameters_m"]:9.1f}M {PROTOTYPE["gflop"]:7.1f} '
          f'{"-":>10}   (published figures of StereoVisionPretrain)\n')

    models = sorted(find_resource('models').glob('*.safetensors'))
    print('shipped models:' if models else 'shipped models: none')
    for path in models:
        state, _, notes = read_checkpoint(path)
        card = path.with_suffix('.md')
        print(f'  {path.stem}: {path.stat().st_size / 2 ** 20:.1f} MiB, {len(state)} tensors, '
              f'{", ".join(f"{k} {v}" for k, v in notes.items()) or "no notes"}; '
              f'card: {card if card.is_file() else "missing"}')
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(
            {'command': 'svp info', 'commit': find_commit(), 'device': describe_device(device),
             'threads': arguments.threads, 'height': h, 'width': w, 'sizes': figures,
             'prototype': PROTOTYPE}, indent=2) + '\n')
    return 0
