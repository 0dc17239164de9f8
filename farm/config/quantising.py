"""What a matrix may say of int8: the images to calibrate with, and which layers stay in fp32."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from farm.config.measuring import default_or_none
from farm.options import Finite, StrictModel, Text, Whole


class CalibrationSpec(StrictModel):
    """Images to calibrate int8 with; annotated ones where there are `annotations`."""

    images: Text
    annotations: Text | None = None
    limit: Annotated[Whole, Field(ge=1, le=100_000)] = 64


class AutoSpec(StrictModel):
    """How int8 chooses the layers that stay in fp32.

    max_ap_drop: how much AP may be lost on the calibration images, in points of 100. min_score:
    fp32's boxes of this score are the truth where there are no annotations. images: over how many
    layers are ranked."""

    max_ap_drop: Annotated[Finite, Field(ge=0, le=100)] = 1.0
    min_score: Annotated[Finite, Field(gt=0, lt=1)] = 0.3
    images: Annotated[Whole, Field(ge=1, le=1000)] = 4


class Int8Spec(StrictModel):
    """How int8 finds its scales; with `auto`, which layers stay in fp32."""

    method: Literal["minmax", "percentile", "entropy"] = "percentile"
    percentile: Annotated[Finite, Field(ge=50, le=100)] = 99.99
    auto: Annotated[
        AutoSpec | None,
        BeforeValidator(default_or_none, json_schema_input_type=AutoSpec | bool | None),
    ] = None


def _auto(value: Any) -> Any:
    """Take `int8: auto` for `int8: {auto: true}`."""
    return {"auto": True} if value == "auto" else value
