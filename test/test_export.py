import numpy as np
import pytest
import torch

from svp_ros import export
from svp_ros.data.formats import write_image
from svp_ros.engine.graph import StereoGraph
from svp_ros.model.build import load_checkpoint


def test_exported_model_is_checked_and_names_its_tensors(tiny_model, tmp_path, capsys):
    pytest.importorskip('onnxruntime', reason='pip install onnxruntime')
    onnx = pytest.importorskip('onnx', reason='pip install onnx')
    out = tmp_path / 'sub' / 'tiny.onnx'
    assert export.main(['--model', str(tiny_model), '--network-size', '64x96', '--out',
                        str(out)]) == 0
    printed = capsys.readouterr().out
    assert 'tiny.onnx: tiny at 64x96, opset 18, dynamic batch' in printed
    assert 'largest difference from PyTorch: disparity ' in printed
    model = onnx.load(str(out))
    assert model.opset_import[0].version == 18
    shapes = {tensor.name: [axis.dim_param or axis.dim_value
                            for axis in tensor.type.tensor_type.shape.dim]
              for tensor in (*model.graph.input, *model.graph.output)}
    assert shapes['left'] == shapes['right'] == ['batch', 64, 96, 3]
    assert {'disparity', 'confidence', 'no_match'} < set(shapes)

    other = StereoGraph(load_checkpoint(tiny_model)[0], 64, 96)
    with torch.no_grad():
        other.head_part.head.residual4.bias += 1
    with pytest.raises(ValueError, match='the ONNX model differs from the network: disparity'):
        export.check_onnx(out.read_bytes(), other)


def test_int8_is_calibrated_on_pairs_of_the_user_and_of_the_world(tiny_model, tmp_path,
                                                                  monkeypatch):
    from svp_ros.engine import quantisation
    for side in ('left', 'right'):
        (tmp_path / side).mkdir()
        write_image(tmp_path / side / '0.png', np.full((70, 100, 3), 77, np.uint8))
    used = []
    monkeypatch.setattr(quantisation, 'quantised_file',  # test_engine has the real one
                        lambda graph, sha256, pairs: used.extend(pairs))
    assert export.main(['--model', str(tiny_model), '--network-size', '64x96', '--precision',
                        'int8', '--calibration', str(tmp_path)]) == 0
    assert len(used) == 1 + quantisation.WORLD_PAIRS
    assert (used[0][0] == 77).all() and used[1][0].std() > 5
    assert all(image.shape == (64, 96, 3) for pair in used for image in pair)


@pytest.mark.parametrize('argv, message', [
    (['--network-size', '100x96'], 'multiples of 32, got 100x96'),
    (['--calibration', 'here'], '--calibration is for --precision int8'),
    (['--precision', 'int8', '--out', 'a.onnx'], '--out is for ONNX'),
])
def test_bad_arguments_are_explained(argv, message):
    with pytest.raises(ValueError, match=message):
        export.main(argv)
