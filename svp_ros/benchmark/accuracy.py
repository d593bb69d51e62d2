"""What each engine and precision costs in accuracy, on labelled scenes."""

from collections.abc import Sequence
import logging
from pathlib import Path

from svp_ros.data.labelled import Scene
from svp_ros.eval.disparity import evaluate_scenes
from svp_ros.predictor import StereoPredictor

logger = logging.getLogger(__name__)
# Largest relative change of the EPE against torch in fp32.
BARS = {'fp32': 0.001, 'fp16': 0.01, 'bf16': 0.01, 'int8': 0.05}


def measure_accuracy(model: str, configurations: Sequence[tuple[str, str]],
                     scenes: Sequence[Scene], size: tuple[int, int],
                     device: str) -> tuple[list[dict], dict]:
    """Score every (engine, precision) by the protocol of `svp evaluate disparity`.

    Returns:
        Rows with epe, bad_3 (means over scenes), `epe_change` against torch in fp32 and whether
        that is within its bar; and reasons of those that do not work here.
    """
    rows, missing = [], {}
    for engine, precision in dict.fromkeys([('torch', 'fp32'), *configurations]):
        try:
            predictor = StereoPredictor.load(model, device, size, engine, precision)
        except ValueError as error:
            missing[f'{engine} {precision}'] = str(error)
            continue
        mean = evaluate_scenes(predictor, scenes, sgbm=False)['mean']['model']
        change = mean['epe'] / rows[0]['epe'] - 1 if rows else 0.0
        rows.append({'model': Path(model).stem, 'engine': engine, 'precision': precision,
                     'size': list(size), 'scenes': len(scenes), 'epe': mean['epe'],
                     'bad_3': mean['bad_3'], 'epe_change': change,
                     'within_bar': change <= BARS[precision]})
        logger.info('%s %s: EPE %.3f px (%+.2f %%)', engine, precision, mean['epe'], 100 * change)
    return rows, missing
