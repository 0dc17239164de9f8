"""Which cells are measured again, what of the store is forgotten, and the history of figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rows import row

from farm.errors import InputError
from farm.results.again import Again, is_unstable
from farm.results.columns import COLUMNS
from farm.results.kept import history
from farm.specs import Ref


def measured(cell: str, **values: Any) -> dict[str, Any]:
    own = {"measure_key": f"m-{cell}", "compare_key": "c", "busy_cores": 0.1}
    return {**dict.fromkeys(COLUMNS), **row(cell), **own, **values}


ROWS = [
    measured("x.fp32", compare_key=None), measured("x.fp16", stable=False),
    measured("y.fp32", busy_cores=0.9), measured("y.fp16", latency_p50_ms=None),
    measured("z.fp32", origin="ab12 a pack"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ((), ["x.fp32", "x.fp16", "y.fp32"]),
        (("unstable",), ["x.fp16", "y.fp32"]),
        (("x.*",), ["x.fp32", "x.fp16"]),
        (("x.fp32", "unstable"), ["x.fp32", "x.fp16", "y.fp32"]),
        (("y.fp16",), []),
    ],
)
def test_the_cells_that_are_meant(only: tuple[str, ...], expected: list[str]) -> None:
    assert [one["cell"] for one in Again("measure", only).chosen(ROWS)] == expected


@pytest.mark.parametrize(("busy", "unstable"), [(None, False), (0.49, False), (0.5, True)])
def test_half_a_core_of_other_work_is_unstable(busy: float | None, unstable: bool) -> None:
    assert is_unstable(measured("x", busy_cores=busy)) is unstable


def test_what_was_not_compared_is_not_compared_again() -> None:
    assert [one["cell"] for one in Again("compare").chosen(ROWS)] == ["x.fp16", "y.fp32"]


def test_a_name_that_no_cell_has_is_an_error() -> None:
    with pytest.raises(InputError, match=r"no cell 'x.fp31'; did you mean 'x.fp32'"):
        Again("measure", ("x.fp31",)).chosen(ROWS)
    with pytest.raises(InputError, match="did you mean 'unstable'"):
        Again("measure", ("unstabel",)).chosen(ROWS)


def test_what_is_measured_again_is_compared_again_too() -> None:
    rows = ROWS[:3]
    assert Again("measure").refs(rows) == [
        Ref("measure", "m-x.fp32"), Ref("measure", "m-x.fp16"), Ref("compare", "c"),
        Ref("measure", "m-y.fp32"),
    ]  # fmt: skip
    assert Again("compare").refs(rows) == [Ref("compare", "c")]


def test_figures_that_no_longer_count_are_kept_in_their_order(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"measure_key": None, "compare_key": None}
    first, second = (measured("x", latency_p50_ms=one, **keys) for one in (1.0, 2.0))
    now = [measured("x", latency_p50_ms=3.0), measured("other")]
    for one in (first, second):
        history.keep([one], tmp_path, "s")
    found = history.with_earlier(now, history.read(tmp_path))
    assert [(one["latency_p50_ms"], one["counts"]) for one in found] == [
        (1.0, False), (2.0, False), (3.0, True),
    ]  # fmt: skip
    assert history.read(tmp_path, target="gpu") == history.read(tmp_path, sweep="t") == []


def test_rows_whose_measurement_is_planned_anew_are_history_and_no_others() -> None:
    keys = {"a": "1" * 64, **dict.fromkeys("bef", "2" * 64), "c": None}
    rows = [row(name, measure_key="1" * 64) for name in "abcd"]
    rows += [row("e", measure_key=None, latency_p50_ms=None), row("f", measure_key="3" * 64)]
    rows[-1]["origin"] = "abcd import"
    assert [one["cell"] for one in history.replaced(rows, keys)] == ["b", "c"]
