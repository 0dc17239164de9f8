"""The commands that show a plan and its results: their arguments, and what they call."""

from __future__ import annotations

import argparse
import gc
import json

from farm.errors import InputError, nearest
from farm.parsing import number
from farm.run import PLACE


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm plan`."""
    parser.add_argument("matrix", help="the matrix file (YAML)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="replaces a value of the matrix"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    _add_results(parser)
    parser.set_defaults(command=_plan)


def _plan(options: argparse.Namespace) -> int:
    from farm.cli.plan import as_json, as_text
    from farm.cli.results import results_of
    from farm.config.loader import load_matrix
    from farm.plan import make_plan
    from farm.store.facts import facts_from

    gc.disable()  # many cells; the command ends at once
    matrix = load_matrix(options.matrix, options.overrides)
    store = results_of(options.results, matrix).store()
    plan = make_plan(matrix, facts_from(store))
    store.learn(step.ref for step in plan.steps.values())
    print(json.dumps(as_json(plan, store), indent=1) if options.json else as_text(plan, store))
    return 0


def add_best(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm best`."""
    from farm.catalog import POSTPROCESS

    add = parser.add_argument
    add("--target", required=True, help="the target that the engine is for")
    add("--sweep", help="only engines of this sweep")
    add("--model", help="only engines of this model")
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
    add("--max-latency-ms", type=number, metavar="MS", help="the largest p50 latency allowed")
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
    add("--json", action="store_true", help="print JSON, for programs")
    _add_results(parser)
    parser.set_defaults(command=_best)


def _best(options: argparse.Namespace) -> int:
    from farm.cli.results import results_of
    from farm.plan.machines.placement import cpu_model, gpus
    from farm.results.rows import places
    from farm.results.select import Criteria, pareto, pick
    from farm.results.shipping import checked
    from farm.results.tables import pick_as_json, pick_as_text, render
    from farm.store import Store

    results = results_of(options.results)
    rows = results.read(options.target, options.sweep)
    models = {row["model"] for row in rows}
    if options.model is not None and options.model not in models:
        raise InputError(f"no model {options.model!r}{nearest(options.model, models)}", "--model")
    criteria = Criteria(
        options.objective, options.max_ap_drop, options.max_latency_ms, options.model,
        options.postprocess, frozenset([cpu_model(), *map(str, gpus())]),
    )  # fmt: skip
    store = results.store()
    picked = checked(pick(rows, criteria), store)
    # What was checked of an object store is in this machine's folder of it.
    where = places(picked.best, Store(store.root)) if picked.best else {}
    if options.pareto and picked.best:
        front = pareto(picked.eligible)
        print(json.dumps(front, indent=1) if options.json else render(front, "table"))
    elif options.json:
        print(json.dumps(pick_as_json(picked, where), indent=1))
    else:
        print(pick_as_text(picked, where))
    return 0 if picked.best else 1


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm reproduce`."""
    parser.add_argument("cell", help="its name, as `farm leaderboard --format csv` shows it")
    parser.add_argument("--sweep", help="where several sweeps have a cell of that name")
    _add_results(parser)
    parser.set_defaults(command=_reproduce)


def _reproduce(options: argparse.Namespace) -> int:
    from farm.cli.reproduce import reproduce
    from farm.cli.results import results_of

    return reproduce(options.cell, results_of(options.results), options.sweep)


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the command `farm doctor`, which has no arguments."""
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from farm.doctor import print_report

    return print_report()


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", metavar="PLACE", help=PLACE)
