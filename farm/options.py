"""Options of parts as a matrix says them: validated when it is read, and files in them resolved.

A runtime's options, a data set's entry and a model's entry are pydantic models. Marks in their
types say which fields name files: what is in those is then part of the keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

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
class OutputPlace:
    """Marks an option that names a place to write: relative to the matrix, and in no key."""


Mark = InputFile | ImageFolder | OutputPlace


def marks(annotation: Any) -> Iterator[Mark]:
    """Find the marks of an option that names files, wherever in its type they stand."""
    if get_origin(annotation) is Annotated:
        yield from (one for one in annotation.__metadata__ if isinstance(one, Mark))
    for inner in get_args(annotation):
        yield from marks(inner)


def _distinct(values: list[str]) -> list[str]:
    for value, times in Counter(values).items():
        if times > 1:
            raise ValueError(f"{shown(value)} stands twice")
    return values


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1), AfterValidator(_distinct)]
"""One text or more, each once."""


class DatasetOptions(BaseModel):
    """What a matrix may say of a data set of another package's type; its fields are added.

    limit: only the first so many images are used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    limit: Annotated[int, Field(ge=1, lt=2**63)] | None = None


Own = TypeVar("Own", bound="RuntimeOptions")


class RuntimeOptions(BaseModel):
    """Options of a runtime. Unknown ones are errors; defaults are the library's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls: type[Own], options: EngineOptions) -> Own:
        """Return a plan's options for the adapter; null stands for the default.

        Raises InputError for one that there is not, or of another type.
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
    message = str(details["msg"])
    told = f"{message[:1].lower()}{message[1:]}, not {shown(details['input'])}"
    return f"{runtime}'s option {shown(name)}: {told}"


def _plain(value: Any) -> Any:
    """Files and places have their digests and markers in a plan; an adapter wants the paths."""
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return getattr(value, "path", value)
