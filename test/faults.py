"""Every fault that test_faults.py provokes, with what the node does and says: docs/reliability.md.

`python test/faults.py > docs/reliability.md` writes that file.
"""

from collections.abc import Callable
from dataclasses import dataclass
import math
import struct

from endings import ENDS
from fault_driver import Driver, S, SIDES
import faulty_node
import numpy as np
from rclpy.serialization import serialize_message
from stereo_rig import random_pair


@dataclass(frozen=True)
class Fault:
    """One fault of a camera or of the node, and the reaction to it.

    Args:
        name: what is wrong.
        provoke: one round of it; called with the driver until the node has said what it must.
        published: what comes out meanwhile, in words; "every pair" is tried with three more.
        says: the whole text, with … for what varies.
        where: status in /diagnostics, or log.
        level: OK, WARN or ERROR of that status.
        answered: whether a pair comes back at all, once the node has noticed the fault.
        check: what an answer must fulfil.
        begin: called with the driver before.
        undo: called with the driver afterwards.
    """

    name: str
    provoke: Callable
    published: str
    says: str
    where: str = 'images'
    level: str = 'WARN'
    answered: bool = True
    check: Callable = lambda message: True
    begin: Callable = lambda driver: None
    undo: Callable = lambda driver: None


def set_fields(sides=SIDES, **values):
    """An edit that sets fields of the messages of some sides."""
    def edit(side, message):
        for name, value in values.items() if side in sides else ():
            setattr(message, name, value)
    return edit


def set_p(values, sides=('right',)):
    """An edit of elements of the projection matrix."""
    def edit(side, info):
        for index, value in values.items() if side in sides else ():
            info.p[index] = value
    return edit


def damage(side, image):
    """Let the data claim to be longer than the message, on the wire."""
    if side == 'left':
        return None
    data = serialize_message(image)
    length = struct.pack('<I', len(image.data))
    return data.replace(length, struct.pack('<I', 0xfffffff0), 1)


def no_text(side, image):
    """Make the encoding invalid UTF-8, on the wire."""
    return serialize_message(image).replace(b'rgb8', b'\xff\xfe\xfd8', 1)


def image_fault(name, edit, says):
    return Fault(name, lambda driver: driver.send(edit), 'nothing for these pairs', says,
                 answered=False)


def info_fault(name, edit, says):
    return Fault(name, lambda driver: driver.send(edit_info=edit), 'nothing for these pairs', says,
                 'calibration', 'ERROR', False)


def network_fault(name, failure, says, where='images', level='ERROR', answered=False,
                  published='nothing for these pairs', check=lambda message: True):
    def provoke(driver):
        left, right = random_pair()
        left[0, 0] = 1, 2, failure
        driver.send(pair=(left, right))

    return Fault(name, provoke, published, says, where, level, answered, check)


def hang(driver):
    if driver.round == 0:
        network_fault('', faulty_node.HANG, '').provoke(driver)
    driver.round += 1


def shrink(driver, **keys):
    driver.send(pair=random_pair(1, 36, 52), **keys)


def change_encoding(driver):
    driver.round += 1
    encoding, channels = (('mono8', 1), ('bgra8', 4), ('yuyv', 2))[driver.round % 3]
    left, right = random_pair(driver.round)
    pair = [np.concatenate((image, image), axis=2)[..., :channels] for image in (left, right)]
    driver.send(pair=pair, encoding=encoding)


def jump_back(driver):
    driver.last -= 50 * S
    driver.send()


def visit_the_future(driver):
    driver.send(stamp=2_000_000_000 * S, sides=('left',))
    driver.send()


