"""`svp finetune detection`: teach a disparity network to see objects in 3D."""

import argparse
from dataclasses import dataclass, field, replace
import logging
from pathlib import Path
from typing import Optional

from lightning.fabric import seed_everything
import torch
from torch import nn, Tensor

from svp_ros.boxes import LabelledBoxes
from svp_ros.config import load_config
from svp_ros.data.labelled import find_scenes
from svp_ros.data.labelled_frames import find_frames, LabelledFrame
from svp_ros.data.labelled_stream import LabelledStream, MixedStream
from svp_ros.data.stream import batches, StreamConfig, WorldStream
from svp_ros.model.build import build_model, get_size, NetworkConfig, ObjectClass
from svp_ros.model.detection import CELL
from svp_ros.train.detection_losses import detection_losses, detection_targets
from svp_ros.train.detection_validation import Objects
from svp_ros.train.disparity import Validation
from svp_ros.train.loop import LoopConfig
from svp_ros.train.losses import at_stride, disparity_losses
from svp_ros.train.own_labels import describe_labels, load_teacher, measure_classes, teach
from svp_ros.train.runs import (
    add_run_options,
    check_precision,
    make_fabric,
    open_run,
    refuse_options,
    settle_config,
    start_network,
    use_photographs,
)

log = logging.getLogger(__name__)

# Mean sizes of KITTI's labels, metres.
KITTI_CLASSES = (ObjectClass('Car', 3.88, 1.53, 1.63),
                 ObjectClass('Pedestrian', 0.84, 1.76, 0.66),
                 ObjectClass('Cyclist', 1.76, 1.74, 0.60))


