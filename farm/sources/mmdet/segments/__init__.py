"""Instance segmentation without regions of interest: masks over the whole network input.

One file per kind of detector. Their graphs give the masks coarse, as the network makes them, and
`farm.detections.full_masks` sizes them to the image; most have no boxes but those around the masks.
"""

from __future__ import annotations

from farm.sources.mmdet.segments.mask_transformer import MaskTransformer
from farm.sources.mmdet.segments.solo import Solo
from farm.sources.mmdet.segments.yolact import Yolact

__all__ = ["MaskTransformer", "Solo", "Yolact"]
