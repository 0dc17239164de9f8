"""Query detectors: a fixed set of queries, each predicting an object or none; no suppression."""

from __future__ import annotations

from farm.sources.mmdet.queries.deformable_detr import DeformableDetr
from farm.sources.mmdet.queries.detr import Detr
from farm.sources.mmdet.queries.sparse import Sparse

__all__ = ["DeformableDetr", "Detr", "Sparse"]
