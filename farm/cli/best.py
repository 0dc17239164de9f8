"""`farm best`: the engine to ship for each target and model, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
        choices=("latency", "throughput", "ap"),
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
        " as points of 100 (40)",
    )
    add("--max-latency-ms", type=number, metavar="MS", help="the largest p50 latency allowed")
    add("--where", action="append", default=[], metavar="CONDITION", help=WHERE)
    add(
        "--postprocess",
        choices=POSTPROCESS,
        help="only engines whose graphs end there; raw outputs (none) have no AP",
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
    from farm.results.picking.answers import answer_as_json, answers_as_text, pick_as_json
    from farm.results.tables import render

    where = parse_where(options.where)
    results = results_of(options.results)
    rows = _selected(results.read(options.target, options.sweep), options.model, where)
    others: Mapping[str, Sequence[str]] = {}
    if not (options.sweep or options.all_sweeps):
        rows, others = _last_written(rows, results)
    where = tuple(one for one in where if one.column not in _GROUPS)
    answers = _answers(rows, others, _criteria(options, where), results)
    if options.json and options.pareto:
        print(json.dumps([row for one in answers for row in one.front()], indent=1))
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


def _criteria(options: argparse.Namespace, where: tuple[Condition, ...]) -> Criteria:
    from farm.plan.machines.placement import cpu_model, gpus
    from farm.results.picking.criteria import Criteria

    return Criteria(
        objective=options.objective,
        max_ap_drop=options.max_ap_drop,
        confident=options.confident,
        min_ap=options.min_ap,
        max_latency_ms=options.max_latency_ms,
        where=where,
        postprocess=options.postprocess,
        devices=frozenset([cpu_model(), *map(str, gpus())]),
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


def _last_written(
    rows: Sequence[Row], results: Results
) -> tuple[list[Row], Mapping[str, list[str]]]:
    """The rows of each target's sweep that was written last, and the other sweeps by target."""
    sweeps = {(row["target"], row["sweep"]) for row in rows}
    times = results.written_files() if len(sweeps) > len({row["target"] for row in rows}) else {}
    by_time = sorted(sweeps, key=lambda one: (times.get(one, 0.0), one))
    last = dict(by_time)
    others = {
        target: sorted(sweep for at, sweep in sweeps if at == target and sweep != own)
        for target, own in last.items()
    }
    return [row for row in rows if row["sweep"] == last[row["target"]]], others


def _answers(
    rows: Sequence[Row],
    others: Mapping[str, Sequence[str]],
    criteria: Criteria,
    results: Results,
) -> list[Answer]:
    """The picks by target, with the files of those that are as their steps left them."""
    from farm.results.files import places
    from farm.results.picking.answers import Answer
    from farm.results.picking.select import picks
    from farm.results.shipping import checked
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
