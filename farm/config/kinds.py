"""What a matrix may say of a model, by its source, and of its data set, by its type.

The sources and types of other packages are among them: they are loaded when the first matrix is
validated, since their modules import this one's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union

from pydantic import BaseModel, Discriminator, GetCoreSchemaHandler, Tag
from pydantic_core import CoreSchema

from farm.catalog import DATASETS, SOURCES
from farm.config.models import ModelSpec
from farm.datasets.types import CocoSpec, SyntheticSpec
from farm.options import DatasetOptions


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
