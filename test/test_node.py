"""The real node in its own process, over the real middleware."""

from itertools import count
import signal
import subprocess
import sys
import time

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rcl_interfaces.srv import DescribeParameters
from sensor_msgs.msg import Image
from std_msgs.msg import Float32, Header
from std_srvs.srv import SetBool
from stereo_rig import CAMERA, FRAME, HEIGHT, random_pair, Rig, TYPES, WIDTH

from svp_ros.geometry import StereoCamera
from svp_ros.image_messages import decode_disparity
from svp_ros.predictor import StereoPredictor
from svp_ros.ros.node import main

pytestmark = pytest.mark.alone


def model_arguments(model):
    return ['-p', f'model:={model}', '-p', 'network_height:=64', '-p', 'network_width:=96']


@pytest.fixture(scope='module')
def rig(tiny_model, tmp_path_factory):
    rig = Rig(*model_arguments(tiny_model), log=tmp_path_factory.mktemp('node') / 'stderr')
    try:
        rig.wait_until_ready()
        yield rig
    finally:
        rig.close()


def test_every_pair_comes_back_with_its_stamp_and_every_field_right(rig, tiny_model):
    rig.listen('disparity')
    rig.exchange(range(10, 22))
    assert rig.stamps('disparity') == list(range(10, 22))
    predictor = StereoPredictor.load(tiny_model, device='cpu', network_size=(64, 96))
    for message in rig.received['disparity']:
        assert message.header == message.image.header
        assert (message.header.frame_id, message.header.stamp.nanosec) == (FRAME, 1000)
        image = message.image
        assert (image.height, image.width, image.encoding) == (HEIGHT, WIDTH, '32FC1')
        assert (image.step, len(image.data)) == (4 * WIDTH, 4 * WIDTH * HEIGHT)
        assert image.is_bigendian == (sys.byteorder == 'big')
        assert (message.f, message.t) == pytest.approx((90.0, 0.2))
        assert message.min_disparity == pytest.approx(90 * 0.2 / 100)  # max_depth
        assert message.max_disparity == pytest.approx(90 * 0.2 / 0.3)  # min_depth
        assert message.delta_d == np.spacing(np.float32(message.max_disparity))
        disparity = decode_disparity(message)
        raw = np.frombuffer(image.data, np.float32).reshape(HEIGHT, WIDTH)
        assert np.isfinite(raw).all()

        result = predictor.predict(*random_pair(message.header.stamp.sec))
        expected = result.disparity - np.float32(CAMERA.doffs)
        expected[~((expected >= message.min_disparity)
                   & (expected <= message.max_disparity))] = np.nan
        np.testing.assert_allclose(disparity, expected, rtol=1e-3, atol=1e-3)
        rows, columns = np.nonzero(np.isfinite(disparity))
        assert rows.size > 100, 'too few valid pixels to prove anything'
        window = message.valid_window
        assert (window.x_offset, window.y_offset) == (columns.min(), rows.min())
        assert window.x_offset + window.width == columns.max() + 1
        assert window.y_offset + window.height == rows.max() + 1


def test_all_outputs_agree_with_the_disparity(rig):
    rig.listen(*TYPES)
    rig.exchange(range(30, 32))
    assert rig.spin_until(lambda: all(31 in [m.header.stamp.sec for m in rig.received[topic]]
                                      for topic in TYPES if topic != 'markers'))
    latest = {topic: messages[-1] for topic, messages in rig.received.items()}
    assert all(latest[topic].header == latest['disparity'].header
               for topic in TYPES if topic != 'markers')
    disparity = decode_disparity(latest['disparity'])
    depth = np.frombuffer(latest['depth'].data, np.float32).reshape(HEIGHT, WIDTH)
    np.testing.assert_allclose(depth, 90 * 0.2 / disparity, rtol=1e-5)
    points = np.frombuffer(latest['points2'].data, np.float32).reshape(HEIGHT, WIDTH, 4)
    np.testing.assert_array_equal(points[..., 2], depth)
    confidence = np.frombuffer(latest['confidence'].data, np.float32)
    assert confidence.size == HEIGHT * WIDTH and 0 <= confidence.min() <= confidence.max() <= 1
    assert latest['disparity_color'].encoding == 'bgr8'
    info = latest['camera_info']
    assert (info.width, info.height, info.p[0], info.p[2]) == (WIDTH, HEIGHT, 90.0, 50.0)
    assert [marker.action for marker in latest['markers'].markers] == [3]  # DELETEALL


def test_thresholds_change_live_and_bad_values_are_refused_with_the_reason(rig):
    result = rig.set_parameter('max_depth', 0.2)
    assert not result.successful and 'min_depth must be below max_depth' in result.reason
    result = rig.set_parameter('confidence_threshold', 1.5)
    assert not result.successful and '1.5' in result.reason
    result = rig.set_parameter('rectify', 'off')
    assert not result.successful and 'rectify cannot change while the node is' in result.reason
    result = rig.set_parameter('autostart', False)
    assert not result.successful and 'read-only' in result.reason
    rig.listen('disparity')
    assert rig.set_parameter('max_depth', 4.0).successful
    rig.exchange([40])
    message = rig.received['disparity'][-1]
    assert message.min_disparity == pytest.approx(90 * 0.2 / 4)
    disparity = decode_disparity(message)
    assert np.nanmin(disparity) >= message.min_disparity
    assert rig.set_parameter('max_depth', 100.0).successful


