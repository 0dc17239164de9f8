"""Instance segmentation without regions of interest: masks over the full network input.

One file per kind of detector. Graphs return masks at the network's own low resolution, and
`farm.detections.masks` resizes them to the image; the boxes of most are computed from masks.
"""

from __future__ import annotations

from farm.sources.mmdet.segments.mask_transformer import MaskTransformer
from farm.sources.mmdet.segments.solo import Solo
from farm.sources.mmdet.segments.yolact import Yolact

__all__ = ["MaskTransformer", "Solo", "Yolact"]
