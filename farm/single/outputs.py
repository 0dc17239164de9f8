"""An engine's outputs as detections: checked, since any ONNX file can be given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from farm.detections import Detections
from farm.detections.convert import from_outputs
from farm.detections.suppress import suppress
from farm.errors import InputError
from farm.specs import ModelFacts

Outputs = Mapping[str, npt.NDArray[Any]]

_BEFORE_SUPPRESSION = {"boxes", "scores", "labels"}


def whole(outputs: Outputs, facts: ModelFacts) -> Outputs:
    """With dets and labels, where a file ends before the suppression: that runs here then."""
    if facts.suppression and set(outputs) == _BEFORE_SUPPRESSION:
        return suppress(outputs, facts.suppression)
    return outputs


def detections(outputs: Outputs, facts: ModelFacts, where: str) -> list[Detections]:
    """One an image, in network pixels. facts: of the config; where: whose outputs they are.

    Raises:
        InputError: they have not the form of detections, or name a class that the config lacks.
    """
    dets, labels = outputs["dets"], outputs.get("labels")
    if dets.shape[2:] != (5,) or labels is None or labels.shape != dets.shape[:2]:
        shapes = ", ".join(f"{name} {[*value.shape]}" for name, value in outputs.items())
        raise InputError(f"it gives {shapes}; expected dets [N, K, 5] and labels [N, K]", where)
    found = from_outputs(outputs)
    highest = max(int(one.labels.max(initial=0)) for one in found)
    if highest >= len(facts.classes):
        raise InputError(
            f"it finds class {highest}, and the config has {len(facts.classes)} classes, from 0 "
            "on; give the config that it was exported with",
            where,
        )
    return found
