"""Which cells may be picked: imported ones where their target was not run here, and equal ones."""

from __future__ import annotations

from typing import Any

import pytest
from rows import row

from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick

PACK = {"origin": "abcd a pack", "device": "a GPU"}
RAN = "imported (abcd a pack), and cells of its target ran here: run the cell"


@pytest.mark.parametrize(
    ("other", "devices", "reason"),
    [
        ({"box_ap_drop": 0.9}, (), RAN),
        ({"status": "failed", "reason": "no"}, (), RAN),
        ({"status": "pending", "reason": "no"}, (), None),
        ({"status": "skipped", "reason": "no"}, (), None),
        ({"target": "gpu", "latency_p50_ms": 99.0}, (), None),
        ({**PACK, "latency_p50_ms": 99.0}, (), None),
        ({**PACK, "latency_p50_ms": 99.0}, ("a cpu",), None),
        (
            {"status": "pending", "reason": "no"}, ("a GPU",),
            "imported (abcd a pack), and this machine is its device: run the cell",
        ),
    ],
)  # fmt: skip
def test_an_imported_cell_is_picked_where_its_target_was_not_run_here_and_cannot_be(
    other: dict[str, Any], devices: tuple[str, ...], reason: str | None
) -> None:
    rows = [row("x", **PACK), row("y", **other)]
    found = pick(rows, Criteria(devices=frozenset(devices)))
    assert found.left_out.get("x") == reason
    assert (found.best or {}).get("cell") == (None if reason else "x")


def test_that_a_pick_is_imported_is_said() -> None:
    assert pick([row("x", **PACK)], Criteria()).why == (
        "lowest median latency (10.00 ms), the only eligible imported cell (of 1)"
    )
    two = pick([row(name, **PACK) for name in "xy"], Criteria("ap")).why
    assert "(0.5000) of 2 eligible imported cells (of 2)" in two


def test_the_fastest_within_a_tenth_of_a_point_of_the_highest_ap_is_picked_by_ap() -> None:
    rows = [row(f"{ap}", box_ap=ap, latency_p50_ms=1000 * ap) for ap in (0.5, 0.499, 0.4989)]
    assert (pick(rows, Criteria("ap")).best or {})["cell"] == "0.499"
