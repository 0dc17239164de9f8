"""`farm best`: the engine to ship for each target and model, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from farm.cli.leaderboard import WHERE, parse_where
from farm.errors import InputError, nearest
from farm.parsing import number
from farm.run import PLACE

if TYPE_CHECKING:
    from farm.cli.results import Results
    from farm.results.columns import Row
    from farm.results.conditions import Condition
    from farm.results.picking.answers import Answer
    from farm.results.picking.criteria import Criteria

OBJECTIVES = ("latency", "throughput", "ap")

_MORE = """\
Of each target and model one engine is picked; of several models the Pareto front of AP and latency
is shown, too. Of each target the sweep counts that was written last and has the model. Of cells
that were compared side by side and cannot be told apart, the one of the shorter time is taken, then
of the higher AP, less memory, the faster build, the portable file; small differences count as none.
Ends with 1 if a target has no engine that meets the criteria: what is in the way is said."""


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm best`."""
    from farm.catalog import POSTPROCESS

    parser.description = f"{(parser.description or '').capitalize()}. {_MORE}"
    parser.set_defaults(command=best)
    add = parser.add_argument
    add("--target", help="the target that the engine is for (default: every target)")
    add("--model", help="only engines of this model (default: one pick for each model)")
    sweeps = parser.add_mutually_exclusive_group()
    sweeps.add_argument("--sweep", help="only engines of this sweep (default: that written last)")
    sweeps.add_argument(
        "--all-sweeps",
        action="store_true",
        help="engines of all sweeps together; figures of different sweeps were not taken side by"
        " side",
    )
    add(
        "--objective",
        choices=OBJECTIVES,
        default="latency",
        help="what the engine is to be best in (default: latency)",
    )
    add(
        "--max-ap-drop",
        type=number,
        default=0.5,
        metavar="POINTS",
        help="AP that may be lost against PyTorch, in points of 100 (default: 0.5)",
    )
    add(
        "--confident",
        action="store_true",
        help="hold the upper end of the 95 %% interval of the AP drop against --max-ap-drop, not"
        " the drop that was found on these images",
    )
    add(
        "--min-ap",
        type=_ap,
        metavar="AP",
        help="the least box AP, from 0 to 1 as in the leaderboard (0.40); a number over 1 counts"
        " as points of 100 (40) (default: any)",
    )
    add(
        "--max-latency-ms", type=number, metavar="MS", help="the largest p50 latency (default: any)"
    )
    add("--where", action="append", default=[], metavar="CONDITION", help=WHERE)
    add(
        "--postprocess",
        choices=POSTPROCESS,
        help="only engines whose graphs end there; raw outputs (none) have no AP"
        " (default: any with AP)",
    )
    add(
        "--pareto",
        action="store_true",
        help="show every engine that no other beats in both AP and latency",
    )
    add(
        "--json",
        action="store_true",
        help="print JSON, for programs: one object with --target and --model, else one with a list"
        " of targets; with --pareto the rows of the front",
    )
    add("--results", metavar="PLACE", help=PLACE)


def _ap(text: str) -> float:
    try:
        value = number(text)
    except ValueError:
        value = 101.0
    if value > 100:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no AP; expected 0 to 1 as in the leaderboard (0.40), or points of 100"
            " (40)"
        )
    return value / 100 if value > 1 else value


def best(options: argparse.Namespace) -> int:
    """Print the picks. Returns 1 if a target has no engine that meets the criteria, else 0.

    Raises:
        InputError: there is no leaderboard, or no such target, sweep, model or column.
    """
    from farm.cli.results import results_of
    from farm.results.names import with_outer_names
    from farm.results.picking.answers import answer_as_json, answers_as_text, pick_as_json
    from farm.results.tables.render import render

    results = results_of(options.results, only_read=True)
    wanted = Wanted(options.target, options.model, options.sweep, options.all_sweeps)
    rows, answers = picked(results, wanted, _criteria(options))
    if options.json and options.pareto:
        front = [row for one in answers for row in one.front()]
        print(json.dumps(with_outer_names(front), indent=1))
    elif options.json and options.target and options.model:
        print(json.dumps(pick_as_json(answers[0], options.model), indent=1))
    elif options.json:
        print(json.dumps({"targets": [answer_as_json(one) for one in answers]}, indent=1))
    elif options.pareto and any(one.found for one in answers):
        front = [row for one in answers for row in one.front()]
        print(render(front, "table", among=[row for row in rows if row not in front]))
        if without := [one for one in answers if not one.found]:
            print(f"\n{answers_as_text(without)}")
    else:
        print(answers_as_text(answers))
    return 0 if all(one.found for one in answers) else 1


