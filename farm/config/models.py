"""What a matrix may say of a model, by its source, and of its data set, by its type.

The sources and types of other packages are among them: they are loaded when the first matrix is
validated, since their modules import this one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema

from farm.catalog import DATASETS, SOURCES
from farm.config.values import AxesSpec, Options, Triple
from farm.datasets.types import CocoSpec, SyntheticSpec
from farm.options import DatasetOptions, Finite, StrictModel, Text, Whole, distinct


def _positive(values: tuple[float, ...]) -> tuple[float, ...]:
    if min(values) <= 0:
        raise ValueError("a deviation is over 0")
    return values


def _importable(function: str) -> str:
    if re.match(r"__main__\b", function):
        raise ValueError("`__main__` is the farm itself there; name the file, as `my_module:build`")
    return function


class ModelSpec(AxesSpec):
    """What models of every source may have: axes of their own in place of the matrix's."""

    source: str
    simplify: bool | None = None
    keep_fp32: Annotated[list[Text], AfterValidator(distinct)] | None = None


class MmdetSpec(ModelSpec):
    """A detector of mmdet. labels: its classes in the order of its labels, where files do not say.

    They are no part of `specs.Model`: what is exported does not depend on them.
    """

    source: Literal["mmdet"] = "mmdet"
    config: Text
    checkpoint: Text
    cfg_options: Options = {}
    allow_pickle: bool = False
    labels: Annotated[list[Text], AfterValidator(distinct)] = []


class PreprocessSpec(StrictModel):
    """How images are prepared; `specs.Preprocess` says in which units each value is."""

    mean: Triple = (0.0, 0.0, 0.0)
    std: Annotated[Triple, AfterValidator(_positive)] = (1.0, 1.0, 1.0)
    to_rgb: bool = True
    keep_ratio: bool = True
    pad: Annotated[Whole, Field(ge=1, le=1024)] | None = None
    pad_value: Finite = 0.0


class OwnFormSpec(ModelSpec):
    """A model without a config of mmdet: its entry describes its images, outputs and classes."""

    outputs: Literal["detections", "raw"] = "detections"
    classes: Annotated[list[Text], AfterValidator(distinct)] = []
    clip_boxes: bool = True
    preprocess: PreprocessSpec = PreprocessSpec.model_construct()  # as `MatrixSpec` has them

    @property
    def ends_at(self) -> str:
        """Its one value of the axis `postprocess`."""
        return "graph" if self.outputs == "detections" else "none"

    @model_validator(mode="after")
    def _described(self) -> OwnFormSpec:
        if self.postprocess is not None:
            raise ValueError(
                "its graph is not cut: leave `postprocess` out; `outputs` says its end"
            )
        if self.outputs == "detections" and not self.classes:
            raise ValueError("give its `classes` in the order of its labels, or `outputs: raw`")
        if self.outputs == "raw" and "clip_boxes" in self.model_fields_set:
            raise ValueError("raw outputs are no boxes: leave `clip_boxes` out")
        return self


class OnnxSpec(OwnFormSpec):
    """A ready ONNX file."""

    source: Literal["onnx"]
    file: Text

    @model_validator(mode="after")
    def _own_opset(self) -> OnnxSpec:
        if self.opsets is not None:
            raise ValueError("a ready ONNX file has its own opset: leave `opsets` out")
        return self


class ModuleSpec(OwnFormSpec):
    """A function that returns a torch module."""

    source: Literal["module"]
    function: Annotated[
        str,
        Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", max_length=500),
        AfterValidator(_importable),
    ]
    checkpoint: Text | None = None
    options: Options = {}
    allow_pickle: bool = False


def model_specs() -> dict[str, type[ModelSpec]]:
    """Return the pydantic model of a model's entry, by source."""
    return {name: source.spec for name, source in SOURCES.items()}


def dataset_specs() -> dict[str, type[BaseModel]]:
    """Return the pydantic model of a data set's entry, by type."""
    return {name: one.spec for name, one in DATASETS.items() if one.spec}


@dataclass(frozen=True)
class _OneOf:
    """Validates an entry by the model that it names. tag: reads that name."""

    tag: Callable[[Any], str | None]
    models: Callable[[], Mapping[str, type[BaseModel]]]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        tagged = tuple(Annotated[model, Tag(name)] for name, model in self.models().items())
        return handler.generate_schema(Annotated[Union[tagged], Discriminator(self.tag)])  # noqa: UP007


def _source(value: Any) -> str:
    """Return the source of a model's entry; mmdet by default."""
    source = value.get("source", "mmdet") if isinstance(value, dict) else "mmdet"
    return source if isinstance(source, str) else repr(source)


def _type(value: Any) -> str | None:
    """Return the type of a data set's entry; None where it has none."""
    type_ = value.get("type") if isinstance(value, dict) else None
    return type_ if isinstance(type_, str) or type_ is None else repr(type_)


AnyModelSpec = Annotated[ModelSpec, _OneOf(_source, model_specs)]
DatasetSpec = Annotated[CocoSpec | SyntheticSpec | DatasetOptions, _OneOf(_type, dataset_specs)]
