"""Models of the table, with random weights, loaded in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.sources import mmdet
from farm.sources.mmdet import random_weights

if TYPE_CHECKING:
    from pathlib import Path

    from farm.models.families import Family


def load(family: Family, folder: Path) -> mmdet.Detector:
    """Write the family's random weights to `folder`/model.pth, and load the model with them."""
    mmdet.set_threads(1)
    model = family.model(str(folder / "model.pth"))
    random_weights.write(model, family.layer_outputs, family.shape, family.seed)
    return mmdet.load(model)
