"""`svp evaluate bag` on tiny recordings: what it writes, and what it says about bad input."""

import base64
import csv
from dataclasses import asdict
import json
import re

import cv2
import numpy as np
import pytest
import torch

from svp_ros.cli import main as svp
from svp_ros.data import bag_messages
from svp_ros.data.bags import StereoBagWriter
from svp_ros.data.rosbag2 import BagReader, BagWriter
from svp_ros.eval.bag import _name_models, main
from svp_ros.frame import Limits, make_frame
from svp_ros.geometry import StereoCamera
from svp_ros.image_messages import decode_disparity, decode_image
from svp_ros.model.build import build_model, save_checkpoint
from svp_ros.predictor import StereoPredictor

H, W = 96, 128
CAMERA = StereoCamera(fx=90.0, fy=90.0, cx=63.5, cy=47.5, baseline=0.2, width=W, height=H,
                      cx_right=62.5)
STAMPS = [1_700_000_000_000_000_000 + index * 100_000_000 for index in range(4)]
TRUTH = np.full((H, W), 9.0, np.float32)
TRUTH[:10] = np.nan
SIZE = ['--network-size', '64x96', '--device', 'cpu']
FRAME = 'left_camera_optical_frame'


def make_pair(index):
    generator = np.random.default_rng(index)
    noise = generator.uniform(0, 1, (H, W + 9, 3)).astype(np.float32)
    wall = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    return wall[:, :W].astype(np.uint8), wall[:, 9:].astype(np.uint8)


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bags') / 'wall'
    with StereoBagWriter(path) as writer:
        for index, stamp in enumerate(STAMPS):
            writer.write(*make_pair(index), CAMERA, stamp, TRUTH)
    return path


@pytest.fixture(scope='module')
def other_model(tmp_path_factory, tiny_model):
    config = StereoPredictor.load(tiny_model, 'cpu', (64, 96)).config
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp('models') / '2nd-model.safetensors'
    save_checkpoint(path, build_model(config).state_dict(), config)
    return path


@pytest.fixture(scope='module')
def results(tmp_path_factory, bag, tiny_model, other_model):
    out = tmp_path_factory.mktemp('results') / 'out'
    assert main([str(bag), '--out', str(out), '--model', str(tiny_model), '--compare',
                 str(other_model), '--pictures', '2', *SIZE]) == 0
    return out


def test_every_pair_is_scored_for_both_models(results):
    metrics = json.loads((results / 'metrics.json').read_text())
    assert {'command', 'commit', 'hardware', 'versions', 'network_size'} <= metrics.keys()
    assert (metrics['pairs'], metrics['truth']) == (4, 4)
    assert metrics['bag']['truth'] == '/ground_truth/disparity'
    assert metrics['bag']['images']['rate_hz'] == pytest.approx(10)
    assert metrics['rectification']['error'] < 0.5
    assert list(metrics['models']) == ['tiny', '2nd-model']
    for scores in metrics['models'].values():
        assert scores['pairs'] == 4 and len(scores['card']['sha256']) == 64
        assert {'disparity', 'depth', 'photometric_error', 'left_right', 'flicker', 'density',
                'confidence', 'latency_ms'} <= scores.keys()
    one, two = metrics['models'].values()
    assert one['disparity']['epe'] != two['disparity']['epe']


def test_figures_are_those_of_the_node_pipeline(results, bag, tiny_model):
    predictor = StereoPredictor.load(tiny_model, 'cpu', (64, 96))
    errors = []
    for index in range(4):
        left, right = make_pair(index)
        pair = type('Pair', (), {'left': left, 'camera': CAMERA, 'inside': None})
        frame = make_frame(None, pair, predictor.predict(left, right), Limits())
        errors.append(np.abs(frame.disparity - TRUTH)[np.isfinite(frame.disparity - TRUTH)])
    metrics = json.loads((results / 'metrics.json').read_text())['models']['tiny']
    assert metrics['disparity']['epe'] == pytest.approx(np.concatenate(errors).mean(), rel=1e-4)
    with (results / 'frames.csv').open() as file:
        rows = [row for row in csv.DictReader(file) if row['model'] == 'tiny']
    assert [int(row['stamp']) for row in rows] == STAMPS
    assert [float(row['epe']) for row in rows] == pytest.approx(
        [values.mean() for values in errors], rel=1e-4)
    assert rows[0]['flicker'] == '' and rows[1]['flicker'] != ''


