"""How the figures of a target were made: its machine, settings, data, times and versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row

_MOST_VALUES = 12


@dataclass(frozen=True)
class Condition:
    """A fact and its value, or the values that cells have."""

    name: str
    value: str


_SHARED = (
    ("device", "device"),
    ("host", "host"),
    ("threads", "threads of an engine"),
    ("batch", "images of a request"),
    ("input_shape", "input shape"),
    ("latency_includes", "the latency includes"),
    ("latency_source", "latencies are of the stage"),
    ("governor", "CPU frequency governor"),
    ("affinity", "cores"),
    ("gpu_mig", "GPU partition"),
    ("gpu_throttling", "GPU throttling"),
    ("dataset", "data set"),
    ("evaluate_images", "images that AP is of"),
    ("farm_version", "farm"),
)
"""Columns whose distinct values are listed, as far as rows have them."""

_RANGES = (
    ("samples", "latencies of an engine", "{:.0f}"),
    ("rounds", "rounds of side by side comparison", "{:.0f}"),
    ("busy_cores", "cores that other programs kept busy", "{:.2f}"),
    ("steal_fraction", "share of time that the hypervisor took", "{:.3f}"),
    ("cpu_mhz", "CPU clock (MHz)", "{:.0f}"),
    ("gpu_sm_mhz", "GPU clock (MHz)", "{:.0f}"),
    ("latency_cov", "coefficient of variation", "{:.3f}"),
)
"""Columns of numbers of which the least and the largest are shown."""


def conditions(rows: Sequence[Row]) -> Iterator[Condition]:
    """Yield what is known of how these rows were made."""
    if times := sorted(filter(None, (row.get("measured_at") for row in rows))):
        ends = dict.fromkeys((times[0], times[-1]))
        yield Condition("measured (UTC)", plain(" to ".join(ends)))
    for name, title in _SHARED:
        if text := _listed(rows, name):
            yield Condition(title, text)
    for runtime in sorted({row["runtime"] for row in rows}):
        own = [row for row in rows if row["runtime"] == runtime]
        if text := _listed(own, "runtime_version"):
            yield Condition(plain(runtime), text)
    for name, title, form in _RANGES:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            ends = dict.fromkeys(form.format(one) for one in (min(values), max(values)))
            yield Condition(title, " to ".join(ends))
    tools = {one for row in rows for one in (row.get("toolchain") or "").split("; ") if one}
    if tools:
        yield Condition("packages", plain(", ".join(sorted(tools))))


def _listed(rows: Sequence[Row], name: str) -> str:
    """The distinct values of a column."""
    distinct = dict.fromkeys(row.get(name) for row in rows)
    texts = [plain(str(one)) for one in distinct if one is not None]
    rest = len(texts) - _MOST_VALUES
    return ", ".join([*texts[:_MOST_VALUES], *([f"and {rest} more"] if rest > 0 else [])])
