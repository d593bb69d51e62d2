"""Measure rendering: `python -m svp_ros.data.world.benchmark [--device cuda]`."""

import argparse
import json
from pathlib import Path
import sys
import time
from typing import Optional, Sequence

import torch

from svp_ros.data.world.world import KINDS, World
from svp_ros.provenance import describe_device, find_commit


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print pairs per second, of the clock and of the CPU, for each kind and the mixture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--batches', type=int, default=8)
    parser.add_argument('--size', type=int, nargs=2, default=(192, 256), metavar=('H', 'W'))
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    world = World(device=args.device)
    figures = {}
    for kind in (*KINDS, None):
        world.sample(0, args.batch, *args.size, kind)
        started, started_cpu = time.perf_counter(), time.process_time()
        for seed in range(1, args.batches + 1):
            sample = world.sample(seed, args.batch, *args.size, kind)
        sample.left.mean().item()  # waits for the GPU
        pairs = args.batch * args.batches
        rate = {'pairs_per_s': pairs / (time.perf_counter() - started),
                'pairs_per_cpu_s': pairs / (time.process_time() - started_cpu)}
        figures[kind or 'mixture'] = rate
        print(f'{kind or "mixture":8} {args.size[0]}x{args.size[1]}'
              f'  {rate["pairs_per_s"]:7.1f} pairs/s'
              f'  {rate["pairs_per_cpu_s"]:7.1f} pairs per CPU second')
    if args.json:
        command = ['python -m svp_ros.data.world.benchmark', *(argv or sys.argv[1:])]
        args.json.write_text(json.dumps(
            {'command': ' '.join(command), 'commit': find_commit(),
             'device': describe_device(args.device), 'height': args.size[0],
             'width': args.size[1], 'kinds': figures}, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
