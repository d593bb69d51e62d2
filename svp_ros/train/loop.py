"""The flat training loop on Lightning Fabric: any device, any number of processes, resumable."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import csv
from dataclasses import dataclass
from io import BytesIO
import logging
import math
from pathlib import Path
import time
from typing import NoReturn, Optional

from lightning.fabric import Fabric
import torch
from torch import distributed, nn, Tensor
from tqdm import tqdm

from svp_ros.data.transforms import Batch
from svp_ros.files import replace_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """Optimisation and book-keeping.

    Args:
        steps: optimiser steps of the whole schedule.
        learning_rate: of AdamW, constant between warm-up and cool-down; so `steps` may change
            when a run is resumed.
        weight_decay: of AdamW.
        warmup_steps: steps of linear increase at the start.
        cooldown: share of the steps, at the end, of linear decrease to zero.
        clip: largest gradient norm.
        freeze_statistics: steps after which BatchNorm keeps its running statistics and training
            sees what inference sees; matters for small batches. 0: never.
        average: decay per step of the averaged weights that are validated and shipped.
        log_every: steps between two lines of train.csv.
        validate_every: steps between two validations.
        save_every_s: seconds between two checkpoints.
    """

    steps: int = 20000
    learning_rate: float = 8e-4
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    cooldown: float = 0.3
    clip: float = 1.0
    freeze_statistics: int = 0
    average: float = 0.999
    log_every: int = 50
    validate_every: int = 1000
    save_every_s: float = 300.0

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f'steps must be at least 1, got {self.steps}')
        if not 0 < self.learning_rate < 1:
            raise ValueError(f'learning_rate must lie in (0, 1), got {self.learning_rate}')
        for name in ('log_every', 'validate_every'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')
        for name in ('cooldown', 'average'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} must lie in [0, 1], got {getattr(self, name)}')
        for name in ('clip', 'weight_decay', 'warmup_steps', 'freeze_statistics',
                     'save_every_s'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name} must not be negative, got {getattr(self, name)}')

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of the update that follows `step` finished ones."""
        rise = (step + 1) / max(self.warmup_steps, 1)
        fall = (self.steps - step) / max(self.cooldown * self.steps, 1)
        return self.learning_rate * min(1.0, rise, fall)


class NonFiniteLossError(ValueError):
    """The loss or its gradient became NaN or infinite; the last checkpoint is from before."""


