"""How a network is executed: PyTorch, ONNX Runtime, OpenVINO; one file per back end."""