@dataclass(frozen=True)
class DetectionTraining:
    """One experiment; `config/train/detection_*.yaml` override these defaults.

    Args:
        size: nano, small or base.
        start: checkpoint (path or name in models/) of a disparity network, or of one that is
            pre-trained, whose weights are the start; None: fresh weights.
        classes: objects to find and their mean sizes.
        data: folder of labelled frames to train on beside the world; None: the world alone.
        split: text file with the names of its frames that are for training; None: all.
        data_batch: labelled frames per step and process, beside the world's `stream.batch`.
        disparity_weight: of the disparity's losses beside those of the boxes.
        seed: seed of weights, world and augmentation.
        precision: 32-true or bf16-mixed.
        validation_pairs: fixed world pairs of which every validation scores the disparity.
        validation_streets: fixed rendered streets of which it scores the boxes.
        stream: data.
        loop: optimisation.
    """

    size: str = 'nano'
    start: Optional[str] = None
    classes: tuple[ObjectClass, ...] = KITTI_CLASSES
    data: Optional[str] = None
    split: Optional[str] = None
    data_batch: int = 2
    disparity_weight: float = 1.0
    seed: int = 0
    precision: str = 'bf16-mixed'
    validation_pairs: int = 32
    validation_streets: int = 48
    stream: StreamConfig = field(default_factory=StreamConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self):
        get_size(self.size)
        check_precision(self.precision)
        if not self.classes:
            raise ValueError('classes must name at least one class of objects')
        if self.data is None and self.split is not None:
            raise ValueError('split names frames of data, which is missing')
        for name in ('data_batch', 'validation_pairs', 'validation_streets'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')

    @property
    def network(self) -> NetworkConfig:
        """Architecture with the detection head."""
        return replace(get_size(self.size), classes=self.classes)


def losses_of_batch(model: nn.Module, batch: dict[str, Tensor], mean_sizes: Tensor,
                    disparity_weight: float, teacher: Optional[nn.Module] = None
                    ) -> dict[str, Tensor]:
    """Weighted terms of the loss of one batch.

    Args:
        model: with a detection head.
        batch: of `LabelledStream` or of a `WorldStream` with boxes.
        mean_sizes: (classes, 3) metres.
        disparity_weight: of the disparity's terms.
        teacher: gives the disparity of samples that have none.
    """
    if teacher is not None:
        batch = teach(teacher, batch)
    output = model(batch['left'], batch['right'])
    disparity, valid, camera = batch['disparity'], batch['valid'], batch['camera']
    losses = {name: disparity_weight * x for name, x in disparity_losses(
        output, disparity, valid, batch['occluded']).items()}
    maps = output.detection
    targets = detection_targets(batch['boxes'], camera, mean_sizes, *maps.shape[-2:])
    return losses | detection_losses(maps, targets, camera, at_stride(disparity, CELL),
                                     at_stride(valid, CELL))


def main(argv: Optional[list[str]] = None) -> int:
    """Entry point of `svp finetune detection`."""
    parser = argparse.ArgumentParser(
        prog='svp finetune detection', description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_run_options(parser, 'config/train/detection_small.yaml for a GPU')
    parser.add_argument('--data', help='folder of your own labelled frames, laid out as KITTI '
                        'or as svp render writes them; overrides the config')
    parser.add_argument('--split', help='text file with the names of the frames to train on')
    parser.add_argument('--classes', nargs='+', help='names of the classes to find, as the labels '
                        'of --data call them; their mean sizes are taken from the labels')
    parser.add_argument('--start', help='model to start from; overrides the config')
    parser.add_argument('--labelled', type=Path, help='folder of scenes with disparity, see '
                        '`svp evaluate disparity`; they are scored at every validation')
    arguments = parser.parse_args(argv)
    if arguments.resume and not arguments.config:
        refuse_options(parser, arguments, '--resume without --config keeps the settings of the '
                       'run', 'photographs', 'data', 'split', 'classes', 'start')
    folder = arguments.out
    config, frames, labels = _settle(arguments)
    scenes = find_scenes(arguments.labelled) if arguments.labelled else []
    stream = replace(config.stream, boxes=config.network.class_names)
    if frames:
        log.info(describe_labels(labels, config.network.class_names))
    folder.mkdir(parents=True, exist_ok=True)

    fabric = make_fabric(arguments.accelerator, arguments.devices, config.precision, folder,
                         arguments.nodes)
    seed_everything(config.seed, verbose=False)
    model, samples = start_network(build_model, config.network, config.start, arguments.resume)
    teacher = load_teacher(config.start, folder, arguments.resume) if frames else None
    run = open_run(model, config.loop, folder, fabric, config, arguments.resume, samples)

    on_gpu = fabric.device.type == 'cuda' and arguments.cache is None
    data = MixedStream(
        WorldStream(stream, config.seed, str(fabric.device) if on_gpu else 'cpu',
                    arguments.cache, fabric.global_rank),
        LabelledStream(frames, stream, config.data_batch, config.seed, fabric.global_rank)
        if frames else None)
    mean_sizes = torch.tensor([item.size for item in config.classes], device=fabric.device)
    if teacher is not None:
        teacher.to(fabric.device)

    validate = None
    if fabric.is_global_zero:
        disparity = Validation(config.stream, config.validation_pairs, config.network, folder,
                               fabric.device, scenes)
        objects = Objects(config.classes, config.stream, config.validation_streets, folder)

        def validate(weights: dict[str, Tensor], seen: int) -> dict[str, float]:
            metrics = disparity(weights, seen)
            return metrics | objects(disparity.model, fabric.device)
    run.train(batches(data, run.step, config.loop.steps, 0 if on_gpu else arguments.workers),
              lambda model, batch: losses_of_batch(model, batch, mean_sizes,
                                                   config.disparity_weight, teacher), validate)
    if fabric.is_global_zero:
        print(f'trained {config.loop.steps} steps; weights: {folder / "average.safetensors"}')
    return 0


def _settle(arguments: argparse.Namespace
            ) -> tuple[DetectionTraining, list[LabelledFrame], list[LabelledBoxes]]:
    """Return the settings, the labelled frames that they name, and the boxes of these.

    The command line wins over the file.
    """
    config = use_photographs(load_config(DetectionTraining, arguments.config),
                             arguments.photographs)
    given = {name: getattr(arguments, name) for name in ('data', 'split', 'start')
             if getattr(arguments, name)}
    config = replace(config, **given)
    if arguments.classes and not config.data:
        raise ValueError('--classes takes the sizes from labels; name their folder with --data')
    keeps_own = arguments.resume and not arguments.config
    if keeps_own:
        config = settle_config(config, arguments.out, resume=True, given=False)
    frames = find_frames(config.data, config.split) if config.data else []
    labels = [frame.read_boxes() for frame in frames]
    if arguments.classes:
        config = replace(config, classes=measure_classes(labels, arguments.classes))
    if not keeps_own:
        config = settle_config(config, arguments.out, arguments.resume, given=True)
    return config, frames, labels
