"""What a matrix may say of how speed is measured and engines are compared."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from farm.options import Finite, StrictModel, Whole


def _switch_or_seconds(value: Any) -> bool | float:
    """Take true, false or a number of seconds. Variables fill in all of them as text."""
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return text == "true"
    with suppress(ValueError):
        if 0 < (seconds := float(text)) <= 3600:
            return seconds
    raise ValueError("expected true, false, or seconds from over 0 to 3600")


class ServerSpec(StrictModel):
    """The mode `server`: the highest rate of requests, which come at random, of which 99 of 100 are
    answered within `p99_ms`. max_seconds: how long to look for it."""

    p99_ms: Annotated[Finite, Field(gt=0, le=3_600_000)]
    max_seconds: Annotated[Finite, Field(gt=0, le=3600)] = 600.0


class MeasureSpec(StrictModel):
    """How speed is measured, after `warmup_seconds`: for `seconds`, then until there are
    `min_samples` (the 90th percentile needs 64), but no longer than `max_seconds` (default: ten
    times `seconds`).

    throughput: whether to look for the load with the most images a second, or for how many
    seconds; `true` is as long as latency takes."""

    seconds: Annotated[Finite, Field(gt=0, le=3600)] = 0.6
    max_seconds: Annotated[Finite, Field(gt=0, le=3600)] | None = None
    warmup_seconds: Annotated[Finite, Field(ge=0, le=600)] = 0.2
    min_samples: Annotated[Whole, Field(ge=10, le=1_000_000)] = 64
    threads: Annotated[Whole, Field(ge=1, le=1024)] | None = None
    throughput: Annotated[
        bool | float, BeforeValidator(_switch_or_seconds, json_schema_input_type=bool | float)
    ] = True
    server: ServerSpec | None = None

    @property
    def throughput_seconds(self) -> float | None:
        """How long to look for the best load: None is as long as latency takes, 0 not at all."""
        if isinstance(self.throughput, bool):
            return None if self.throughput else 0.0
        return self.throughput

    @model_validator(mode="after")
    def _ordered(self) -> MeasureSpec:
        if self.most_seconds < self.seconds:
            raise ValueError(f"max_seconds {self.most_seconds:g} is less than seconds")
        return self

    @property
    def most_seconds(self) -> float:
        """`max_seconds`, or ten times `seconds` where that is not set."""
        return self.max_seconds or min(10 * self.seconds, 3600.0)


class CompareSpec(StrictModel):
    """How the cells of a model are ranked that may be worth shipping: side by side on one node.

    seconds: at most so long for each of them. margin: they are tied if they differ by no more than
    this fraction. error: how probable it may be that a model's ranks hold anything wrong."""

    seconds: Annotated[Finite, Field(gt=0, le=3600)] = 4.0
    margin: Annotated[Finite, Field(gt=0, le=1)] = 0.02
    error: Annotated[Finite, Field(gt=0, le=0.5)] = 0.05


def default_or_none(value: Any) -> Any:
    """Take `false` for none, and `true` for one with its defaults."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class RacingSpec(StrictModel):
    """Engines that lose more AP for sure are not evaluated to the end.

    max_ap_drop: how much AP may be lost, in points of 100."""

    max_ap_drop: Annotated[Finite, Field(ge=0, le=100)] = 1.0
