"""What a matrix may say of a model, by its source, and of its data set, by its type.

The sources and types of other packages are among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BaseModel, Discriminator, Tag

from farm.catalog import DATASETS, SOURCES
from farm.config.models import MmdetSpec, ModuleSpec, OnnxSpec, OwnFormSpec
from farm.datasets.types import CocoSpec, ShapesSpec
from farm.options import DatasetOptions

MODEL_SPECS = {name: source.spec for name, source in SOURCES.items()}
DATASET_SPECS = {name: one.spec for name, one in DATASETS.items() if one.spec}


def _source(value: Any) -> str:
    """What a model's entry says of its source; mmdet where it says nothing."""
    said = value.get("source", "mmdet") if isinstance(value, dict) else "mmdet"
    return said if isinstance(said, str) else repr(said)


def _type(value: Any) -> str | None:
    """What a data set's entry says of its type; None where it says nothing."""
    said = value.get("type") if isinstance(value, dict) else None
    return said if isinstance(said, str) or said is None else repr(said)


def _by(tell: Callable[[Any], str | None], models: Mapping[str, type[BaseModel]]) -> Any:
    tagged = tuple(Annotated[model, Tag(name)] for name, model in models.items())
    return Annotated[Union[tagged], Discriminator(tell)]  # noqa: UP007


if TYPE_CHECKING:
    AnyModelSpec = MmdetSpec | OnnxSpec | ModuleSpec | OwnFormSpec
    DatasetSpec = CocoSpec | ShapesSpec | DatasetOptions
else:
    AnyModelSpec = _by(_source, MODEL_SPECS)
    DatasetSpec = _by(_type, DATASET_SPECS)
