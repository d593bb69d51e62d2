"""The network that runs, and how another one takes its place while the node goes on."""

from collections.abc import Callable
import ctypes
import gc
from threading import Event, Thread
from typing import Any, Optional

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter
import torch

from svp_ros.predictor import find_model, StereoPredictor
from svp_ros.ros.parameters import NodeSettings

POLL_S = 0.1


class ModelLoad:
    """Load a network on a thread and run it once, because the first time is slow.

    In the end there is a `predictor` or an `error`.

    Args:
        settings: whose `network` is loaded.
    """

    def __init__(self, settings: NodeSettings):
        self.settings = settings
        self.predictor: Optional[StereoPredictor] = None
        self.error: Optional[Exception] = None
        self.thread = Thread(target=self._run, name='model_load', daemon=True)
        self.thread.start()

    def _run(self) -> None:
        settings = self.settings
        try:
            size = settings.network_height, settings.network_width
            predictor = StereoPredictor.load(
                settings.model, device=settings.device, network_size=size, engine=settings.engine,
                precision=settings.precision)
            blank = np.zeros((*size, 3), np.uint8)
            predictor.predict(blank, blank)
            self.predictor = predictor
        except Exception as error:  # told to whoever asked for the network
            self.error = error


class ModelSwitch:
    """Holds the `predictor` that runs, and loads another when the parameters ask for it.

    A network that cannot be loaded leaves the old one in place, sets the parameters back and is
    explained in `problem`.

    Args:
        node: whose parameters and log these are; its `settings` are the wish.
        switched: called in the executor after another network has taken over.
    """

    def __init__(self, node, switched: Callable[[], None]):
        self.predictor: Optional[StereoPredictor] = None
        self.problem = ''
        self._node = node
        self._switched = switched
        self._running: Optional[NodeSettings] = None
        self._load: Optional[ModelLoad] = None
        self._threads: list[Thread] = []  # that load, whether it is still wanted or not
        self._timer = None

    @property
    def loading(self) -> str:
        """Name of the model that is being loaded; empty if none is."""
        return self._load.settings.model if self._load else ''

    @property
    def network(self) -> dict[str, Any]:
        """Parameters of the network that runs."""
        return self._running.network

    def load(self, settings: NodeSettings, given_up: Event) -> None:
        """Load the first network and wait for it.

        Raises:
            InterruptedError: If `given_up` is set meanwhile; the thread goes on.
            Exception: What StereoPredictor raises.
        """
        load = self._start(settings)
        while load.thread.is_alive():
            load.thread.join(POLL_S)
            if given_up.is_set():
                raise InterruptedError(f'stopped while {settings.model} was loading')
        self._load = None
        if load.error:
            raise load.error
        self.predictor, self._running, self.problem = load.predictor, settings, ''

    def want(self, settings: NodeSettings) -> None:
        """Begin to load the network that `settings` ask for, unless it runs or none does.

        Raises:
            FileNotFoundError: If there is no such model.
        """
        if self.predictor is None or settings.network == self._running.network:
            return
        find_model(settings.model)
        self.problem = ''
        if self._load is None:
            self._begin(settings)

    def drop(self) -> None:
        """Release the network and its memory; one that is loading will not be used."""
        self._stop_polling()
        self.predictor = self._running = self._load = None
        self.problem = ''
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if hasattr(ctypes.CDLL(None), 'malloc_trim'):
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what is freed

    def wait(self, timeout_s: float) -> bool:
        """Wait for the threads that load; return False if one goes on."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _start(self, settings: NodeSettings) -> ModelLoad:
        self._load = ModelLoad(settings)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(self._load.thread)
        return self._load

    def _begin(self, settings: NodeSettings) -> None:
        self._start(settings)
        self._timer = self._node.create_timer(POLL_S, self._poll,
                                              clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._node.get_logger().info(
            f'loading {settings.model}, {self.predictor.card["name"]} runs meanwhile')

    def _poll(self) -> None:
        load = self._load
        if load is None or load.thread.is_alive():
            return
        self._stop_polling()
        self._load = None
        wish = self._node.settings
        if load.settings.network != wish.network:
            if wish.network != self._running.network:
                self._begin(wish)
        elif load.error is None:
            self.predictor, self._running = load.predictor, load.settings
            self._switched()
        else:
            self._set_back(load)

    def _stop_polling(self) -> None:
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._timer = None

    def _set_back(self, load: ModelLoad) -> None:
        running = self._running.network
        self._node.set_parameters_atomically(
            [Parameter(name, value=value) for name, value in running.items()])
        asked = ', '.join(f'{name} {value}' for name, value in load.settings.network.items()
                          if value != running[name])
        reason = str(load.error) or type(load.error).__name__
        self.problem = (f'{asked} cannot be used, {self.predictor.card["name"]} still runs: '
                        f'{reason}')
        self._node.get_logger().error(self.problem)