def test_results_are_one_mcap_file_with_the_original_stamps(results):
    with BagReader(results / 'results.mcap') as bag:
        assert bag.counts == dict.fromkeys(
            ['/left/image_rect', '/camera_info', '/ground_truth/disparity', *(
                f'{prefix}/{topic}' for prefix in ('', '/model_2nd_model')
                for topic in ('disparity', 'depth', 'confidence', 'disparity_color'))], 4)
        messages = {}
        for topic, time, message in bag.messages():
            messages.setdefault(topic, []).append(message)
            assert message.header.frame_id == FRAME
            assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == time
    disparity = decode_disparity(messages['/disparity'][2])
    depth = decode_image(messages['/depth'][2])
    valid = np.isfinite(disparity)
    assert np.array_equal(valid, np.isfinite(depth)) and valid.any()
    np.testing.assert_allclose(depth[valid], 90 * 0.2 / disparity[valid], rtol=1e-5)
    assert np.array_equal(decode_image(messages['/left/image_rect'][2]), make_pair(2)[0])
    info = messages['/camera_info'][0]
    assert (info.width, info.height, info.p[0], info.p[2]) == (W, H, 90, 63.5)
    assert not list(results.glob('.results*'))


def test_another_reader_of_mcap_finds_the_same_messages(results):
    """The reader of Foxglove's makers knows only what the file says of its message types."""
    reading = pytest.importorskip('mcap.reader')
    decoding = pytest.importorskip('mcap_ros2.decoder')
    with (results / 'results.mcap').open('rb') as file:
        reader = reading.make_reader(file, decoder_factories=[decoding.DecoderFactory()])
        assert reader.get_header().profile == 'ros2'
        schemas = {schema.name: schema for schema in reader.get_summary().schemas.values()}
        assert {schema.encoding for schema in schemas.values()} == {'ros2msg'}
        assert set(schemas) == {f'{package}/msg/{name}' for package, name in (
            ('sensor_msgs', 'Image'), ('sensor_msgs', 'CameraInfo'),
            ('stereo_msgs', 'DisparityImage'))}
        found = {}
        for _, channel, raw, message in reader.iter_decoded_messages():
            found.setdefault(channel.topic, []).append(message)
            stamp = message.header.stamp
            assert stamp.sec * 10**9 + stamp.nanosec == raw.log_time == raw.publish_time
    with BagReader(results / 'results.mcap') as bag:
        ours = {(topic, time): message for topic, time, message in bag.messages()}
        assert {topic: len(messages) for topic, messages in found.items()} == bag.counts
    for stamp, message in zip(STAMPS, found['/disparity']):
        expected = ours['/disparity', stamp]
        for name in ('f', 't', 'min_disparity', 'max_disparity', 'delta_d'):
            assert getattr(message, name) == getattr(expected, name) != 0
        assert (message.image.width, message.image.height, message.image.encoding) == (
            W, H, '32FC1')
        assert bytes(message.image.data) == expected.image.data.tobytes()


def test_the_page_stands_alone_and_shows_both_models(results):
    page = (results / 'report.html').read_text()
    embedded = {base64.b64decode(data)
                for data in re.findall('src="data:image/png;base64,([^"]+)"', page)}
    pictures = {path.name: path.read_bytes() for path in (results / 'pictures').glob('*.png')}
    assert embedded == set(pictures.values()) and 'src="' not in page.replace('src="data:', '')
    assert {'contact_sheet.png', 'epe.png', 'flicker.png', 'latency_ms.png', 'rows.png',
            'photometric_error.png'} <= set(pictures)
    assert sum(name.startswith('pair_') for name in pictures) == 2
    assert '<th>tiny</th><th>2nd-model</th>' in page and 'EPE, px' in page


