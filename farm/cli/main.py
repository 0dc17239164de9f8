"""The `farm` command: its arguments, and what each command calls."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable

import farm
from farm import run as run_command
from farm.catalog import POSTPROCESS
from farm.cli import diff as diff_command
from farm.cli import gc as gc_command
from farm.cli import store as store_command
from farm.errors import InputError, nearest
from farm.models import command as models_command
from farm.offline import options as offline
from farm.single import options as single
from farm.terminal import logs


def main(guarded: Callable[..., int] = run_command.guarded) -> None:
    """Run the command that the command line names, and end with its exit code.

    guarded: runs a command with the parsed command line and returns its exit code.
    """
    parser = _parser()
    options = run_command.parse(parser)
    if not hasattr(options, "command"):
        parser.print_help()
        sys.exit(2)
    sys.exit(guarded(options.command, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="farm", description="One matrix in, a leaderboard and a picked engine out."
    )
    parser.add_argument("--version", action="version", version=f"farm {farm.__version__}")
    logs.add_arguments(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, call: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=call)
        logs.add_arguments(sub)
        return sub

    run_command.add_arguments(command("run", run_command.run, "run a matrix: the main job"))

    offline.add_commands(command)

    plan = command(
        "plan", _plan, "show the cells and steps of a matrix, and what the store has; runs nothing"
    )
    plan.add_argument("matrix", help="the matrix file (YAML)")
    plan.add_argument(
        "overrides", nargs="*", metavar="key=value", help="replaces a value of the matrix"
    )
    plan.add_argument("--json", action="store_true", help="print JSON, for programs")
    _add_results(plan)

    board = command("leaderboard", _leaderboard, "show the results")
    board.add_argument("--target", help="only the cells of this target")
    board.add_argument("--sweep", help="only the cells of this sweep")
    board.add_argument(
        "--format",
        choices=("table", "csv", "json", "markdown"),
        default="table",
        help="how it is printed (default: table)",
    )
    board.add_argument("--by-class", action="store_true", help="show the AP of each class")
    _add_results(board)

    best = command("best", _best, "pick the engine to ship for a target, and say why")
    best.add_argument("--target", required=True, help="the target that the engine is for")
    best.add_argument("--sweep", help="only engines of this sweep")
    best.add_argument("--model", help="only engines of this model")
    best.add_argument(
        "--objective",
        choices=("latency", "throughput", "ap"),
        default="latency",
        help="what the engine is to be best in (default: latency)",
    )
    best.add_argument(
        "--max-ap-drop",
        type=_number,
        default=0.5,
        metavar="POINTS",
        help="AP that may be lost against PyTorch, in points of 100 (default: 0.5)",
    )
    best.add_argument(
        "--max-latency-ms", type=_number, metavar="MS", help="the largest p50 latency allowed"
    )
    best.add_argument(
        "--postprocess",
        choices=POSTPROCESS,
        help="only engines whose graphs end there; raw outputs (none) have no AP",
    )
    best.add_argument(
        "--pareto",
        action="store_true",
        help="show every engine that no other beats in both AP and latency",
    )
    best.add_argument("--json", action="store_true", help="print JSON, for programs")
    _add_results(best)

    diff_command.add_arguments(command("diff", diff_command.diff, diff_command.TEXT), _number)

    again = command("reproduce", _reproduce, "run one cell again in this process, with full logs")
    again.add_argument("cell", help="its name, as `farm leaderboard --format csv` shows it")
    again.add_argument("--sweep", help="where several sweeps have a cell of that name")
    _add_results(again)

    single.add_commands(command)

    table = command("models", models_command.models, "check which models export, and print it")
    models_command.add_arguments(table)

    kept = command("store", store_command.verify, "look after the artifacts that sweeps have made")
    store_command.add_commands(kept)

    removal = command("gc", gc_command.gc, gc_command.TEXT)
    gc_command.add_arguments(removal)

    command("doctor", _doctor, "show what this machine can run, what is missing and how to get it")
    return parser


def _add_results(command: argparse.ArgumentParser) -> None:
    command.add_argument("--results", metavar="PLACE", help=run_command.PLACE)


def _number(text: str) -> float:
    """A finite number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def _plan(options: argparse.Namespace) -> int:
    from farm.cli.plan import as_json, as_text
    from farm.cli.results import results_of
    from farm.config.loader import load_matrix
    from farm.plan import make_plan
    from farm.store.facts import facts_from

    matrix = load_matrix(options.matrix, options.overrides)
    store = results_of(options.results, matrix).store()
    plan = make_plan(matrix, facts_from(store))
    store.learn(step.ref for step in plan.steps.values())
    print(json.dumps(as_json(plan, store), indent=1) if options.json else as_text(plan, store))
    return 0


def _leaderboard(options: argparse.Namespace) -> int:
    from farm.cli.results import results_of
    from farm.results.tables import render, render_by_class

    gc.disable()  # a seventh of the time of many rows; the command ends at once
    rows = results_of(options.results).read(options.target, options.sweep)
    print((render_by_class if options.by_class else render)(rows, options.format))
    return 0


def _best(options: argparse.Namespace) -> int:
    from farm.cli.results import results_of
    from farm.plan.placement import cpu_model, gpus
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


def _reproduce(options: argparse.Namespace) -> int:
    from farm.cli.reproduce import reproduce
    from farm.cli.results import results_of

    return reproduce(options.cell, results_of(options.results), options.sweep)


def _doctor(options: argparse.Namespace) -> int:
    from farm.doctor import print_report

    return print_report()


if __name__ == "__main__":
    main()
