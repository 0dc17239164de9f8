"""How picks are told: what is said of other sweeps, of the machine, and how lines are folded."""

from __future__ import annotations

from rows import row

from farm.results.picking.answers import Answer, answers_as_text, filled, pick_as_text
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick

LONG = "/a-place/" + "-".join(["a-long-name"] * 9)


def answer(*others: str) -> Answer:
    return Answer("cpu", ("s",), others, {"m": pick([row("x")], Criteria())}, {}, 0)


def test_names_and_paths_are_not_broken_where_lines_are_folded() -> None:
    assert [*filled([f"it is {LONG} there"], "  ")] == [f"  it is\n    {LONG}\n    there"]
    assert [*filled([f"{'x' * 70} words"], "  ")] == [f"  {'x' * 70} words"]  # 78 columns
    assert [*filled([f"{'x' * 70} words."], "  ")] == [f"  {'x' * 70}\n    words."]
    why = pick_as_text(pick([row("x"), row(LONG, latency_p50_ms=20.0)], Criteria()), {})
    assert LONG in why


def test_the_other_sweeps_of_a_target_are_named() -> None:
    text = answers_as_text([answer("r")])
    assert "Sweep s was written last; sweep r also has this target" in text
    text = answers_as_text([answer("q", "r")])
    assert "Sweep s was written last; sweeps q, r also have this target" in text
    assert "also" not in answers_as_text([answer()])


def test_raw_outputs_that_cannot_be_told_apart_are_one_on_the_front() -> None:
    raw = {"box_ap": None, "box_ap_drop": None, "postprocess": "none", "rank": 1, "vs_best": 1.0}
    rows = [row("a", build_s=1.0, latency_p50_ms=10.1, **raw), row("b", build_s=2.0, **raw)]
    found = pick(rows, Criteria(postprocess="none"))
    assert (found.best or {})["cell"] == "a" and len(found.ties) == 1
    front = Answer("cpu", ("s",), (), {"m": found}, {}, 0).front()
    assert [one["cell"] for one in front] == ["a"]
