"""PyTorch checkpoints of any source: reads the file and loads its weights into a model.

`files` needs no torch; nothing here needs mmcv or mmdet.
"""
