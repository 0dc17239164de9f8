"""Options of parts in a matrix: validated when it is read, with the files that they name.

A runtime's options, a data set's entry and a model's entry are pydantic models. Marks in their
types say which fields name files: what is in those is then part of the keys.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from farm.errors import InputError, nearest, shown

if TYPE_CHECKING:
    from farm.specs import EngineOptions


@dataclass(frozen=True)
class InputFile:
    """Marks an option that names a file, or several: relative to the matrix, and what is in it
    counts, so that its digest is in the keys. kind: as messages call it."""

    kind: str


@dataclass(frozen=True)
class ImageFolder:
    """Marks an option that names a folder of images, relative to the matrix; the names and sizes
    of its files are in the keys."""


@dataclass(frozen=True)
class DataFolder:
    """Marks an option that names the folder of a data set, relative to the matrix: what is in its
    files with these suffixes counts, and of all others their names and sizes."""

    suffixes: tuple[str, ...]


@dataclass(frozen=True)
class OutputPlace:
    """Marks an option that names a place to write: relative to the matrix, and in no key."""


Mark = InputFile | ImageFolder | DataFolder | OutputPlace


def marks(annotation: Any) -> Iterator[Mark]:
    """Find the marks of an option that names files, wherever in its type they stand."""
    if get_origin(annotation) is Annotated:
        yield from (one for one in annotation.__metadata__ if isinstance(one, Mark))
    for inner in get_args(annotation):
        yield from marks(inner)


def distinct(values: list[Any]) -> list[Any]:
    """Return the values.

    Raises:
        ValueError: one of them stands twice; pydantic reports it with its place.
    """
    for value, times in Counter(values).items():
        if times > 1:
            raise ValueError(f"{shown(str(value))} stands twice")
    return values


def _no_switch(value: Any) -> Any:
    """Refuse true and false, which pydantic takes for 1 and 0: `limit: yes` is a mistake."""
    if isinstance(value, bool):
        raise ValueError(f"a number is expected, not {str(value).lower()}")
    return value


Number = BeforeValidator(_no_switch)
"""Marks a number within another type, such as a list's items."""

Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1), AfterValidator(distinct)]
"""One text or more, each once."""
Whole = Annotated[int, Number]
Finite = Annotated[float, Field(allow_inf_nan=False), Number]


def _is_number(annotation: Any) -> bool:
    """Whether a field of this type holds a number, and never true or false."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_number(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        kinds = get_args(annotation)
        return any(map(_is_number, kinds)) and bool not in kinds
    return annotation in (int, float)


class StrictModel(BaseModel):
    """A part of a matrix: unknown keys are errors, and so is true or false for a number.

    Text is taken for a number (`"17"` for 17), since variables fill in as text.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, defer_build=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_switches(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        return _no_switch(value) if _is_number(field.annotation) else value


class DatasetOptions(StrictModel):
    """The fields that every data set of another package's type has; a subclass adds its own.

    limit: only the first so many images are used.
    """

    type: str
    limit: Annotated[int, Field(ge=1, lt=2**63)] | None = None


Own = TypeVar("Own", bound="RuntimeOptions")


class RuntimeOptions(StrictModel):
    """Options of a runtime. Unknown ones are errors; defaults are the library's own."""

    @classmethod
    def read(cls: type[Own], options: EngineOptions) -> Own:
        """Return a plan's options for the adapter; null stands for the default.

        Raises:
            InputError: an option does not exist or has another type; names it.
        """
        values = {name: _plain(value) for name, value in options.options if value is not None}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            message = explain(options.runtime, cls, error.errors()[0])
            raise InputError(message) from None


def explain(runtime: str, model: type[RuntimeOptions], details: Mapping[str, Any]) -> str:
    """Say what is wrong with an option, by one of pydantic's errors."""
    name = str(details["loc"][0])
    if details["type"] == "extra_forbidden":
        return f"{runtime} has no option {shown(name)}{nearest(name, model.model_fields)}"
    if details["type"] == "value_error":
        return f"{runtime}'s option {shown(name)}: {details['ctx']['error']}"
    message = str(details["msg"])
    reason = f"{message[:1].lower()}{message[1:]}, not {shown(details['input'])}"
    return f"{runtime}'s option {shown(name)}: {reason}"


def _plain(value: Any) -> Any:
    """Return the paths of options that are files or folders in a plan, for the adapter."""
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return getattr(value, "path", value)
