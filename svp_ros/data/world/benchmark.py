"""Measure rendering: `python -m svp_ros.data.world.benchmark [--device cuda]`."""

import argparse
import time
from typing import Optional, Sequence

import torch

from svp_ros.data.world.world import KINDS, World


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print pairs per second, of the clock and of the CPU, for each kind and the mixture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--batches', type=int, default=8)
    parser.add_argument('--size', type=int, nargs=2, default=(192, 256), metavar=('H', 'W'))
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    world = World(device=args.device)
    for kind in (*KINDS, None):
        world.sample(0, args.batch, *args.size, kind)
        started, started_cpu = time.perf_counter(), time.process_time()
        for seed in range(1, args.batches + 1):
            sample = world.sample(seed, args.batch, *args.size, kind)
        sample.left.mean().item()  # waits for the GPU
        pairs = args.batch * args.batches
        print(f'{kind or "mixture":8} {args.size[0]}x{args.size[1]}'
              f'  {pairs / (time.perf_counter() - started):7.1f} pairs/s'
              f'  {pairs / (time.process_time() - started_cpu):7.1f} pairs per CPU second')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