def test_parameters_describe_themselves(rig):
    names = ['max_depth', 'model', 'autostart']
    descriptors = rig.call(DescribeParameters, 'stereo_node/describe_parameters',
                           DescribeParameters.Request(names=names)).descriptors
    assert all(descriptor.description for descriptor in descriptors)
    assert [descriptor.read_only for descriptor in descriptors] == [False, False, True]
    assert descriptors[0].floating_point_range[0].from_value == 0.01


def test_bad_frames_are_dropped_and_counted_and_the_node_lives_on(rig):
    rig.listen('disparity')
    rig.exchange([50])
    before = int(rig.diagnostic('images')[2]['dropped in total'])
    left, right = random_pair()
    rig.send_pair(51, (left, right[:-2]))
    rig.spin_for(0.3)
    rig.send_pair(52, (left, right), encoding='rgb16')
    rig.spin_for(0.3)
    for publisher in rig.images.values():
        publisher.publish(Image(header=Header(stamp=Time(sec=53)), encoding='rgb8'))
    assert rig.spin_until(
        lambda: int(rig.diagnostic('images')[2]['dropped in total']) == before + 3)
    rig.send_pair(-1, (left, right))
    rig.spin_for(0.3)  # a jump back of one eye drops what the other has sent of another time
    rig.exchange([54])
    assert rig.stamps('disparity') == [50, 54]
    assert 'pair dropped: left and right images have different sizes, 104x72 and 104x70' in (
        rig.log.read_text())


def test_pairs_with_unequal_stamps_are_not_mixed_and_the_doctor_says_why(rig):
    rig.listen('disparity')
    numbers = count(60)
    level, text, _ = rig.diagnostic_while(
        lambda: rig.send_pair(next(numbers), random_pair(), offset_ns=4_000_000), '4.00 ms')
    assert level == DiagnosticStatus.ERROR and 'approximate_sync' in text
    assert rig.stamps('disparity') == []


def test_a_calibration_without_baseline_is_an_error_that_names_the_fix(rig):
    rig.listen('disparity')
    rig.send_infos(tx=0.0)
    rig.spin_for(0.2)
    rig.send_pair(80, random_pair())
    assert rig.spin_until(lambda: rig.diagnostic('calibration')[0] == DiagnosticStatus.ERROR)
    assert 'baseline_override' in rig.diagnostic('calibration')[1]
    assert rig.stamps('disparity') == []
    rig.exchange([81])
    assert rig.diagnostic('calibration')[0] == DiagnosticStatus.OK


def test_diagnostics_tell_model_rates_and_latencies(rig, tiny_model):
    rig.listen('disparity')
    rig.exchange(range(90, 93))
    level, _, values = rig.diagnostic('network')
    assert level == DiagnosticStatus.OK
    assert values['model'] == 'tiny' and len(values['sha256']) == 64 and values['device'] == 'cpu'
    assert values['engine'] == 'torch fp32'
    assert 0 < float(values['inference p50 (ms)']) <= float(values['total p50 (ms)'])
    assert 0 < float(values['valid pixels']) <= 1 and 0 <= float(values['mean confidence']) <= 1
    _, _, values = rig.diagnostic('images')
    assert int(values['paired in total']) >= int(values['processed in total']) > 0
    _, _, values = rig.diagnostic('calibration')
    assert values['baseline (m)'] == '0.200000' and values['image size'] == '104x72'


def test_stage_latencies_are_published_for_listeners(rig):
    got = []
    rig.node.create_subscription(Float32, 'stereo_node/debug/inference_ms', got.append, 5)
    rig.listen('disparity')
    rig.exchange([95])
    assert rig.spin_until(lambda: got) and got[0].data > 0


def test_the_node_can_be_paused(rig):
    rig.listen('disparity')
    assert rig.call(SetBool, 'stereo_node/enable', SetBool.Request(data=False)).success
    rig.send_pair(100, random_pair())
    rig.spin_for(0.5)
    assert rig.stamps('disparity') == []
    assert rig.diagnostic('images')[1].startswith('disabled')
    assert rig.call(SetBool, 'stereo_node/enable', SetBool.Request(data=True)).success
    rig.exchange([101])


def test_a_word_that_yaml_takes_for_a_truth_value_is_explained():
    process = subprocess.run(
        [sys.executable, '-m', 'svp_ros.ros.node', '--ros-args', '-p', 'rectify:=off'],
        capture_output=True, text=True, timeout=120)
    assert process.returncode == 1 and process.stdout == ''
    assert """so quote them: -p rectify:="'off'\"""" in process.stderr
    assert process.stderr.count('\n') == 1


