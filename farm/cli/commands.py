"""The commands that show a plan and its results: their arguments, and what they call."""

from __future__ import annotations

import argparse
import gc
import json

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
    from farm.cli.plan import Duration, as_json, as_text
    from farm.cli.results import results_of
    from farm.config.loader import load_matrix
    from farm.engine.known import steps_to_do, tried_again
    from farm.engine.remaining import whole_seconds
    from farm.engine.workers.limits import limits_of
    from farm.plan import make_plan
    from farm.plan.machines.placement import cores
    from farm.store.facts import facts_from

    gc.disable()  # many cells; the command ends at once
    matrix = load_matrix(options.matrix, options.overrides)
    results = results_of(options.results, matrix, only_read=True)
    store, limits = results.store(cached=True), limits_of(matrix.spec.limits)
    plan = make_plan(matrix, facts_from(store, again=tried_again(limits)))
    store.learn(step.ref for step in plan.steps.values())
    todo = steps_to_do(plan.steps, store, limits)
    estimates, slots = results.estimates(), cores()
    seconds = whole_seconds(plan, todo, estimates, slots, matrix.spec.compare)
    duration = Duration(seconds, slots, any(map(estimates.knows, todo)))
    if options.json:
        print(json.dumps(as_json(plan, store, duration), indent=1))
    else:
        print(as_text(plan, store, duration))
    return 0


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm reproduce`."""
    parser.add_argument("cell", help="its name, as `farm leaderboard --format csv` shows it")
    parser.add_argument("--sweep", help="where several sweeps have a cell of that name")
    _add_results(parser)
    parser.set_defaults(command=_reproduce)


def _reproduce(options: argparse.Namespace) -> int:
    from farm.cli.reproduce import reproduce
    from farm.cli.results import results_of

    return reproduce(options.cell, results_of(options.results, only_read=True), options.sweep)


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the command `farm doctor`, which has no arguments."""
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from farm.doctor import print_report

    return print_report()


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", metavar="PLACE", help=PLACE)
