import logging

import cv2
import numpy as np
import pytest
import torch

from svp_ros.engine import images, tensorrt_engine
from svp_ros.engine.choose import make_engine
from svp_ros.engine.graph import StereoGraph
from svp_ros.engine.onnx_engine import OnnxEngine
from svp_ros.engine.openvino_engine import OpenVinoEngine
from svp_ros.engine.packages import need
from svp_ros.engine.torch_engine import TorchEngine
from svp_ros.model.build import load_checkpoint
from svp_ros.predictor import StereoPredictor

SIZE = 96, 160  # 6x10 tokens: the windows of 6x8 need padding
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')


def needs(*packages):
    for package in packages:
        pytest.importorskip(package, reason=f'pip install {package}')


@pytest.fixture(scope='module')
def network(tiny_model):
    return load_checkpoint(tiny_model)[0]


@pytest.fixture(scope='module')
def graph(network):
    return StereoGraph(network, *SIZE)


@pytest.fixture(scope='module')
def pair(graph):
    return graph.example(batch=2)


@pytest.fixture(scope='module')
def expected(network, pair):
    """What the untouched network says about the pair."""
    with torch.inference_mode():
        output = network(*(image.permute(0, 3, 1, 2).float() / 255 for image in pair))
    return output.disparity, 1 - torch.exp(-3 / output.log_scale.exp()), output.no_match


def differences(maps, expected):
    return [float((map_.cpu() - other).abs().max()) for map_, other in zip(maps, expected)]


def test_the_graph_is_the_network(network, graph, pair, expected):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode():
        assert max(differences(graph(*pair), expected)) < 1e-3
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in graph.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(ValueError, match='multiples of 32, got 100x160'):
        StereoGraph(network, 100, 160)


def test_torch_engine_in_fp32_and_bf16(network, pair, expected):
    maps = TorchEngine(StereoGraph(network, *SIZE), 'cpu')(*pair)
    assert max(differences(maps, expected)) < 1e-3
    low = TorchEngine(StereoGraph(network, *SIZE), 'cpu', 'bf16')(*pair)
    assert all(map_.dtype == torch.float32 for map_ in low)
    assert 0 < float((low[1] - expected[1]).abs().mean()) < 0.02, 'bf16 is not at work, or wrong'
    with pytest.raises(ValueError, match='precision fp32, bf16 on the CPU, got fp16'):
        TorchEngine(StereoGraph(network, *SIZE), 'cpu', 'fp16')


@GPU
@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'bf16'])
def test_cuda_graph_gives_the_maps_of_the_cpu_for_every_pair(network, precision):
    engine = TorchEngine(StereoGraph(network, *SIZE), 'cuda', precision)
    assert engine._replay is not None
    cpu = TorchEngine(StereoGraph(network, *SIZE), 'cpu')
    for seed in range(3):
        torch.manual_seed(seed)
        pair = [torch.randint(0, 256, (1, *SIZE, 3), dtype=torch.uint8) for _ in range(2)]
        confidence = engine(*(image.cuda() for image in pair))[1].cpu()
        tolerance = 1e-3 if precision == 'fp32' else 0.02
        assert float((confidence - cpu(*pair)[1]).abs().mean()) < tolerance


@pytest.mark.parametrize('batch', [1, 2])
def test_onnx_runtime_gives_the_maps_of_torch(graph, pair, expected, batch, onnx_engine):
    maps = onnx_engine(*(image[:batch] for image in pair))
    assert max(differences(maps, [map_[:batch] for map_ in expected])) < 1e-3


