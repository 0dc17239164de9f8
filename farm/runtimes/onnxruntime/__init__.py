"""ONNX Runtime: on the CPU, and its providers for NVIDIA GPUs."""
