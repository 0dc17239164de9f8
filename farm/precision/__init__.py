"""Reduced precision written into ONNX files: fp16 and bf16 by casts, int8 by Q/DQ pairs."""
