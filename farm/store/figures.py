"""What figures of a record may be, by their names: numbers of the right kind and size.

A record is a file that anyone may have written. What is not of these kinds is no figure, so a step
with such a record counts as torn and runs again. Figures of other names are the stages' own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from farm import jsonfile
from farm.errors import InputError, shown
from farm.specs import ModelFacts

MOST = 1 << 53
"""The largest count: beyond it a float64, which programs in other languages read, is not exact."""


def count(value: Any) -> bool:
    """A whole number that is not negative."""
    return type(value) is int and 0 <= value < MOST


def size(value: Any) -> bool:
    """A finite number that is not negative."""
    most = {int: MOST, float: sys.float_info.max}.get(type(value))
    return most is not None and 0 <= value <= most


def number(value: Any) -> bool:
    """A finite number."""
    return size(abs(value)) if type(value) in (int, float) else False


def positive(value: Any) -> bool:
    return size(value) and value > 0


def fraction(value: Any) -> bool:
    """AP, for instance: 0 to 1."""
    return size(value) and value <= 1 + 1e-9


def flag(value: Any) -> bool:
    return type(value) is bool


def text(value: Any) -> bool:
    return type(value) is str


def texts(value: Any) -> bool:
    return type(value) is list and all(map(text, value))


def fractions(value: Any) -> bool:
    """AP by class; null for a class without objects."""
    return type(value) is dict and all(v is None or fraction(v) for v in value.values())


Kind = Callable[[Any], bool]

_WORDS: dict[Kind, str] = {
    count: "a whole number of 0 or more",
    size: "a finite number of 0 or more",
    number: "a finite number",
    positive: "a finite number over 0",
    fraction: "a number from 0 to 1",
    flag: "true or false",
    text: "text",
    texts: "a list of texts",
    fractions: "a mapping of names to numbers from 0 to 1",
}

AP_NAMES = tuple(
    f"{kind}_ap{suffix}"
    for kind in ("box", "mask")
    for suffix in ("", "50", "75", "_s", "_m", "_l")
)
_AP: dict[str, Kind] = {
    **dict.fromkeys(AP_NAMES, fraction),
    **dict.fromkeys(("box_ap_by_class", "mask_ap_by_class"), fractions),
}
_FILE: dict[str, Kind] = {"onnx_bytes": count, "onnx_nodes": count, "opset": count}

KINDS: Mapping[str, Mapping[str, Kind]] = {
    "prepare": {"images": count},
    "reference": {**_AP, "images": count},
    "export": _FILE,
    "convert": {**_FILE, "kept_fp32": texts},
    "build": {"build_s": size, "engine_bytes": count, "fallback": text},
    "verify": {"images": count, "boxes": count},
    "evaluate": {**_AP, "images": count, "images_per_s": positive},
    "measure": {
        **{f"latency_{name}_ms": positive for name in ("p50", "p90", "p95", "p99", "mean")},
        "latency_min_ms": size,
        "latency_cov": size,
        "device_p50_ms": size,
        "throughput_per_s": positive,
        "samples": count,
        "threads": count,
        "batch": count,
        "stable": flag,
        "cuda_graph": flag,
        "input_shape": text,
    },
}
"""By stage; any of them may be null."""

_NEEDED = {"convert": ("kept_fp32",), "measure": ("latency_p50_ms", "throughput_per_s")}


def require_figures(stage: str, figures: Mapping[str, Any]) -> None:
    """Raises InputError for a figure of another kind than its name says, or one that is missing."""
    if stage == "check":
        model_facts(figures)
        return
    for name, kind in KINDS.get(stage, {}).items():
        require(f"{stage}.{name}", figures.get(name), kind)
    if missing := [name for name in _NEEDED.get(stage, ()) if name not in figures]:
        raise InputError(f"'{stage}.{missing[0]}' is missing")


def require(name: str, value: Any, kind: Kind, expected: str = "") -> None:
    """Raises InputError for a value that is neither null nor of the kind.

    expected: what the kind is called, where it is none of this module's.
    """
    if value is not None and not kind(value):
        raise InputError(f"{name!r} is {shown(value)}, expected {expected or _WORDS[kind]}")


def model_facts(figures: Mapping[str, Any]) -> ModelFacts:
    """What `check` found, from JSON, without its notes on the data sets, which are for people.

    Raises InputError for what is no such thing.
    """
    require("check.notes", figures.get("notes"), texts)
    return jsonfile.decode(ModelFacts, {name: v for name, v in figures.items() if name != "notes"})