class WeightAverage:
    """Exponential moving average of a model's weights and buffers."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.state = {name: x.detach().clone() for name, x in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights; faster in the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, x in model.state_dict().items():
            if x.is_floating_point():
                self.state[name].lerp_(x, 1 - decay)
            else:
                self.state[name].copy_(x)


@dataclass
class TrainingRun:
    """A model in training: what a checkpoint has to hold to continue exactly.

    Args:
        model: network with fresh or transferred weights, on the CPU.
        config: optimisation settings.
        folder: run folder; last.pt, train.csv and validate.csv are kept there.
        fabric: launched Fabric.
        samples: pairs that the weights have seen, in all runs and processes.
    """

    model: nn.Module
    config: LoopConfig
    folder: Path
    fabric: Fabric
    samples: int = 0

    def __post_init__(self):
        c = self.config
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=c.learning_rate,
                                      weight_decay=c.weight_decay)
        self.wrapped, self.optimizer = self.fabric.setup(self.model, optimizer)
        self.average = WeightAverage(self.model, c.average)
        self.step = 0
        self.stopping = False
        self.failure: Optional[Exception] = None

    def stop(self) -> None:
        """Ask for an end after the step in progress, of all processes; for signal handlers."""
        self.stopping = True

    def save(self) -> None:
        """Write last.pt; the previous one survives until the new one is complete.

        Raises:
            OSError: If it cannot be written.
        """
        if not self.fabric.is_global_zero:
            return
        state = {'model': self.model.state_dict(), 'average': self.average.state,
                 'optimizer': self.optimizer.state_dict(), 'step': self.step,
                 'samples': self.samples}
        content = BytesIO()
        torch.save(state, content)
        replace_file(self.folder / 'last.pt', content.getbuffer())

    def resume(self) -> None:
        """Continue from last.pt.

        Raises:
            FileNotFoundError: If the folder holds no checkpoint.
            ValueError: If it belongs to another network.
        """
        path = self.folder / 'last.pt'
        if not path.is_file():
            raise FileNotFoundError(f'nothing to resume: no {path}; start without --resume')
        state = torch.load(path, map_location='cpu', weights_only=True)
        if 'samples' not in state:
            raise ValueError(f'{path} was written by an older version; start again, with its '
                             'average.safetensors as "start" in the config')
        try:
            self.model.load_state_dict(state['model'])
        except RuntimeError as error:
            raise ValueError(f'{path} belongs to another network: '
                             f'{str(error).splitlines()[1].strip()}') from error
        self.average.state = self.fabric.to_device(state['average'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.step, self.samples = state['step'], state['samples']
        if self.fabric.is_global_zero:
            for kind in ('train', 'validate'):
                _drop_rows_after(self.folder / f'{kind}.csv', self.step)

    def train(self, batches: Iterator[Batch],
              losses: Callable[[nn.Module, Batch], dict[str, Tensor]],
              validate: Optional[Callable[[dict[str, Tensor], int], dict[str, float]]] = None,
              ) -> None:
        """Run until the last step of the schedule.

        Args:
            batches: batches of the steps self.step, self.step + 1, ..., each with `left`.
            losses: (model, batch) -> weighted terms of the loss.
            validate: averaged weights and samples seen -> metrics; None on all processes but the
                first.

        Raises:
            NonFiniteLossError: If the loss or its gradient is NaN or infinite.
            OSError, ValueError: If batches cannot be read, or a checkpoint or log be written.
            KeyboardInterrupt: After `stop()`, when the step is finished and saved.
            SystemExit: In all processes but the first, which says what went wrong in any.
        """
        with tqdm(initial=self.step, total=self.config.steps, unit='step', dynamic_ncols=True,
                  disable=not self.fabric.is_global_zero, mininterval=5) as bar:
            self._train(batches, losses, validate, bar)

    def _train(self, batches: Iterator[Batch], losses: Callable, validate: Optional[Callable],
               bar: tqdm) -> None:
        c = self.config
        self._set_training()
        saved = began = time.monotonic()
        waited, sums, count = 0.0, {}, 0
        while self.step < c.steps:
            asked = time.monotonic()
            with self._noting_failure():
                batch = self.fabric.to_device(next(batches))
            waited += time.monotonic() - asked
            self._end_together()

            terms = losses(self.wrapped, batch)
            loss = torch.stack(list(terms.values())).sum()
            self.optimizer.zero_grad()
            self.fabric.backward(loss)
            norm = self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=c.clip,
                                              error_if_nonfinite=False)
            self._check_finite(loss, norm, terms)
            for group in self.optimizer.param_groups:
                group['lr'] = c.learning_rate_at(self.step)
            self.optimizer.step()
            self.step += 1
            self.samples += len(batch['left']) * self.fabric.world_size
            if self.step == c.freeze_statistics:
                self._set_training()
            self.average.update(self.model, self.step)
            bar.update()

            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.detach()
            count += 1
            with self._noting_failure():
                if self.step % c.log_every == 0 or self.step == c.steps:
                    means = {name: (total / count).item() for name, total in sums.items()}
                    mean, data_s = math.fsum(means.values()), waited / count
                    step_s = (time.monotonic() - began) / count
                    self._log('train', samples=self.samples, loss=mean, **means,
                              learning_rate=self.optimizer.param_groups[0]['lr'],
                              step_s=step_s, data_s=data_s)
                    bar.set_postfix({'loss': f'{mean:.3g}', 'data_ms': f'{1000 * data_s:.1f}',
                                     'step_ms': f'{1000 * step_s:.1f}'})
                    began, waited, sums, count = time.monotonic(), 0.0, {}, 0
                if self.step % c.validate_every == 0 or self.step == c.steps:
                    paused = time.monotonic()
                    if validate:
                        self._log('validate', **validate(self.average.state, self.samples))
                    self.save()  # not before: a run killed while it validates validates again
                    saved = time.monotonic()
                    began += saved - paused
                elif time.monotonic() - saved > c.save_every_s:
                    self.save()
                    saved = time.monotonic()
        self._end_together()

    def _set_training(self) -> None:
        self.wrapped.train()
        if 0 < self.config.freeze_statistics <= self.step:
            for module in self.wrapped.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def _check_finite(self, loss: Tensor, norm: Tensor, terms: dict[str, Tensor]) -> None:
        # the norm is that of the gradients of all processes, so that they notice together
        wrong = {name: x.item() for name, x in (('loss', loss), ('gradient norm', norm))
                 if not torch.isfinite(x)}
        if not wrong:
            return
        what, value = next(iter(wrong.items()))
        advice = 'start again' if not (self.folder / 'last.pt').exists() else (
            f'continue from {self.folder / "last.pt"} with --resume')
        self._leave(NonFiniteLossError(
            f'{what} is {value} at step {self.step + 1} '
            f'({", ".join(f"{name} {term.item():.3g}" for name, term in terms.items())}); '
            f'{advice} and a lower learning_rate than {self.config.learning_rate}'))

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Keep an error of this process until `_end_together`: the others wait for it there."""
        try:
            yield
        except (OSError, ValueError) as error:
            self.failure = self.failure or error

    def _end_together(self) -> None:
        """End all processes if one of them failed or was told to stop before the last step."""
        stopping = self.stopping and self.step < self.config.steps
        failures = [self.failure]
        if self.fabric.world_size > 1:
            wish = torch.tensor(float(stopping or self.failure is not None))
            if not self.fabric.all_reduce(wish, reduce_op='sum'):
                return
            failures = [None] * self.fabric.world_size
            distributed.all_gather_object(failures, self.failure)
        elif not stopping and not self.failure:
            return
        failure = next(filter(None, failures), None)
        if failure:
            self._leave(failure)
        self.save()
        if self.fabric.is_global_zero:
            log.info('stopped after step %d; continue with --resume', self.step)
        self._leave(KeyboardInterrupt())

    def _leave(self, reason: BaseException) -> NoReturn:
        """End all processes at the same step; the first one alone says why."""
        raise reason if self.fabric.is_global_zero else SystemExit

    def _log(self, kind: str, **values: float) -> None:
        if not self.fabric.is_global_zero:
            return
        self.fabric.log_dict({f'{kind}/{name}': x for name, x in values.items()}, self.step)
        path = self.folder / f'{kind}.csv'
        row = {'step': self.step, **{name: f'{x:.6g}' for name, x in values.items()}}
        fresh = not path.exists()
        with path.open('a', newline='') as file:
            writer = csv.DictWriter(file, row, lineterminator='\n')
            if fresh:
                writer.writeheader()
            writer.writerow(row)


def _drop_rows_after(path: Path, step: int) -> None:
    """Forget logged steps that a resumed run will do again."""
    if not path.exists():
        return
    lines = path.read_text().splitlines()
    commas = lines[0].count(',') if lines else 0
    # a full disk may have cut the last row
    kept = [row for row in lines[1:]
            if row.count(',') == commas and int(row.split(',', 1)[0]) <= step]
    if kept:
        replace_file(path, '\n'.join([lines[0], *kept, '']).encode())
    else:
        path.unlink()
