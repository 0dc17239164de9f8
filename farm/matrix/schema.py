"""What a matrix may say: pydantic models, the edge where the outside world comes in."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from farm import catalog
from farm.errors import nearest
from farm.units import Dims, parse_bytes, parse_dims


def _one_of(kind: str, words: Any) -> AfterValidator:
    def check(value: Any) -> Any:
        if value not in words:
            hint = nearest(str(value), map(str, words))
            raise ValueError(f"unknown {kind} {value!r}{hint}")
        return value

    return AfterValidator(check)


def _distinct(values: list[Any]) -> list[Any]:
    if twice := [str(value) for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"{twice[0]!r} stands twice")
    return values


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", value):
        raise ValueError(f"{value!r} is not a name; use up to 100 letters, digits, '_' and '-'")
    return value


def _json(value: dict[str, Any]) -> dict[str, Any]:
    """Options go into keys: plain values only, no dates, no NaN."""
    try:
        if json.loads(json.dumps(value, allow_nan=False)) == _lists(value):
            return value
    except (TypeError, ValueError):
        pass
    raise ValueError("only text, finite numbers, true, false, null, lists and mappings by text")


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lists(item) for name, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


Options = Annotated[dict[str, Any], AfterValidator(_json)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, AfterValidator(_name)]
Opset = Annotated[int, _one_of("opset", catalog.OPSETS)]
# YAML reads the name of the runtime `null` as no value.
RuntimeName = Annotated[
    str,
    BeforeValidator(lambda value: "null" if value is None else value),
    _one_of("runtime", catalog.RUNTIMES),
]
Precision = Annotated[str, _one_of("precision", catalog.PRECISIONS)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
ShapeDims = Annotated[Dims, BeforeValidator(parse_dims)]


def _axis(item: Any) -> Any:
    """A list of at least one, without repetition."""
    return Annotated[list[item], Field(min_length=1), AfterValidator(_distinct)]


class Edge(BaseModel):
    """Unknown keys are errors; `\"17\"` is taken for 17, since variables fill in as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class AxesSpec(Edge):
    """Axes as a selection: of a model, an `include` or an `exclude`. None: the matrix's own."""

    opsets: _axis(Opset) | None = None  # type: ignore[valid-type]
    shapes: _axis(Name) | None = None  # type: ignore[valid-type]
    precisions: _axis(Precision) | None = None  # type: ignore[valid-type]
    workspaces: _axis(Bytes) | None = None  # type: ignore[valid-type]
    runtimes: _axis(RuntimeName) | None = None  # type: ignore[valid-type]
    targets: _axis(Name) | None = None  # type: ignore[valid-type]


class ModelSpec(AxesSpec):
    """A detector of mmdet, with axes of its own where they differ from the matrix's."""

    source: Annotated[str, _one_of("model source", catalog.SOURCES)] = "mmdet"
    config: Text
    checkpoint: Text
    cfg_options: Options = {}
    allow_pickle: bool = False


class SelectionSpec(AxesSpec):
    models: _axis(Name) | None = None  # type: ignore[valid-type]


class ShapeSpec(Edge):
    """`opt` alone is a fixed shape; with `min` and `max` the engine takes all between them."""

    opt: ShapeDims
    min: ShapeDims | None = None
    max: ShapeDims | None = None

    @model_validator(mode="after")
    def _ordered(self) -> ShapeSpec:
        if (self.min is None) != (self.max is None):
            raise ValueError("a dynamic shape has both min and max; a fixed one has neither")
        low, high = self.min or self.opt, self.max or self.opt
        triples = zip(low.as_tuple(), self.opt.as_tuple(), high.as_tuple(), strict=True)
        if not all(a <= b <= c for a, b, c in triples):
            raise ValueError(f"min {low} <= opt {self.opt} <= max {high} does not hold")
        if {low.c, high.c} != {3}:
            raise ValueError("detectors take images of 3 channels")
        if min(low.h, low.w) < 32 or max(high.h, high.w) > 16384 or high.n > 1024:
            raise ValueError(
                "height and width are 32 to 16384 pixels, a batch is up to 1024 images"
            )
        return self


class TargetSpec(Edge):
    """A kind of node. `accelerator` as Ray names it; `device` overrides the CPU's own name."""

    accelerator: Text | None = None
    device: Text | None = None


class CocoSpec(Edge):
    type: Literal["coco"]
    images: Text
    annotations: Text
    limit: Annotated[int, Field(ge=1, lt=2**63)] | None = None


class ShapesSpec(Edge):
    type: Literal["shapes"]
    count: Annotated[int, Field(ge=1, le=100_000)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 7
    size: Annotated[int, Field(ge=64, le=4096)] = 160


DatasetSpec = Annotated[CocoSpec | ShapesSpec, Field(discriminator="type")]


class VerifySpec(Edge):
    """When an engine counts as the same detector; read when results are made, so that another
    tolerance runs nothing again. Only `images`, how many are compared, decides what is run."""

    images: Annotated[int, Field(ge=1, le=100_000)] = 16
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.3
    min_iou: Annotated[float, Field(ge=0, le=1)] = 0.9
    min_matched_fraction: Annotated[float, Field(ge=0, le=1)] = 0.99
    max_score_diff: Annotated[float, Field(ge=0)] = 1e-3
    max_box_diff_px: Annotated[float, Field(ge=0)] = 1.0
    min_mask_iou: Annotated[float, Field(ge=0, le=1)] = 0.9


class MeasureSpec(Edge):
    """How speed is measured, after `warmup_seconds`: for `seconds`, and on until there are
    `min_samples` (what p95 needs), but no longer than `max_seconds`."""

    seconds: Annotated[float, Field(gt=0, le=3600)] = 3.0
    max_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    warmup_seconds: Annotated[float, Field(ge=0, le=600)] = 0.2
    min_samples: Annotated[int, Field(ge=10, le=1_000_000)] = 130
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> MeasureSpec:
        if self.max_seconds < self.seconds:
            raise ValueError(f"max_seconds {self.max_seconds:g} is less than seconds")
        return self


class MatrixSpec(Edge):
    """One matrix file."""

    name: Name
    models: Annotated[dict[Name, ModelSpec], Field(min_length=1)]
    opsets: _axis(Opset) = [17]  # type: ignore[valid-type]
    shapes: Annotated[dict[Name, ShapeSpec], Field(min_length=1)]
    precisions: _axis(Precision) = ["fp32"]  # type: ignore[valid-type]
    workspaces: _axis(Bytes) = [1 << 30]  # type: ignore[valid-type]
    runtimes: _axis(RuntimeName)  # type: ignore[valid-type]
    targets: Annotated[dict[Name, TargetSpec], Field(min_length=1)] = {"cpu": TargetSpec()}
    dataset: DatasetSpec
    runtime_options: dict[RuntimeName, Options] = {}
    exclude: list[SelectionSpec] = []
    include: list[SelectionSpec] = []
    verify: VerifySpec = VerifySpec()
    measure: MeasureSpec = MeasureSpec()
    results: Text | None = None
