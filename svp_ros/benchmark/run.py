"""Run the parts of a benchmark that were asked for."""

import argparse
import json
import logging
from pathlib import Path

import torch

from svp_ros.benchmark.bars import fastest, judge

logger = logging.getLogger(__name__)


class Benchmark:
    """Runs parts; later ones use what earlier ones found.

    Args:
        arguments: of the command.
        device: cpu, cuda or cuda:N.
        header: what was measured on; the figures join it in `result`.
    """

    def __init__(self, arguments: argparse.Namespace, device: str, header: dict):
        self.arguments = arguments
        self.device = device
        self.result = {**header, 'not_measured': {}}
        self.configurations = [(engine, precision) for engine in arguments.engines
                               for precision in arguments.precisions]
        self.size = arguments.network_size[0]
        self.model = arguments.model[0]
        self.scenes = []
        if arguments.accuracy:
            from svp_ros.data.labelled import find_scenes
            self.scenes = find_scenes(arguments.accuracy)
            if arguments.scenes:
                self.scenes = self.scenes[::-(-len(self.scenes) // arguments.scenes)]

    def run(self) -> dict:
        """Run everything that was asked for; returns the result."""
        if torch.device(self.device).type == 'cuda':
            torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32
        extra = [part for part in ('profile', 'accuracy') if getattr(self.arguments, part)]
        for part in (*self.arguments.parts, *extra):
            try:
                getattr(self, f'_{part}')()
            except (OSError, ValueError, RuntimeError) as error:  # what was measured is kept
                logger.warning('%s: %s', part, error)
                reason = str(error) or type(error).__name__
                self.result['not_measured'][part] = reason.splitlines()[0]
        self.result['bars'] = judge(self.result)
        return self.result

    def _network(self) -> None:
        from svp_ros.benchmark.network import measure_networks
        measured = measure_networks(
            self.arguments.model, self.configurations, self.size, self.device,
            self.arguments.rounds, not self.arguments.no_stand_in, self.arguments.peers)
        self.result['not_measured'] |= measured.pop('not_measured')
        self.result |= measured

    def _predictor(self) -> None:
        from svp_ros.benchmark.network import measure_predictor
        self.result['predictor'] = []
        for model in self.arguments.model:
            try:
                for engine, precision in self._chosen(model):
                    self.result['predictor'] += measure_predictor(
                        model, self.device, self.size, engine, precision,
                        self.arguments.input_size, self.arguments.rounds)
            except (FileNotFoundError, ValueError, RuntimeError) as error:
                self.result['not_measured'][f'predictor {Path(model).stem}'] = str(error)

    def _scaling(self) -> None:
        from svp_ros.benchmark.network import measure_scaling
        # int8 would be calibrated for every size
        self.result['scaling'], missing = measure_scaling(
            self.model, self._chosen(self.model, int8=False), self.arguments.network_size,
            self.arguments.batch, self.device, self.arguments.rounds)
        self.result['not_measured'] |= missing

    def _node(self) -> None:
        from svp_ros.benchmark.network import measure_predictor
        from svp_ros.benchmark.node import measure_cameras, measure_node, measure_overhead
        arguments = self.arguments
        input_size = arguments.input_size[0]
        settings = [{'model': self.model, 'device': self.device, 'engine': engine,
                     'precision': precision, 'network_height': self.size[0],
                     'network_width': self.size[1], 'num_threads': arguments.threads}
                    for engine, precision in self._chosen(self.model)]
        self.result['node'] = [row for each in settings for row in measure_node(
            each, input_size, arguments.seconds)]
        fast = settings[-1]
        self.result['cameras'] = measure_cameras(fast, arguments.cameras, input_size,
                                                 arguments.seconds)
        stages = measure_predictor(self.model, self.device, self.size, fast['engine'],
                                   fast['precision'], arguments.input_size, arguments.rounds)
        self.result['overhead'], missing = measure_overhead(fast, stages, arguments.seconds)
        self.result['not_measured'] |= missing

    def _profile(self) -> None:
        from svp_ros.benchmark.profile import profile_layers
        path = self.arguments.profile
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(profile_layers(
            self.model, self.size, self.device, self.arguments.rounds), indent=2) + '\n')

    def _accuracy(self) -> None:
        from svp_ros.benchmark.accuracy import measure_accuracy
        self.result['accuracy'], missing = measure_accuracy(
            self.model, self.configurations, self.scenes, self.size, self.device)
        self.result['not_measured'] |= missing

    def _chosen(self, model: str, int8: bool = True) -> list[tuple[str, str]]:
        """Return the first configuration that works and, where it was measured, the fastest."""
        name = Path(model).stem
        first = next((configuration for configuration in self.configurations if ' '.join(
            (name, *configuration)) not in self.result['not_measured']), self.configurations[0])
        best = fastest(self.result, name, int8)
        return list(dict.fromkeys([first, *(
            [(best['engine'], best['precision'])] if best else [])]))
