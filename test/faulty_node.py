"""stereo_node with a network and a callback that fail on purpose, where a message asks for it.

The first pixel of the left image, (1, 2, n), asks for failure n of the network; the frame_id
"raise" in a camera_info lets the callback fail; a model called slow loads for minutes.
Diagnostics come four times a second and call a pair stuck after 2 s; a pair that hangs when the
process ends is left after 1 s.
"""

from dataclasses import replace
from pathlib import Path
import sys
import time

import numpy as np
import torch

from svp_ros.predictor import StereoPredictor
from svp_ros.rig import StereoRig
from svp_ros.ros import diagnostics, node

sys.modules['cv_bridge'] = None  # where it is installed, it has words of its own for bad encodings
OUT_OF_MEMORY, DIVISION, HOST_MEMORY, NOT_A_NUMBER, NOTHING_VALID, HANG = range(1, 7)
HANG_S, LOAD_S = 4.0, 300.0


def predict(self, left, right, camera=None, predict=StereoPredictor.predict):
    failure = left[0, 0, 2] if left.ndim == 3 and (left[0, 0, :2] == (1, 2)).all() else 0
    if failure == OUT_OF_MEMORY:
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB.')
    if failure == DIVISION:
        raise ZeroDivisionError('division by zero')
    if failure == HOST_MEMORY:
        raise MemoryError
    if failure == HANG:
        time.sleep(HANG_S)
    result = predict(self, left, right, camera)
    if failure == NOT_A_NUMBER:
        return replace(result, disparity_filled=result.disparity_filled * np.float32(np.nan))
    if failure == NOTHING_VALID:
        return replace(result, disparity=result.disparity * np.float32(np.nan))
    return result


def load(model, *arguments, load=StereoPredictor.load, **keys):
    if Path(model).stem == 'slow':
        print('sleeping', file=sys.stderr, flush=True)
        time.sleep(LOAD_S)
    return load(model, *arguments, **keys)


def update(self, side, info, update=StereoRig.update):
    if info.header.frame_id == 'raise':
        raise KeyError('camera_info')
    update(self, side, info)


if __name__ == '__main__':
    node.DIAGNOSTICS_PERIOD_S, diagnostics.STUCK_S, node.STOP_S = 0.25, 2.0, 1.0
    StereoPredictor.load, StereoPredictor.predict, StereoRig.update = load, predict, update
    sys.exit(node.main())