@pytest.fixture(scope='module')
def onnx_engine(graph):
    needs('onnx', 'onnxruntime')
    return OnnxEngine(graph)


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_tensorrt_engine_passes_on_what_its_parts_say(graph, pair, expected, precision,
                                                      monkeypatch, tmp_path):
    """TensorRT needs a GPU; the provider for CPUs stands in for it, with all else as it is."""
    needs('onnx', 'onnxruntime')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(tensorrt_engine, 'PROVIDERS', ('CPUExecutionProvider',))
    monkeypatch.setattr(tensorrt_engine, 'MEMORY', 'cpu')
    engine = tensorrt_engine.TensorRtEngine(graph, 'cuda:0', precision, 2)
    assert max(differences(engine(*pair), expected)) < 1e-3

    kept = tmp_path / 'svp_ros' / 'engines'
    tensorrt_engine.TensorRtEngine(graph, 'cuda:0', precision, 2)
    assert len(list(kept.iterdir())) == 1, 'the same graph has another key'
    tensorrt_engine.TensorRtEngine(graph, 'cuda:0', precision, 1)
    assert len(list(kept.iterdir())) == 2, 'TensorRT would load the engine of another batch'


def test_tensorrt_engines_of_a_build_that_was_cut_off_are_not_taken(tmp_path):
    folder = tmp_path / 'engines' / 'of_this_graph'
    with pytest.raises(KeyboardInterrupt):
        with tensorrt_engine._built_once(folder) as place:
            (place / 'half').write_bytes(b'')
            raise KeyboardInterrupt
    assert not folder.exists()
    with tensorrt_engine._built_once(folder) as place:
        (place / 'whole').write_bytes(b'1')
        with tensorrt_engine._built_once(folder) as beside:  # another node, which is faster
            (beside / 'whole').write_bytes(b'2')
    with tensorrt_engine._built_once(folder) as place:
        assert place == folder and (place / 'whole').read_bytes() == b'2'
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize('precision, tolerance', [('fp32', 1e-4), ('bf16', 0.02)])
def test_openvino_gives_the_maps_of_torch(graph, pair, expected, precision, tolerance):
    needs('onnx', 'openvino')
    try:
        engine = OpenVinoEngine(graph, precision, batch=2)
    except ValueError as error:
        pytest.skip(str(error))
    confidence = engine(*pair)[1]
    assert float((confidence - expected[1]).abs().mean()) < tolerance
    if precision == 'fp32':
        assert max(differences(engine(*pair), expected)) < 1e-3


def test_int8_network_is_made_once_and_close_to_fp32(network, pair, expected, tmp_path,
                                                     monkeypatch, caplog):
    needs('onnx', 'openvino', 'nncf')
    from svp_ros.engine import quantisation
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(quantisation, 'WORLD_PAIRS', 2)
    first = [tuple(np.ascontiguousarray(image[0]) for image in pair)] * 2
    file = quantisation.quantised_file(StereoGraph(network, *SIZE), 'a' * 64, first)
    assert file.parent.is_relative_to(tmp_path) and file.with_suffix('.bin').is_file()
    made = file.stat().st_mtime_ns
    engine = make_engine(network, SIZE, 'openvino', 'int8', sha256='a' * 64)
    assert file.stat().st_mtime_ns == made
    confidence = engine(*(image[:1] for image in pair))[1]
    assert 0 < float((confidence - expected[1][:1]).abs().mean()) < 0.05

    weights = file.with_suffix('.bin')
    intact = weights.read_bytes()
    weights.write_bytes(bytes([intact[0] ^ 1]) + intact[1:])
    monkeypatch.setattr(quantisation, 'world_pairs', lambda height, width: first)
    make_engine(network, SIZE, 'openvino', 'int8', sha256='a' * 64)
    assert f'{file} is damaged' in caplog.text
    assert weights.stat().st_size == len(intact) and weights.read_bytes()[0] == intact[0]


def test_auto_takes_the_fastest_and_says_why(network, caplog):
    with caplog.at_level(logging.INFO, 'svp_ros'):
        engine = make_engine(network, (64, 96), 'auto', 'bf16')
    assert f'engine {engine.name}, the fastest in bf16 on cpu: {engine.name} ' in caplog.text
    assert 'onnx: engine onnx has precision fp32, got bf16' in caplog.text


