"""Lower precisions as ONNX files that say their types: fp16 and bf16 by casts, int8 by Q/DQ."""
