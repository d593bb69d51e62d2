import signal

import pytest
import torch

from svp_ros.model.build import build_model, NetworkConfig, save_checkpoint

TINY = NetworkConfig(channels=(8, 8, 16, 32), blocks=(0, 0, 0, 0), heads=2, encoder_depth=1,
                     attention_depth=1, decoder_depth=1, cost_channels=16, match_groups=2,
                     refine_channels=16)


def pytest_sessionfinish(session, exitstatus):
    """`make test` runs pytest twice with two marks; few of PYTEST_ARGS have tests of both."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.option.markexpr:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope='session')
def tiny_model(tmp_path_factory):
    """Path of a checkpoint with random weights that runs in milliseconds."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('models') / 'tiny.safetensors'
    save_checkpoint(path, build_model(TINY).state_dict(), TINY)
    return path


@pytest.fixture
def signal_handlers():
    """Put the handlers back that a node in this process replaces."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
