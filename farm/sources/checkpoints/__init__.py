"""PyTorch checkpoints of any source: the file, the weights in it, and how they fit a model.

`files` needs no torch; nothing here needs mmcv or mmdet.
"""