def test_without_truth_no_error_is_claimed(tmp_path, bag, tiny_model, capsys):
    out = tmp_path / 'out'
    arguments = [str(bag), '--out', str(out), '--model', str(tiny_model), *SIZE]
    assert main([*arguments, '--truth-topic', 'none', '--no-left-right', '--limit', '2',
                 '--compare=']) == 0
    metrics = json.loads((out / 'metrics.json').read_text())
    scores = metrics['models']['tiny']
    assert (metrics['pairs'], metrics['bag']['truth'], metrics['truth']) == (2, None, 0)
    assert not {'disparity', 'depth', 'left_right'} & scores.keys()
    assert {'photometric_error', 'flicker'} <= scores.keys()
    with BagReader(out / 'results.mcap') as written:
        assert '/ground_truth/disparity' not in written.types
    printed = capsys.readouterr().out
    assert 'photometric error' in printed and 'EPE' not in printed


def test_a_recording_of_the_node_is_scored_without_running_it(tmp_path, bag, results):
    """results.mcap holds what the node would have published: the same scores come out."""
    with BagReader(results / 'results.mcap') as whole, BagWriter(tmp_path / 'node') as part:
        for raw in whole.raw(['/disparity', '/confidence']):
            if raw.stamp != STAMPS[1]:
                part.add_topic(raw.topic, raw.type) if raw.stamp == STAMPS[0] else None
                part.write_raw(raw.topic, raw.time, raw.data)
    assert main([str(bag), '--out', str(tmp_path / 'out'), '--model', 'the node', '--recording',
                 str(tmp_path / 'node')]) == 0
    metrics = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    scores = metrics['models']['the node']
    assert (metrics['pairs'], scores['pairs']) == (4, 3)
    with (results / 'frames.csv').open() as file:
        expected = [row for row in csv.DictReader(file) if row['model'] == 'tiny']
    with (tmp_path / 'out' / 'frames.csv').open() as file:
        rows = list(csv.DictReader(file))
    del expected[1]
    for row, other in zip(rows, expected, strict=True):
        for key in ('stamp', 'epe', 'bad_3', 'photometric_error', 'density', 'confidence'):
            assert float(row[key]) == pytest.approx(float(other[key]), rel=1e-4), key


def copy(source, target, change):
    with BagReader(source) as bag, BagWriter(target) as copied:
        for topic, time, message in bag.messages():
            message = change(topic, message)
            if message is not None:
                copied.write(topic, time, message)
    return target


def later(topic, message):
    if topic == '/right/image_rect':
        message.header.stamp.nanosec += 4_000_000
    return message


def without(*words):
    return lambda topic, message: None if any(word in topic for word in words) else message


@pytest.mark.parametrize('change, message', [
    (without('image'), 'has no topics of images'),
    (without('right/image'), 'has /left/image_rect but no /right/image_rect: one eye is missing'),
    (without('camera_info'), 'has no calibration for /left/image_rect: no camera_info lies'),
    (later, 'have equal header stamps; the nearest are 4.000 ms apart: synchronise the cameras')])
