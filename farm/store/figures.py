"""Validate the figures of a record, by their names: each is a value of a known kind and size.

A record is a file that anyone may have written. A step whose record has a figure of another kind
counts as torn and runs again. Figures of other names are the stages' own and are not validated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from farm.errors import InputError, shown

MOST = 1 << 53
"""Counts are smaller: from here on float64, which other programs read numbers as, is not exact."""


def count(value: Any) -> bool:
    """Return whether the value is a whole number of 0 or more."""
    return type(value) is int and 0 <= value < MOST


def size(value: Any) -> bool:
    """Return whether the value is a finite number of 0 or more."""
    most = {int: MOST, float: sys.float_info.max}.get(type(value))
    return most is not None and 0 <= value <= most


def number(value: Any) -> bool:
    """Return whether the value is a finite number."""
    return size(abs(value)) if type(value) in (int, float) else False


def positive(value: Any) -> bool:
    """Return whether the value is a finite number over 0."""
    return size(value) and value > 0


def fraction(value: Any) -> bool:
    """Return whether the value is a number from 0 to 1, as AP is."""
    return size(value) and value <= 1 + 1e-9


def flag(value: Any) -> bool:
    """Return whether the value is true or false."""
    return type(value) is bool


def text(value: Any) -> bool:
    """Return whether the value is text."""
    return type(value) is str


def texts(value: Any) -> bool:
    """Return whether the value is a list of texts."""
    return type(value) is list and all(map(text, value))


def fractions(value: Any) -> bool:
    """Return whether the value is AP by class, with null for a class without objects."""
    return type(value) is dict and all(v is None or fraction(v) for v in value.values())


Kind = Callable[[Any], bool]

LATENCY: Mapping[str, Kind] = {
    **{f"latency_{name}_ms": positive for name in ("p50", "p90", "p95", "p99", "mean")},
    "latency_min_ms": size,
    "latency_cov": size,
    "samples": count,
    "stable": flag,
}
_RATIOS = [
    f"{name}{end}" for name in ("vs_best", "speedup_vs_fp32") for end in ("", "_low", "_high")
]
_ENTRANT: dict[str, Kind] = {
    "cell": text,
    "rank": count,
    "rounds": count,
    **dict.fromkeys(_RATIOS, positive),
    **LATENCY,
}


def entrants(value: Any) -> bool:
    """Return whether the value is what a comparison found of each engine, by the engine's id."""
    return type(value) is dict and all(map(_entrant, value.values()))


def _entrant(value: Any) -> bool:
    return type(value) is dict and all(
        value.get(name) is None or kind(value[name]) for name, kind in _ENTRANT.items()
    )


_EXPECTED: dict[Kind, str] = {
    count: "a whole number of 0 or more",
    size: "a finite number of 0 or more",
    number: "a finite number",
    positive: "a finite number over 0",
    fraction: "a number from 0 to 1",
    flag: "true or false",
    text: "text",
    texts: "a list of texts",
    fractions: "a mapping of names to numbers from 0 to 1",
    entrants: "a mapping of engines to their figures",
}

AP_SUFFIXES = ("", "50", "75", "_s", "_m", "_l")
"""COCO's first six figures: AP, AP50, AP75, and AP of small, medium and large objects."""

AP_NAMES = tuple(f"{kind}_ap{suffix}" for kind in ("box", "mask") for suffix in AP_SUFFIXES)
DROP_NAMES = tuple(f"{kind}_ap_drop_{end}" for kind in ("box", "mask") for end in ("low", "high"))
"""The ends of the interval of a drop of AP."""

_AP: dict[str, Kind] = {
    **dict.fromkeys(AP_NAMES, fraction),
    **dict.fromkeys(("box_ap_by_class", "mask_ap_by_class"), fractions),
    "voc_map": fraction,
}
_FILE: dict[str, Kind] = {"onnx_bytes": count, "onnx_nodes": count, "opset": count}

MACHINE: Mapping[str, Kind] = {
    **dict.fromkeys(("busy_cores_before", "busy_cores", "load_before", "load_after"), size),
    **dict.fromkeys(("steal_fraction_before", "steal_fraction"), fraction),
    **dict.fromkeys(("cpu_mhz_before", "cpu_mhz"), size),
    **dict.fromkeys(("affinity", "governor"), text),
    **dict.fromkeys(("gpu_sm_mhz", "gpu_memory_mhz", "gpu_power_limit_w"), size),
    "gpu_temperature_c": number,
    **dict.fromkeys(("gpu_throttling", "gpu_mig"), text),
}
"""The state of the machine while an engine was timed: see `farm.measuring.machine`."""

KINDS: Mapping[str, Mapping[str, Kind]] = {
    "prepare": {"images": count},
    "reference": {**_AP, "images": count},
    "export": _FILE,
    "convert": {**_FILE, "kept_fp32": texts},
    "build": {"build_s": size, "engine_bytes": count, "fallback": text},
    "verify": {"images": count, "boxes": count},
    "evaluate": {
        **_AP,
        **dict.fromkeys(DROP_NAMES, number),
        "ap_drop_confidence": fraction,
        "ap_drop_resamples": count,
        "ap_drop_seed": count,
        "stopped_early": flag,
        "images": count,
        "images_per_s": positive,
    },
    "measure": {
        **LATENCY,
        "device_p50_ms": size,
        "host_p50_ms": number,
        **dict.fromkeys(("throughput_per_s", "serial_images_per_s"), positive),
        "server_rate_per_s": size,
        **dict.fromkeys(("server_p99_ms", "server_bound_ms"), positive),
        "server_streams": count,
        **dict.fromkeys(("throughput_batch", "throughput_streams", "peak_host_bytes"), count),
        "threads": count,
        "batch": count,
        "cuda_graph": flag,
        "input_shape": text,
        "measured_at": text,
        "latency_includes": text,
        **MACHINE,
    },
    "compare": {
        "measured_at": text,
        **MACHINE,
        "entrants": entrants,
        "blocks": count,
        "groups": count,
        "order_seed": count,
        "margin": positive,
        "ended": text,
        "threads": count,
    },
}
"""The kind of each figure by stage; any figure may be null."""

_REQUIRED = {
    "convert": ("kept_fp32",),
    "measure": ("latency_p50_ms", "throughput_per_s"),
    "compare": ("entrants",),
}


def require_figures(stage: str, figures: Mapping[str, Any]) -> None:
    """Require each figure of a stage to be of its kind, and none to be missing.

    Raises:
        InputError: names the figure and what was expected.
    """
    for name, kind in KINDS.get(stage, {}).items():
        require(f"{stage}.{name}", figures.get(name), kind)
    if missing := [name for name in _REQUIRED.get(stage, ()) if name not in figures]:
        raise InputError(f"'{stage}.{missing[0]}' is missing")


def require(name: str, value: Any, kind: Kind, expected: str = "") -> None:
    """Require a value to be null or of the kind.

    expected: the description of a kind that is not one of this module's.

    Raises:
        InputError: names the value and what was expected.
    """
    if value is not None and not kind(value):
        raise InputError(f"{name!r} is {shown(value)}, expected {expected or _EXPECTED[kind]}")
