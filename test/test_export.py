import pytest
import torch

from svp_ros import export
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


@pytest.mark.parametrize('argv, message', [
    (['--network-size', '100x96'], 'multiples of 32, got 100x96'),
    (['--calibration', 'here'], '--calibration is for --precision int8'),
    (['--precision', 'int8', '--out', 'a.onnx'], '--out is for ONNX'),
])
def test_bad_arguments_are_explained(argv, message):
    with pytest.raises(ValueError, match=message):
        export.main(argv)