def test_auto_survives_an_engine_whose_first_pass_fails(network, caplog, monkeypatch):
    def fail(*_):
        raise RuntimeError('out of memory')
    monkeypatch.setattr(TorchEngine, '__call__', fail)
    with pytest.raises(ValueError, match='no engine runs fp16 on cpu: torch: '):
        make_engine(network, (64, 96), 'auto', 'fp16')
    needs('onnx', 'onnxruntime')
    with caplog.at_level(logging.INFO, 'svp_ros'):
        assert make_engine(network, (64, 96), 'auto').name != 'torch'
    assert 'torch: out of memory' in caplog.text


@pytest.mark.parametrize('engine, precision, device, message', [
    ('magic', 'fp32', 'cpu', 'engine must be auto, torch, onnx, openvino, tensorrt, got "magic"'),
    ('torch', 'fp8', 'cpu', 'precision must be one of fp32, fp16, bf16, int8, got "fp8"'),
    ('torch', 'int8', 'cpu', 'engine torch has precision fp32, bf16 on the CPU, got int8'),
    ('openvino', 'fp16', 'cpu', 'engine openvino has precision fp32, bf16, int8, got fp16'),
    ('openvino', 'fp32', 'cuda:0', 'runs on the CPU, got device cuda:0'),
    ('tensorrt', 'fp16', 'cpu', 'engine tensorrt runs on a CUDA GPU, got device cpu'),
    ('tensorrt', 'bf16', 'cuda', 'engine tensorrt has precision fp32, fp16, got bf16'),
    ('tensorrt', 'fp32', 'cuda', 'pip install .*onnxruntime'),
    ('auto', 'fp16', 'cpu', 'no engine runs fp16 on cpu: torch: engine torch has'),
])
def test_what_does_not_work_is_explained(network, engine, precision, device, message):
    with pytest.raises(ValueError, match=message):
        make_engine(network, SIZE, engine, precision, device)


def test_missing_packages_come_with_the_command_that_installs_them():
    with pytest.raises(ValueError, match='this needs nothing_like_it: pip install nothing_like'):
        need('torch', 'nothing_like_it')


@pytest.mark.parametrize('shape, size', [
    ((500, 741), (480, 640)), ((96, 128), (96, 160)), ((33, 70), (64, 96)),
    ((720, 300), (96, 96)), ((75, 248), (96, 128))])
def test_resizing_on_the_device_is_that_of_opencv(shape, size):
    image = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    image = np.stack([cv2.GaussianBlur(one, (5, 5), 0) for one in image])
    ours = images.resize_on_device(torch.from_numpy(image), size).numpy()
    theirs = np.stack([images.resize(one, size) for one in image])
    assert ours.shape == theirs.shape == (2, *size, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@GPU
@pytest.mark.parametrize('shape', [(96, 160), (200, 333)])
def test_predictor_on_a_gpu_gives_the_maps_of_the_cpu(tiny_model, shape):
    pair = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    cpu, gpu = (StereoPredictor.load(tiny_model, device, (90, 150)).predict(*pair)
                for device in ('cpu', 'cuda'))
    assert np.median(np.abs(gpu.disparity_filled - cpu.disparity_filled)) < 0.01
    assert gpu.confidence.shape == shape


def test_predictor_keeps_its_results_when_the_next_pair_comes(tiny_model):
    needs('onnx', 'openvino')
    pair = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    predictor = StereoPredictor.load(tiny_model, 'cpu', SIZE, 'openvino')
    first = predictor.predict(*pair)
    kept = first.disparity_filled.copy(), first.confidence.copy()
    predictor.predict(pair[1], pair[0])
    assert np.array_equal(first.disparity_filled, kept[0])
    assert np.array_equal(first.confidence, kept[1])


def test_shipped_network_in_bf16_stays_close_on_a_photograph():
    from skimage.data import stereo_motorcycle
    left, right, _ = stereo_motorcycle()
    fp32, bf16 = (StereoPredictor.load('nano', 'cpu', (192, 256), precision=precision)
                  .predict(left, right).disparity_filled for precision in ('fp32', 'bf16'))
    assert 0 < np.abs(fp32 - bf16).mean() < 0.2
