"""Where the time of the network goes, layer by layer."""

from collections import defaultdict
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from svp_ros.benchmark.network import load_network
from svp_ros.provenance import describe_device, find_commit


def profile_layers(model: str, size: tuple[int, int], device: str, rounds: int = 10) -> dict:
    """Time the modules of a network in eager fp32.

    Modules are timed from the outside, children included; a module's `own_ms` is what its
    children do not account for, such as matching between layers.

    Returns:
        What was measured and `layers`: in order of execution {name, ms, own_ms, gflop,
        gflop_per_s}, the median over the rounds of one pair.
    """
    network = load_network(model)[0].to(device)
    image = torch.rand(1, 3, *size, device=device)
    spent: dict[str, list[float]] = defaultdict(list)
    started: dict[str, float] = {}

    def clock() -> float:
        if image.is_cuda:
            torch.cuda.synchronize(device)
        return 1000 * time.perf_counter()

    def enter(name: str):
        return lambda *_: started.__setitem__(name, clock())

    def leave(name: str):
        return lambda *_: totals.__setitem__(
            name, totals.get(name, 0) + clock() - started[name])

    names = [name for name, _ in network.named_modules()]
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            network(image, image)
        hooks = [hook for name, module in network.named_modules() for hook in (
            module.register_forward_pre_hook(enter(name)),
            module.register_forward_hook(leave(name)))]
        for index in range(rounds + 1):
            totals: dict[str, float] = {}
            network(image, image)
            if index:
                for name, value in totals.items():
                    spent[name].append(value)
        for hook in hooks:
            hook.remove()
    flops = {name.partition('.')[2]: sum(parts.values())
             for name, parts in counter.get_flop_counts().items()}
    median = {name: float(torch.tensor(values).median()) for name, values in spent.items()}
    layers = []
    for name in names:
        if name in median:
            children = sum(value for other, value in median.items() if other and other != name
                           and other.rpartition('.')[0] == name)
            gflop = flops.get(name, 0) / 1e9
            layers.append({'name': name or 'network', 'ms': round(median[name], 3),
                           'own_ms': round(median[name] - children, 3), 'gflop': round(gflop, 4),
                           'gflop_per_s': round(1000 * gflop / median[name], 1)})
    return {'model': model, 'size': list(size), 'device': describe_device(device),
            'commit': find_commit(), 'rounds': rounds, 'layers': layers}
