"""Measure rendering: `python -m svp_ros.data.world.benchmark [--device cuda]`."""

import argparse
import time
from typing import Optional, Sequence

import torch

from svp_ros.data.world.world import KINDS, World


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print pairs per second for each kind of scene and for the default mixture."""
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
        started = time.perf_counter()
        for seed in range(1, args.batches + 1):
            sample = world.sample(seed, args.batch, *args.size, kind)
        sample.left.mean().item()  # waits for the GPU
        rate = args.batch * args.batches / (time.perf_counter() - started)
        print(f'{kind or "mixture":8} {args.size[0]}x{args.size[1]}  {rate:7.1f} pairs/s')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
