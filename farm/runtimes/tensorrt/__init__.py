"""TensorRT 8.6, 10 and 11, and TensorRT-RTX: one adapter.

`versions` states what differs between them; everything else is common. It imports numpy,
cuda-python and the library itself, and of the farm only `farm.errors`, so that it can be carried
to a GPU machine on its own (Python 3.10 and later).
"""