def send_late(driver):
    driver.send(sides=('left',))
    driver.send(stamp=driver.last - 8 * S // 10, sides=('right',))


def send_every_third(driver):
    for sides in (('left',), ('left',), SIDES):
        driver.send(sides=sides)


def freeze_right(driver):
    if driver.round == 0:
        driver.round = driver.last
    driver.send(sides=('left',))
    driver.send(stamp=driver.round, sides=('right',))


def ask_for_damaged_model(driver):
    damaged = driver.model.with_name('damaged.safetensors')
    damaged.write_bytes(b'damaged')
    assert driver.rig.set_parameter('model', str(damaged)).successful


def stop_clock(driver):
    driver.publish_clock(7)
    driver.send()


def jump_clock(driver):
    driver.round += 1
    driver.publish_clock(100 - driver.round)
    driver.send()


def send_twice(driver):
    driver.send()
    driver.send(stamp=driver.last)


def raise_in_callback(driver):
    driver.send(edit_info=lambda side, info: setattr(info.header, 'frame_id', 'raise'))


KNOWN = ('is not known; publish one of mono8, 8UC1, rgb8, bgr8, 8UC3, rgba8, bgra8, mono16, '
         '16UC1, bayer_rggb8, bayer_bggr8, bayer_gbrg8, bayer_grbg8, yuv422, uyvy, yuv422_yuy2, '
         'yuyv, or install cv_bridge')
SILENT = '… has a publisher of /{side}/image_rect that sends nothing; check that it runs and ' \
    'that its cable and bandwidth suffice'
NO_RIGHT = 'no pair for … s: images come on /left/image_rect, but none on /right/image_rect ' \
    'for … s: '
STAND_STILL = 'no pair for … s: the stamps of the images do not increase; check that the ' \
    'camera driver sets header.stamp'
JUMPED = 'stamps jumped back by more than 1 s: a recording was restarted or a clock was set; ' \
    'pairing starts anew'

FAULTS = {
    'Images': [
        image_fault('data end early', lambda side, image: setattr(
            image, 'data', image.data[:11232]),
            'a 104x72 rgb8 image needs step >= 312 and 72 rows, got step 312 and 11232 bytes'),
        image_fault('no data', set_fields(('right',), data=b''),
                    'a 104x72 rgb8 image needs step >= 312 and 72 rows, got step 312 and 0 bytes'),
        image_fault('zero size', set_fields(height=0, width=0, data=b''),
                    'the image is empty (0x0)'),
        image_fault('absurd size', set_fields(height=2**31, width=2**31, step=0),
                    'a 2147483648x2147483648 rgb8 image needs step >= 6442450944 and 2147483648 '
                    'rows, got step 0 and 22464 bytes'),
        image_fault('step shorter than a row', set_fields(step=100),
                    'a 104x72 rgb8 image needs step >= 312 and 72 rows, got step 100 and 22464 '
                    'bytes'),
        image_fault('step longer than the rows', set_fields(('left',), step=2**32 - 1),
                    'a 104x72 rgb8 image needs step >= 312 and 72 rows, got step 4294967295 and '
                    '22464 bytes'),
        image_fault('unknown encoding', set_fields(encoding='nonsense'),
                    f'encoding "nonsense" {KNOWN}'),
        image_fault('encoding that is no text', no_text, f'encoding "…8" {KNOWN}'),
        image_fault('depth image instead of a camera image', set_fields(
            encoding='32FC1', width=78), f'encoding "32FC1" {KNOWN}'),
        image_fault('YUV image of odd width', set_fields(encoding='yuv422', width=103),
                    'a yuv422 image stores pixels in pairs: its width must be even, got 103'),
        image_fault('eyes of different sizes', set_fields(('right',), height=70),
                    'left and right images have different sizes, 104x72 and 104x70; set both '
                    'cameras to the same resolution'),
        Fault('message damaged on the wire', lambda driver: driver.send(damage), 'nothing',
              NO_RIGHT + SILENT.format(side='right'), answered=False),
        Fault('images of one pixel', lambda driver: driver.send(
            pair=(np.zeros((1, 1, 3), np.uint8),) * 2), 'every pair, all pixels invalid',
            'images are 1x1 but camera_info says 104x72; intrinsics are scaled by the ratio, '
            'which is wrong if the images were cropped: publish a matching camera_info',
            'calibration',
            check=lambda message: message.image.width == 1 and not message.valid_window.width),
        Fault('black images', lambda driver: driver.send(
            pair=(np.zeros((72, 104, 3), np.uint8),) * 2), 'every pair', 'calibrated',
            'calibration', 'OK'),
        Fault('size changes, camera_info with it', lambda driver: shrink(
            driver, edit_info=set_fields(width=52, height=36)), 'every pair, in the new size',
            'calibrated', 'calibration', 'OK', check=lambda message: message.image.width == 52),
        Fault('size changes, camera_info does not', shrink,
              'every pair, in the new size, f scaled',
              'images are 52x36 but camera_info says 104x72; intrinsics are scaled by the ratio',
              'calibration', check=lambda message: message.f == 45),
        Fault('encoding changes', change_encoding, 'every pair', '… pairs/s', level='OK'),
    ],
    'CameraInfo': [
        info_fault('NaN in P', set_p({3: math.nan}),
                   'right/camera_info: P holds NaN or infinity; recalibrate the camera'),
        info_fault('P all zero', set_p(dict.fromkeys(range(12), 0.0), ('left',)),
                   'left/camera_info: P[0] = 0 and P[5] = 0 must be positive focal lengths; the '
                   'camera is not calibrated: run camera_calibration and load its result'),
        info_fault('no size', set_fields(('left',), width=0, height=0),
                   'left/camera_info: width or height is 0; set the size of the calibrated image; '
                   'left and right camera_info have different sizes, 0x0 and 104x72; set both '
                   'cameras to the same resolution'),
        info_fault('sizes differ', set_fields(('right',), width=208, height=144),
                   'left and right camera_info have different sizes, 104x72 and 208x144; set both '
                   'cameras to the same resolution'),
        info_fault('no baseline', set_p({3: 0.0}),
                   'the baseline is 0: right/camera_info has P[3] = 0, it must be -fx * baseline; '
                   'calibrate the pair as stereo or set the parameter baseline_override'),
        Fault('negative baseline', lambda driver: driver.send(edit_info=set_p({3: 18.0})),
              'every pair, with its size', 'the baseline is negative, -0.2000 m: using 0.2000 m; '
              'P[3] of the right camera must be -fx * baseline; check that left and right are not '
              'swapped', 'calibration', check=lambda message: abs(message.t - 0.2) < 1e-6),
        Fault('baseline in millimetres', lambda driver: driver.send(
            edit_info=set_p({3: -18000.0})), 'every pair, as camera_info says',
            'a baseline of 200 m is unlikely; P[3] is in pixel * metres, not millimetres, in '
            'which it would be 0.2 m: set the parameter baseline_override to it or recalibrate '
            'in metres', 'calibration', check=lambda message: message.t == 200),
        Fault('distortion beside P = K', lambda driver: driver.send(
            edit_info=set_fields(d=[0.1] * 5)), 'every pair',
            '; '.join(f'{side}/camera_info looks unrectified: D is not 0, R is the identity and P '
                      'repeats K; calibrate as a stereo pair and rectify the images'
                      for side in SIDES), 'calibration'),
        Fault('calibration changes', lambda driver: driver.send(edit_info=set_p({3: -27.0})),
              'every pair, with the new one', 'calibrated', 'calibration', 'OK',
              check=lambda message: abs(message.t - 0.3) < 1e-6),
        Fault('camera_info stops', lambda driver: driver.send(infos=()),
              'every pair, with the last one', 'calibrated', 'calibration', 'OK',
              check=lambda message: abs(message.t - 0.2) < 1e-6),
    ],
    'Time': [
        Fault('stamps jump back, as in a loop', jump_back, 'every pair', JUMPED),
        Fault('single image from the future', visit_the_future, 'every pair', JUMPED),
        Fault('stamps stand still', lambda driver: driver.send(stamp=driver.last), 'nothing',
              STAND_STILL, level='ERROR', answered=False),
        Fault('stamps are 0', lambda driver: driver.send(stamp=0), 'nothing but the first pair',
              STAND_STILL, level='ERROR', answered=False),
        Fault('stamps are negative', lambda driver: driver.send(stamp=-5 * S), 'nothing',
              STAND_STILL, level='ERROR', answered=False),
        Fault('stamps of one eye stand still', freeze_right, 'nothing',
              'no pair for … s: the stamps of the images on /right/image_rect do not increase; '
              'check that the camera driver sets header.stamp', level='ERROR', answered=False),
        Fault('each image comes twice', send_twice, 'every pair, once',
              'most stamps do not increase; check the clock of the camera driver, and that each '
              'image topic has one publisher'),
        Fault('eyes are not triggered together', lambda driver: driver.send(offset=S // 250),
              'nothing', 'no pair for … s: stamps of left and right differ by 4.00 ms (spread '
              '0.00 ms), and approximate_sync is off: set approximate_sync:=true and '
              'approximate_sync_tolerance:=0.0050', level='ERROR', answered=False),
        Fault('eyes have different clocks', lambda driver: driver.send(offset=5 * S), 'nothing',
              'no pair for … s: the stamps of right images are … s later than those of left ones '
              'that come at the same time: the cameras have different clocks, or one eye is '
              'delayed; synchronise them (PTP, NTP) or let one driver stamp both', level='ERROR',
              answered=False),
        Fault('one eye lags behind more than queue_size', send_late, 'nothing',
              'no pair for … s: images of both eyes come (… left and … right in the last second) '
              'and their stamps would fit, but partners get lost or come … s late; take '
              'config/fastdds.xml, reliable QoS or a larger queue_size', answered=False),
        Fault('simulated clock pauses', stop_clock, 'every pair',
              '/clock stands still at 7.00 s: the player is paused or has ended; continue it, or '
              'set use_sim_time:=false for a live camera', begin=Driver.simulate_time,
              undo=Driver.end_simulation),
        Fault('simulated clock jumps back', jump_clock, 'every pair', '… pairs/s', level='OK',
              begin=Driver.simulate_time, undo=Driver.end_simulation),
    ],
    'Cameras': [
        Fault('one eye stops and comes back', lambda driver: driver.send(sides=('left',)),
              'nothing', NO_RIGHT + SILENT.format(side='right'), answered=False),
        Fault('both eyes stop and come back', lambda driver: driver.send(sides=()), 'nothing',
              'no pair for … s: ' + '; '.join(SILENT.format(side=side) for side in SIDES),
              answered=False),
        Fault('one driver ends and is started again', lambda driver: driver.send(sides=('left',)),
              'nothing', NO_RIGHT + 'nobody publishes /right/image_rect, nor any other '
              'sensor_msgs/msg/Image: start the camera driver or the recording', answered=False,
              begin=Driver.remove_right, undo=Driver.restore_right),
        Fault('one eye sends every third image only', send_every_third, 'every pair that is '
              'complete', '… pairs/s', level='OK'),
    ],
    'Node': [
        network_fault('out of GPU memory', faulty_node.OUT_OF_MEMORY,
                      'cpu is out of memory; stop other programs on it, or take a smaller model '
                      'or network size'),
        network_fault('out of memory', faulty_node.HOST_MEMORY, 'internal error, MemoryError: '),
        network_fault('bug in the network', faulty_node.DIVISION,
                      'internal error, ZeroDivisionError: division by zero'),
        network_fault('network returns NaN', faulty_node.NOT_A_NUMBER,
                      'the network returned NaN or infinity; take a higher precision or another '
                      'model', level='WARN'),
        network_fault('network finds nothing', faulty_node.NOTHING_VALID,
                      'less than 1% of the pixels of the last frame are valid; check lenses and '
                      'light, the calibration, and min_depth, max_depth and confidence_threshold',
                      'network', 'WARN', True, 'every pair, all pixels invalid',
                      lambda message: not message.valid_window.width),
        Fault('network hangs for seconds', hang, 'the pair, late',
              'one pair has been in work for … s: cpu hangs or is overloaded; look for other '
              'programs on it, restart the node', 'network', 'ERROR'),
        Fault('bug in a callback', raise_in_callback, 'every pair, with the last camera_info',
              "callback failed:…KeyError: 'camera_info'", 'log', 'ERROR'),
        Fault('model file is overwritten', lambda driver: driver.send(), 'every pair',
              '… pairs/s', level='OK', begin=lambda driver: driver.model.write_bytes(b'damaged')),
        Fault('model file is deleted', lambda driver: driver.send(), 'every pair', '… pairs/s',
              level='OK', begin=lambda driver: driver.model.unlink()),
        Fault('parameter model names a damaged file', lambda driver: driver.send(),
              'every pair, with the old model', 'model … cannot be used, tiny still runs: … is '
              'not a readable .safetensors file: …', 'network', begin=ask_for_damaged_model),
    ],
}


PAGE = """# Faults and what the node does about them

Each of {count} rows is provoked by [test/test_faults.py](../test/test_faults.py): {live} with a
camera driver and the node in two processes over DDS, after which the next good pair is always
answered, and {ends} that end a process or keep it from starting. Where it says "every pair", three
more come with the fault, one by one, and each is answered once. Failures of the network and of
memory, bugs and slow loading are simulated, and a limit of the file size stands for the full disk;
the others are real. `…` stands for what varies; texts are those of `/diagnostics` (status in
brackets) or of the log. This page is written by `python test/faults.py > docs/reliability.md`; a
test compares it with what is provoked and said.

{tables}
## What ends a process, and what does not let it start

| | exit code | what it says |
|---|---|---|
{endings}

## Life cycle

The node is a managed node (`ros2 lifecycle`). With `autostart`, the default, it configures and
activates itself and ends with exit code 1 if it cannot. A transition that fails is undone, the
state stays, and the reason is in the log and in `/diagnostics` (images).
[test/test_life_cycle.py](../test/test_life_cycle.py) goes through all of it over DDS.

- **unconfigured**: parameters, and `/diagnostics`, which says how to go on. `configure` loads the
  network, runs it once, and makes the publishers and `~/enable`.
- **inactive**: nothing is subscribed, the outputs are silent. `activate` subscribes and starts to
  work, `cleanup` gives the memory of the network back.
- **active**: everything. `deactivate` finishes the pair in work and unsubscribes.
- **finalized**, after `shutdown` in any state: as unconfigured, for good. SIGINT or SIGTERM ends
  the process in every state.

`model`, `device`, `engine`, `precision`, `network_height` and `network_width` may change in every
state. With a network in place the other one is loaded and run once on a thread while the old one
goes on; then it takes over between two pairs. `ros2 param set` answers at once: it refuses a model
that does not exist; what turns out later sets the parameter back, and the log and `/diagnostics`
(network) say why. Both networks are in memory for that time. `configure` loads as well, but
answers when it is done, and until then the node, and any other one of the same executor, does
nothing else. At the end of the process a network that still loads is given up after 2 s, and a
pair in work after 10 s.

Several nodes may be in one process, each with its own life cycle
([test/test_cameras.py](../test/test_cameras.py)). With `ros2 launch`, `ros2 lifecycle` and
`ros2 param` of the jazzy branch two nodes of one launch (`cameras:=[front,rear]`) went through all
transitions and another model, and finished cleanly on Ctrl-C.

## For hours

    python -m svp_ros.ros.soak --minutes 60 --rate 30 --out soak.json

plays a photographed pair to the node faster than it manages. The JSON has the growth of its memory
(over the run and per hour), the latency of parameter calls and those that were lost, the age of
the results at their arrival, what was dropped, errors in its log, the machine and the commit. The
exit code is 1 if memory grew by more than 1 %, a call was lost, results got older, or the log has
an error. [test/test_soak.py](../test/test_soak.py) runs it for some seconds. An hour on a CPU that
trained networks meanwhile, 30 Hz into a node that managed 1.1: memory +0.04 % (0.4 MB), none of
3578 calls lost (99 % answered within 57 ms, the slowest after 328 ms on these busy cores), no
exception
([soak_60_minutes.json](results/soak_60_minutes.json)); ten minutes with 2.6 pairs per second:
+0.02 %, none of 599 lost ([soak_10_minutes.json](results/soak_10_minutes.json)).
"""


def render():
    """The page docs/reliability.md."""
    tables = ''
    for title, faults in FAULTS.items():
        tables += f'## {title}\n\n| fault | published | level | what the node says |\n'
        tables += '|---|---|---|---|\n'
        for fault in faults:
            tables += (f'| {fault.name} | {fault.published} | {fault.level} | '
                       f'{fault.says.strip()} ({fault.where}) |\n')
        tables += '\n'
    endings = '\n'.join(f'| {end.name} | {end.code} | {end.says or "nothing more"} |'
                        for end in ENDS)
    live = sum(map(len, FAULTS.values()))
    return PAGE.format(count=live + len(ENDS), live=live, ends=len(ENDS), tables=tables[:-1],
                       endings=endings)


if __name__ == '__main__':
    print(render(), end='')