def test_bad_recordings_are_answered_with_one_sentence(tmp_path, bag, tiny_model, capsys, change,
                                                       message):
    path = copy(bag, tmp_path / 'bag', change)
    out = tmp_path / 'out'
    assert svp(['evaluate', 'bag', str(path), '--out', str(out), '--model', str(tiny_model),
                *SIZE]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('svp evaluate bag: ') and message in error
    assert not (out / 'metrics.json').exists() and not list(out.glob('*mcap'))


@pytest.mark.parametrize('arguments, message', [
    (['--truth-topic', '/nothing'], 'no topic /nothing; it has /ground_truth'),
    (['--truth-topic', '/left/camera_info'], 'ground truth is a DisparityImage, a depth Image'),
    (['--model', 'x.safetensors'], 'no model "x.safetensors"'),
    (['--compare', 'tiny'], 'no model "tiny"'),
    (['--limit', '0'], '--limit must be positive'),
    (['--rate', '0'], '--rate must be positive'),
    (['--min-depth', '9', '--max-depth', '8'], 'min_depth must be positive and below max_depth'),
    (['--recording', 'x', '--compare', 'nano'], 'cannot be compared'),
    (['--truth-transform', *'0000000'], 'is no rotation')])
def test_wrong_arguments_are_refused(tmp_path, bag, tiny_model, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main([str(bag), '--out', str(tmp_path), '--model', str(tiny_model), *SIZE, *arguments])


def test_models_of_one_file_name_are_told_apart_by_their_folders(tmp_path, bag, tiny_model):
    with pytest.raises(ValueError, match='--model and --compare are both called .*_tiny'):
        main([str(bag), '--out', str(tmp_path), '--model', str(tiny_model), '--compare',
              str(tiny_model), *SIZE])
    models = ['runs/a/average.safetensors', 'runs/b/average.safetensors']
    assert _name_models(models, None) == ['a_average', 'b_average']
    assert _name_models(['nano', 'small'], None) == ['nano', 'small']


def test_truth_of_other_stamps_is_an_error(tmp_path, bag, tiny_model):
    def shift(topic, message):
        if 'ground_truth' in topic:
            message.header.stamp.nanosec += 1000
        return message

    path = copy(bag, tmp_path / 'bag', shift)
    arguments = [str(path), '--out', str(tmp_path / 'out'), '--model', str(tiny_model), '--limit',
                 '1', '--no-left-right', *SIZE]
    with pytest.raises(ValueError, match='none of the 1 pairs has a ground truth of its time on '
                                         '/ground_truth/disparity; allow a difference'):
        main(arguments)
    assert main([*arguments, '--truth-tolerance', '0.00001']) == 0


def test_no_bag_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match='no recording .*nothing'):
        main([str(tmp_path / 'nothing'), '--out', str(tmp_path)])


def test_published_messages_are_those_of_the_node():
    from rclpy.serialization import deserialize_message, serialize_message
    from std_msgs.msg import Header
    from stereo_msgs.msg import DisparityImage

    from svp_ros.data.rosbag2 import TYPESTORE
    from svp_ros.ros.conversions import disparity_message
    disparity = np.random.default_rng(0).uniform(1, 30, (H, W)).astype(np.float32)
    disparity[:7], disparity[:, 120:], disparity[50, 50] = np.nan, np.nan, np.nan
    for values in (disparity, np.full_like(disparity, np.nan)):
        ours = bag_messages.make_published_disparity(
            values, CAMERA, 0.18, 60.1, bag_messages.make_header(5 * 10**9 + 7, FRAME))
        header = Header(frame_id=FRAME)
        header.stamp.sec, header.stamp.nanosec = 5, 7
        node = disparity_message(values, CAMERA, 0.18, 60.1, header)
        data = bytes(TYPESTORE.serialize_cdr(ours, bag_messages.DISPARITY_IMAGE))
        assert deserialize_message(data, DisparityImage) == deserialize_message(
            serialize_message(node), DisparityImage)


def test_the_limits_are_those_of_the_node():
    from svp_ros.ros.parameters import NodeSettings
    assert Limits() == Limits(*(getattr(NodeSettings(), key) for key in asdict(Limits())))


def test_leftovers_of_a_killed_run_are_replaced(tmp_path, bag, tiny_model):
    out = tmp_path / 'out'
    (out / '.results.mcap').mkdir(parents=True)
    (out / 'results.mcap').write_text('old')
    assert main([str(bag), '--out', str(out), '--model', str(tiny_model), '--limit', '1',
                 '--no-left-right', *SIZE]) == 0
    with BagReader(out / 'results.mcap') as written:
        assert written.counts['/disparity'] == 1