@dataclass(frozen=True)
class Wanted:
    """Which picks are asked for: of a target and model, None for all; of one sweep, of all sweeps
    together, or of each target's that was written last."""

    target: str | None = None
    model: str | None = None
    sweep: str | None = None
    all_sweeps: bool = False


def picked(
    results: Results, wanted: Wanted, criteria: Criteria
) -> tuple[Sequence[Row], Sequence[Answer]]:
    """Return the rows that were looked at, and the picks by target.

    Raises:
        InputError: there is no leaderboard, or no such target, sweep, model or column.
    """
    from farm.cli.latest import last_written

    where = criteria.where
    rows = _selected(results.read(wanted.target, wanted.sweep), wanted.model, where)
    others: Mapping[str, Sequence[str]] = {}
    if not (wanted.sweep or wanted.all_sweeps):
        rows, others = last_written(rows, results)
    kept = tuple(one for one in where if one.column not in _GROUPS)
    return rows, _answers(rows, others, replace(criteria, where=kept), results)


def criteria_of(**values: Any) -> Criteria:
    """Return criteria with these values, for this machine. Imported figures of its own processor
    and GPUs are not picked, since such cells can be run here."""
    from farm.plan.machines.placement import cpu_model, gpus
    from farm.results.picking.criteria import Criteria

    return Criteria(devices=frozenset([cpu_model(), *map(str, gpus())]), **values)


def _criteria(options: argparse.Namespace) -> Criteria:
    return criteria_of(
        objective=options.objective,
        max_ap_drop=options.max_ap_drop,
        confident=options.confident,
        min_ap=options.min_ap,
        max_latency_ms=options.max_latency_ms,
        where=parse_where(options.where),
        postprocess=options.postprocess,
    )


_GROUPS = ("target", "model", "sweep")
"""Conditions on these say which picks are asked for, and not what an engine must satisfy."""


def _selected(rows: Sequence[Row], model: str | None, where: Sequence[Condition]) -> list[Row]:
    """The rows of the model, target and sweep that are asked for. Raises InputError for none."""
    models = {row["model"] for row in rows}
    if model is not None and model not in models:
        raise InputError(f"no model {model!r}{nearest(model, models)}", "--model")
    rows = [row for row in rows if model in (None, row["model"])]
    for one in where:
        if one.column in _GROUPS:
            known = {row[one.column] for row in rows}
            rows = [row for row in rows if one.met(row)]
            if not rows:
                raise InputError(f"no cell is so{nearest(str(one.value), known)}", one.text)
    return list(rows)


def _answers(
    rows: Sequence[Row],
    others: Mapping[str, Sequence[str]],
    criteria: Criteria,
    results: Results,
) -> list[Answer]:
    """The picks by target, with the files of those that are as their steps left them."""
    from farm.results.kept.files import places
    from farm.results.picking.answers import Answer
    from farm.results.picking.select import picks
    from farm.results.picking.shipping import checked
    from farm.store import Store

    store = results.store()
    found = {group: checked(one, store) for group, one in picks(rows, criteria).items()}
    # What was checked of an object store is in this machine's folder of it.
    here = Store(store.root)
    answers = []
    for target in dict.fromkeys(target for target, _ in found):
        own = [row for row in rows if row["target"] == target]
        of_target = {model: one for (at, model), one in found.items() if at == target}
        answers.append(
            Answer(
                target,
                tuple(sorted({row["sweep"] for row in own})),
                tuple(others.get(target, ())),
                of_target,
                {model: places(one.best, here) for model, one in of_target.items() if one.best},
                sum(row["status"] == "pending" for row in own),
            )
        )
    return answers
