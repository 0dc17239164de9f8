"""Whole graphs of detectors that are neither one dense head nor two stages: a file for each kind.

CornerNet and CenterNet have key points. DETR and its variants have a fixed set of queries, each of
which predicts an object or none, without suppression. SOLO, YOLACT and the mask transformers return
masks at the network's own low resolution, over its full input; `farm.detections.masks` resizes them
to the image, and the boxes of most are computed from masks.
"""
