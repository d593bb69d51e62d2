"""What a pass must take at least: its operations and bytes, at rates measured on the device."""

import time

import torch
from torch import nn, Tensor
from torch.nn.attention import sdpa_kernel, SDPBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, FlopCounterMode

from svp_ros.engine.torch_engine import DTYPES

MATRIX = {'cpu': 1024, 'cuda': 8192}  # side of the square matrices
COPY_BYTES = {'cpu': 2 ** 27, 'cuda': 2 ** 31}  # beyond every cache
RUNS = 5


class _Traffic(TorchDispatchMode):
    """Counts what convolutions and matrix products read and write."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if getattr(function, 'overloadpacket', None) in flop_registry:
            self.bytes += sum(tensor.nbytes for tensor in tree_leaves((args, kwargs, result))
                              if isinstance(tensor, Tensor))
        return result


def count_cost(network: nn.Module, *inputs: Tensor) -> tuple[float, float]:
    """Operations and bytes of one pass in fp32.

    Returns:
        GFLOP, a multiply-add being two operations, and the GB that convolutions and matrix
        products read and write; everything else could be fused with them.
    """
    # the kernels of fused attention are not counted
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _Traffic() as traffic:
        with FlopCounterMode(display=False) as counter:
            network(*inputs)
    return counter.get_total_flops() / 1e9, traffic.bytes / 1e9


def measure_rates(device: str, precisions: list[str]) -> dict:
    """Measure what the device does at best.

    Returns:
        `copy_gb_per_s`, read and written bytes of a large copy, and `gflop_per_s` by precision,
        of a large matrix product in PyTorch; int8 has none.
    """
    kind = torch.device(device).type
    source = torch.ones(COPY_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = _best_time(lambda: target.copy_(source), device)
    n, rates = MATRIX[kind], {}
    for precision in precisions:
        if precision in DTYPES and (kind, precision) != ('cpu', 'fp16'):
            matrix = torch.randn(n, n, device=device).to(DTYPES[precision])
            rates[precision] = 2 * n ** 3 / 1e9 / _best_time(lambda m=matrix: m @ m, device)
    return {'copy_gb_per_s': 2 * source.nbytes / 1e9 / copy_s, 'gflop_per_s': rates}


def add_floor(row: dict, gflop: float, gigabytes: float, rates: dict) -> None:
    """Write beside a row what its pass would take at the measured rates: its roofline.

    Args:
        row: with precision, batch and p50_ms.
        gflop: of one pair.
        gigabytes: of one pair in fp32.
        rates: of `measure_rates`.
    """
    row['gflop'] = gflop
    rate = rates['gflop_per_s'].get(row['precision'])
    if rate is None:
        return
    share = DTYPES[row['precision']].itemsize / DTYPES['fp32'].itemsize
    row['compute_ms'] = 1000 * row['batch'] * gflop / rate
    row['memory_ms'] = 1000 * row['batch'] * gigabytes * share / rates['copy_gb_per_s']
    row['times_floor'] = row['p50_ms'] / max(row['compute_ms'], row['memory_ms'])


def _best_time(run, device: str) -> float:
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        run()
        if torch.device(device).type == 'cuda':
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
