"""What a figure of a record may be: its type and its bounds."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

from farm.errors import InputError
from farm.store import figures
from farm.store.figures import require_figures

LARGEST = sys.float_info.max
NONE = ("1", None, True, [], {}, math.nan, math.inf, -math.inf)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (figures.count, (0, 1, 2**53 - 1), (-1, 2**53, 0.0, 1.0)),
        (figures.size, (0, 0.0, 1, 0.5, 2**53, LARGEST), (-1, -1e-9, 2**53 + 1)),
        (figures.number, (0, -1, -0.5, 2**53, -(2**53), -LARGEST), (2**53 + 1, -(2**53) - 1)),
        (figures.positive, (1, 1e-9, LARGEST), (0, 0.0, -1, 2**53 + 1)),
        (figures.fraction, (0, 1, 0.5, 1 + 1e-9), (-0.1, 1 + 2e-9, 2)),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_number_is_of_its_kind_between_its_bounds(
    kind: figures.Kind, good: tuple[Any, ...], bad: tuple[Any, ...]
) -> None:
    assert [one for one in good if kind(one) is not True] == []
    assert [one for one in (*bad, *NONE) if kind(one) is not False] == []


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (figures.flag, (True, False), (0, 1, "true", None)),
        (figures.text, ("", "a"), (1, None, ["a"])),
        (figures.texts, ([], ["a", ""]), ([1], ["a", None], ("a",), "a")),
        (figures.fractions, ({}, {"a": 0.5, "b": None}), ({"a": 2}, {"a": "1"}, [0.5], None)),
        (
            figures.entrants,
            ({}, {"a": {}}, {"a": {"rank": 1, "vs_best": None, "more": "x"}}),
            ([], {"a": []}, {"a": {"rank": -1}}, {"a": {}, "b": {"vs_best": 0.0}}, None),
        ),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_text_a_list_and_a_mapping_have_parts_of_their_kind(
    kind: figures.Kind, good: tuple[Any, ...], bad: tuple[Any, ...]
) -> None:
    assert [one for one in good if kind(one) is not True] == []
    assert [one for one in bad if kind(one) is not False] == []


def test_a_figure_of_another_kind_is_named_with_what_was_expected() -> None:
    require_figures("of another package", {"anything": object()})
    require_figures("build", {"build_s": None, "more": object()})
    for stage, found, said in (
        ("build", {"build_s": -1.0}, "'build.build_s' is -1.0, expected a finite number of 0 or"),
        ("verify", {"images": 1.5}, "'verify.images' is 1.5, expected a whole number of 0 or"),
        ("evaluate", {"box_ap": 2}, "'evaluate.box_ap' is 2, expected a number from 0 to 1"),
        ("convert", {}, "'convert.kept_fp32' is missing"),
        ("measure", {"latency_p50_ms": 1.0}, "'measure.throughput_per_s' is missing"),
        ("compare", {"entrants": []}, "'compare.entrants' is"),
    ):
        with pytest.raises(InputError) as error:
            require_figures(stage, found)
        assert error.value.message.startswith(said)
