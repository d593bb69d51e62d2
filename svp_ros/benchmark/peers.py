"""Other people's networks as baselines, where the user can import them."""

from collections.abc import Callable
from importlib import import_module

import torch


def load_peer(name: str, device: str, height: int, width: int) -> Callable[[], object]:
    """Prepare the pass of a peer on a pair of noise.

    Args:
        name: `module:function`; function(device) returns a callable that takes left and right,
            (1, 3, H, W) float32 RGB in [0, 1] on the device.
        device: cpu, cuda or cuda:N.
        height: of the pair.
        width: of the pair.

    Raises:
        ValueError: If it cannot be imported or does not run.
    """
    module, colon, function = name.partition(':')
    if not colon:
        raise ValueError(f'a peer is module:function, got "{name}"')
    image = torch.rand(1, 3, height, width, device=device)
    try:
        peer = getattr(import_module(module), function)(device)

        def run() -> None:
            with torch.inference_mode():
                peer(image, image)
            if image.is_cuda:
                torch.cuda.synchronize(device)
        run()
    except Exception as error:  # of other people's code, which may fail in any way
        raise ValueError(f'{type(error).__name__}: {error}') from error
    return run
