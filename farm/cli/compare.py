"""`farm compare CELL CELL...`: which engine is faster, found by running them in turn, now."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from farm.errors import InputError, StepFailed
from farm.parsing import number
from farm.run import PLACE

if TYPE_CHECKING:
    from farm.cli.recorded import Recorded
    from farm.cli.results import Results
    from farm.config.measuring import CompareSpec

_RATIO = "{:.3f}"


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm compare`."""
    parser.set_defaults(command=compare)
    add = parser.add_argument
    listed = "two or more, as `farm leaderboard --columns cell` lists them"
    add("cells", nargs="+", metavar="CELL", help=listed)
    add("--sweep", help="where several sweeps have a cell of that name")
    add(
        "--seconds", type=partial(_over_0, 3600), default=15.0, metavar="S",
        help="the budget for each engine, in seconds (default: 15); it ends earlier when the order"
        " is shown",
    )  # fmt: skip
    add(
        "--margin", type=partial(_over_0, 100), default=2.0, metavar="PERCENT",
        help="engines are tied that differ by no more than this (default: 2)",
    )  # fmt: skip
    add("--json", action="store_true", help="print JSON, for programs")
    add("--results", metavar="PLACE", help=PLACE)


def compare(options: argparse.Namespace) -> int:
    """Compare engines of earlier sweeps on this machine, and print their ratios. Returns 0.

    Raises:
        InputError: a cell is not there, or cannot be compared with the others here.
        StepFailed: the comparison failed.
    """
    from farm.cli.results import results_of

    margin = options.margin / 100
    results = results_of(options.results, only_read=True)
    figures = compared(options.cells, results, options.sweep, options.seconds, margin)
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        print(as_text(figures, options.margin))
    return 0


def compared(
    cells: Sequence[str], results: Results, sweep: str | None, seconds: float, margin: float
) -> dict[str, Any]:
    """Run engines of earlier sweeps in turn, and return what the comparison found.

    sweep: needed where several sweeps have a cell of that name. seconds: the budget for each
    engine. margin: engines are tied that differ by no more than this fraction.

    Raises:
        InputError: a cell is not there, or cannot be compared with the others here.
        StepFailed: the comparison failed.
    """
    from farm.cli.recorded import recorded
    from farm.config.measuring import CompareSpec

    if len(set(cells)) < 2:
        raise InputError("two or more cells are needed", "farm compare")
    if not 0 < seconds <= 3600:
        raise InputError(f"{seconds}: expected over 0 to 3600 seconds", "seconds")
    if not 0 < margin <= 1:
        raise InputError(f"{margin}: expected a fraction over 0 to 1, as 0.02 for 2 %", "margin")
    found = [recorded(cell, results, sweep) for cell in dict.fromkeys(cells)]
    return _run(found, CompareSpec(seconds=seconds, margin=margin))


def _over_0(most: float, text: str) -> float:
    """Parse a number over 0 up to `most`. Raises ArgumentTypeError."""
    value = number(text)
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{text} is out of range; expected over 0 up to {most:g}")
    return value


def _run(found: Sequence[Recorded], how: CompareSpec) -> dict[str, Any]:
    """Run the comparison and return its figures. Raises InputError, StepFailed."""
    from farm.engine.local import LocalExecutor
    from farm.engine.scheduler import Unwatched, run_steps
    from farm.engine.status import StepStatus
    from farm.plan.comparisons import STAGE, Candidate, with_comparisons

    _require_comparable(found)
    first = found[0]
    steps = {key: step for one in found for key, step in one.plan.steps.items()}
    plan = replace(first.plan, cells=tuple(one.planned for one in found), steps=steps)
    plan = with_comparisons(plan, [[Candidate(one.planned) for one in found]], how)
    compared = plan.of_stage(STAGE)
    if len(compared) != 1:
        raise InputError(
            "these cells are of equal steps, or run in different container images; such are not"
            " compared side by side",
            "farm compare",
        )
    (step,), store = compared, first.store
    store.remove(step.ref)  # new figures are asked for
    wanted = plan.with_ancestors([step.key])
    outcomes = run_steps(wanted, store, lambda: LocalExecutor(store, first.limits), Unwatched())
    if outcomes[step.key].status is not StepStatus.DONE:
        raise StepFailed(outcomes[step.key].reason or "the comparison did not run")
    record = store.record(step.ref)
    assert record is not None
    return record.figures


def _require_comparable(found: Sequence[Recorded]) -> None:
    """Require measured cells of one target that were made here. Raises InputError."""
    for one in found:
        if "measure" not in one.planned.steps:
            reason = one.planned.refused or "it has no engine"
            raise InputError(f"{one.planned.cell.id}: {reason}", "farm compare")
    if len(targets := {one.row["target"] for one in found}) > 1:
        raise InputError(
            f"the cells are of several targets ({', '.join(sorted(targets))}), whose speeds are"
            " not compared side by side",
            "farm compare",
        )


def as_text(figures: Mapping[str, Any], margin: float) -> str:
    """Describe what a comparison found: a line for each engine, and what it shows.

    margin: in percent.
    """
    from farm.terminal import plain
    from farm.terminal.tables import table

    rows = sorted(figures["entrants"].values(), key=lambda one: (one["rank"], one["vs_best"]))
    headings = ("cell", "rank", "times the best's", "95 % interval", "p50 ms", "blocks")
    lines = [
        (
            plain(one["cell"]), str(one["rank"]), _RATIO.format(one["vs_best"]), _interval(one),
            f"{one['latency_p50_ms']:.2f}", str(one["rounds"]),
        )
        for one in rows
    ]  # fmt: skip
    shown = table(headings, lines, (False, True, True, True, True, True))
    said = textwrap.fill(plain(conclusion(rows, figures["ended"], margin)), 78)
    return f"{shown}\n\n{said}"


def _interval(one: Mapping[str, Any]) -> str:
    low, high = one.get("vs_best_low"), one.get("vs_best_high")
    return "-" if low is None or high is None or low == high else f"{low:.3f}-{high:.3f}"


def conclusion(rows: Sequence[Mapping[str, Any]], ended: str, margin: float) -> str:
    """Say in one sentence what is shown. rows: figures of the engines, by rank."""
    first = [one["cell"] for one in rows if one["rank"] == 1]
    if len(first) == 1:
        return f"{first[0]} is the fastest."
    named = f"{', '.join(first[:-1])} and {first[-1]}"
    if ended == "tied":
        return f"{named} are tied: they differ by no more than {margin:g} %."
    return (
        f"{named} cannot be told apart within this budget; a larger one (--seconds) or a quieter"
        " machine may show a difference."
    )