def test_nothing_is_computed_without_subscribers_and_ctrl_c_twice_ends_cleanly(tiny_model,
                                                                               tmp_path):
    rig = Rig(*model_arguments(tiny_model), log=tmp_path / 'stderr')
    try:
        rig.wait_until_ready()
        rig.send_infos()
        numbers = count()
        _, _, values = rig.diagnostic_while(
            lambda: rig.send_pair(next(numbers), random_pair()), 'idle')
        assert int(values['skipped in total']) > 0 and values['processed in total'] == '0'
        rig.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
        rig.process.send_signal(signal.SIGINT)
        assert rig.process.wait(20) == 0
        assert 'Traceback' not in rig.log.read_text()
    finally:
        rig.close()


def test_sigterm_in_the_middle_of_work_ends_cleanly(tiny_model, tmp_path):
    rig = Rig(*model_arguments(tiny_model), '-p', 'output_resolution:=network',
              '-p', 'approximate_sync:=true', log=tmp_path / 'stderr')
    try:
        rig.wait_until_ready()
        rig.listen('disparity', 'points2')
        rig.exchange([1], offset_ns=4_000_000)
        message = rig.received['disparity'][0]
        assert (message.image.height, message.image.width) == (64, 96)
        assert message.f == pytest.approx(90 * 96 / WIDTH)
        rig.send_pair(2, random_pair(2))
        rig.process.send_signal(signal.SIGTERM)
        assert rig.process.wait(20) == 0
        assert 'Traceback' not in rig.log.read_text()
    finally:
        rig.close()


def test_a_model_that_does_not_exist_ends_the_process_with_one_line():
    done = subprocess.run([sys.executable, '-m', 'svp_ros.ros.node', '--ros-args', '-p',
                           'model:=no_such_model'], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith('stereo_node: no model "no_such_model"')


@pytest.mark.parametrize('arguments, message', [
    (['-p', 'rectify:=maybe'], 'rectify must be one of auto, on, off, got "maybe"'),
    (['-p', 'network_width:=10'], 'network_width'),
    (['-p', 'max_depth:=20'], 'max_depth'),
    (['-p', 'min_depth:=20.0', '-p', 'max_depth:=10.0'], 'min_depth must be below max_depth'),
    (['-p', 'device:=tpu'], 'device must be auto, cpu'),
    (['-p', 'engine:=magic'],
     'engine must be one of torch, onnx, openvino, tensorrt, auto, got "magic"'),
    (['-p', 'precision:=int8'], 'engine torch has precision fp32, bf16 on the CPU, got int8'),
    (['-p', 'qos_overrides./left/image_rect.subscription.depth:=many'], "'many' of type 'STRING'"),
    (['--params-file', 'no_such_file.yaml'], 'no_such_file.yaml'),
    (['--no-such-option'], '--no-such-option')])
def test_bad_arguments_are_refused_with_the_reason(arguments, message, tiny_model, capfd,
                                                   signal_handlers):
    assert main(['--ros-args', '-p', f'model:={tiny_model}', *arguments]) == 1
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith('stereo_node: ') and message in line


def test_the_network_runs_in_the_engine_that_is_asked_for(tiny_model, tmp_path):
    pytest.importorskip('openvino')
    rig = Rig(*model_arguments(tiny_model), '-p', 'engine:=openvino', log=tmp_path / 'stderr')
    try:
        rig.wait_until_ready()
        rig.listen('disparity')
        rig.exchange([7])
        assert rig.diagnostic('network')[2]['engine'] == 'openvino fp32'
        disparity = decode_disparity(rig.received['disparity'][0])
    finally:
        rig.close()
    predictor = StereoPredictor.load(tiny_model, device='cpu', network_size=(64, 96))
    expected = predictor.predict(*random_pair(7)).disparity - np.float32(CAMERA.doffs)
    known = np.isfinite(disparity) & np.isfinite(expected)
    assert known.sum() > 100
    np.testing.assert_allclose(disparity[known], expected[known], rtol=1e-2, atol=1e-2)


def test_motorcycle_epe_over_dds(tmp_path):
    """The real pair of scikit-image through the node with shipped weights, scored by its truth."""
    from skimage.data import stereo_motorcycle
    left, right, truth = stereo_motorcycle()
    camera = StereoCamera(fx=994.978, fy=994.978, cx=311.193, cy=254.877, cx_right=342.279,
                          baseline=0.193001, width=left.shape[1], height=left.shape[0])
    rig = Rig('-p', 'model:=nano', log=tmp_path / 'stderr', camera=camera)
    try:
        rig.wait_until_ready()
        rig.listen('disparity')
        rig.exchange([1], pair=(left, right), timeout=60)
    finally:
        rig.close()
    message = rig.received['disparity'][0]
    disparity = decode_disparity(message) + camera.doffs
    scored = np.isfinite(truth) & np.isfinite(disparity)
    assert scored.sum() > 0.7 * np.isfinite(truth).sum()
    assert np.abs(disparity - truth)[scored].mean() < 2.6
