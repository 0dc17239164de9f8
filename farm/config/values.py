"""What values of a matrix are made of: names, sizes, options, axes."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from farm import catalog
from farm.errors import nearest, shown
from farm.options import Finite, StrictModel, Whole, distinct
from farm.parsing import parse_bytes, parse_dims, parse_seconds
from farm.specs import Dims


def _one_of(kind: str, words: Any) -> AfterValidator:
    def check(value: Any) -> Any:
        if value not in words:
            hint = nearest(str(value), map(str, words))
            raise ValueError(f"unknown {kind} {shown(value)}{hint}")
        return value

    return AfterValidator(check)


def _choices(words: Any) -> Any:
    """What editors offer; `_one_of` checks."""
    return Field(json_schema_extra={"enum": [*words]})


def _runtime(value: str) -> str:
    """Check `NAME`, `NAME@VERSION` or `NAME@ENVIRONMENT`; the loader checks what follows the @."""
    name, at, rest = value.partition("@")
    if name not in catalog.RUNTIMES:
        raise ValueError(f"unknown runtime {shown(value)}{nearest(name, catalog.RUNTIMES)}")
    if not at:
        return value
    if not catalog.RUNTIMES[name].exported:
        raise ValueError(
            f"{name} runs the model itself, with the farm's own packages: only runtimes that build"
            " engines have releases"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", rest):
        raise ValueError(
            f"{shown(value)}: a version or the name of an environment follows the @, as in"
            f" {name}@1.20"
        )
    return value


def _requirement(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][^\r\n]{0,499}", value):
        raise ValueError(
            f"{shown(value)} is no requirement; expected a package as pip takes it, such as"
            " openvino==2025.2.*"
        )
    return value


def _python(value: Any) -> Any:
    """Refuse the number that YAML reads in 3.10."""
    if isinstance(value, float):
        if value == 3.1:
            raise ValueError("YAML reads 3.10 as 3.1; write it in quotes: '3.10'")
        return str(value)
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", value):
        raise ValueError(
            f"{shown(value)} is not a name; use up to 100 letters, digits, '_' and '-'"
        )
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


def _version(value: Any) -> Any:
    """Take the numbers that YAML reads in 8.9 and 580 for text; true is no number."""
    return str(value) if type(value) in (int, float) else value


def _matches(pattern: str, expected: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{shown(value)} is not {expected}")
        return value

    return AfterValidator(check)


Capability = Annotated[
    str,
    BeforeValidator(_version, json_schema_input_type=str | float),
    _matches(r"\d+\.\d", "a compute capability, as 8.9"),
]
Driver = Annotated[
    str,
    BeforeValidator(_version, json_schema_input_type=str | float),
    _matches(r"\d+(\.\d+)*", "a driver's version or branch, as 580"),
]
Options = Annotated[dict[str, Any], AfterValidator(_json)]
Triple = tuple[Finite, Finite, Finite]
Name = Annotated[str, AfterValidator(_name)]
Opset = Annotated[Whole, _one_of("opset", catalog.OPSETS), _choices(catalog.OPSETS)]
# YAML reads the name of the runtime `null` as no value.
RuntimeName = Annotated[
    str,
    BeforeValidator(
        lambda value: "null" if value is None else value, json_schema_input_type=str | None
    ),
    AfterValidator(_runtime),
]
Requirement = Annotated[str, AfterValidator(_requirement)]
PythonVersion = Annotated[
    str,
    BeforeValidator(_python, json_schema_input_type=str | float),
    _matches(r"3\.[1-9]\d(\.\d+)?", "a version of Python from 3.10 on, as '3.12'"),
]
Precision = Annotated[str, _one_of("precision", catalog.PRECISIONS), _choices(catalog.PRECISIONS)]
Postprocess = Annotated[
    str, _one_of("postprocess", catalog.POSTPROCESS), _choices(catalog.POSTPROCESS)
]
Bytes = Annotated[int, BeforeValidator(parse_bytes, json_schema_input_type=str)]
Duration = Annotated[float, BeforeValidator(parse_seconds, json_schema_input_type=str)]
ShapeDims = Annotated[Dims, BeforeValidator(parse_dims, json_schema_input_type=str)]


def axis(item: Any) -> Any:
    """A list of at least one, without repetition."""
    return Annotated[list[item], Field(min_length=1), AfterValidator(distinct)]


class AxesSpec(StrictModel):
    """Axes as a selection: of a model, an `include` or an `exclude`. None: the matrix's own."""

    opsets: axis(Opset) | None = None  # type: ignore[valid-type]
    shapes: axis(Name) | None = None  # type: ignore[valid-type]
    postprocess: axis(Postprocess) | None = None  # type: ignore[valid-type]
    precisions: axis(Precision) | None = None  # type: ignore[valid-type]
    workspaces: axis(Bytes) | None = None  # type: ignore[valid-type]
    runtimes: axis(RuntimeName) | None = None  # type: ignore[valid-type]
    targets: axis(Name) | None = None  # type: ignore[valid-type]
