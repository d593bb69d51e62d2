"""How a network is executed: PyTorch, ONNX Runtime, OpenVINO, TensorRT; one file per back end."""
