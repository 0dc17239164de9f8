"""Run one sweep: check the models, plan, run the steps, write the results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from farm.cli.progress import Progress
from farm.engine.checks import checked_plan, log_notes
from farm.engine.claims import remove_stale_work
from farm.engine.executors import Choices, starter
from farm.engine.holding import announced
from farm.engine.known import steps_to_do, tried_again
from farm.engine.remaining import Comparison, TimeLeft, comparisons_of
from farm.engine.scheduler import Executor, Outcome, Unwatched, Watchers, run_steps
from farm.engine.status import CellStatus, failure_classes, failure_reasons, is_well, skip_reasons
from farm.engine.workers.limits import Limits, limits_of
from farm.errors import ClusterLost, InputErrors
from farm.plan import make_plan
from farm.plan.comparisons import STAGE as COMPARE
from farm.plan.machines.placement import cores
from farm.results.candidates import compared
from farm.results.leaderboard.board import Board, LiveRows
from farm.results.rows import make_rows
from farm.results.tracking import link, tracking_uri
from farm.results.tracking.follower import Tracker
from farm.store.facts import facts_from
from farm.store.records import HERE
from farm.store.upkeep import needs
from farm.store.upkeep.repair import discard_altered

if TYPE_CHECKING:
    from farm.cli.results import Results
    from farm.config.loader import Matrix
    from farm.engine.estimates import Estimates
    from farm.plan.steps import Plan, Step
    from farm.results.again import Again
    from farm.results.columns import Row
    from farm.store import Store

log = logging.getLogger(__name__)

_INTERRUPTED_S = 2.0
"""How long MLflow is waited for after an interruption, in seconds."""


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep. interrupted: not all of it was run; the next run continues it."""

    plan: Plan
    rows: Sequence[Row]
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """Return 0 if every cell that can be run is OK, 1 if not, 130 if the sweep was
        interrupted."""
        if self.interrupted:
            return 130
        # Figures of another machine do not tell how this run ended.
        own = (row["status"] if row["origin"] == HERE else CellStatus.PENDING for row in self.rows)
        return 0 if is_well(own) else 1


def run_sweep(
    matrix: Matrix,
    results: Results,
    choices: Choices,
    show: Callable[[Sweep], None] = lambda _: None,
    again: Again | None = None,
) -> Sweep:
    """Run a matrix, and write its rows of the leaderboard even if it is interrupted.

    show: is called when the leaderboard is on the disk, before MLflow is waited for.
    again: what is done anew although it is in the store.

    Raises:
        InputError: something that the user must correct, found before any heavy work.
        ClusterLost: Ray does not answer any more; the leaderboard has what was done before.
    """
    store, began = results.store(cached=True), time.perf_counter()
    limits, outcomes = limits_of(matrix.spec.limits), dict[str, Outcome]()
    plan = make_plan(matrix, facts_from(store, repair=True, again=tried_again(limits)))
    log.debug("planned %d steps in %.2f s", len(plan.steps), time.perf_counter() - began)
    if plan.missing:
        raise InputErrors(plan.missing)
    with results.locked(matrix.name):
        store.require_version(write=True)
        results.keep_matrix(matrix)
        if stale := remove_stale_work(store):
            log.debug("removed %d working folders of sweeps that were killed", stale)
        tracker = Tracker(matrix.name, results.folder, store, str(results))
        if choices.mlflow and not all(store.record(step.ref) for step in plan.steps.values()):
            log_place(matrix.name, results)  # what is done already is shown at once, with the link

        def end(interrupted: bool) -> Sweep:
            rows = publish(matrix, plan, store, outcomes, results)
            sweep = Sweep(plan, rows, interrupted)
            show(sweep)
            if choices.mlflow:
                tracker.close(sweep.rows, _INTERRUPTED_S if interrupted else None)
            return sweep

        try:
            with ExitStack() as stack:
                estimates = results.estimates()
                start = starter(store, choices, limits, stack)
                stack.callback(results.keep_estimates, estimates)
                plan = checked_plan(
                    matrix,
                    store,
                    start,
                    choices.retry_failed,
                    planned=plan,
                    outcomes=outcomes,
                    estimates=estimates,
                )
                log_notes(plan, store)
                results.keep_replaced(plan)
                if again:
                    _forget(again, matrix, plan, store, results)
                live = partial(_live, matrix, store, results, tracker if choices.mlflow else None)
                refs = (step.ref for step in plan.steps.values())
                stack.enter_context(announced(store, plan.name, str(results), refs))
                later = comparisons_of(plan, matrix.spec.compare)
                outcomes |= _run(plan, store, start, choices, limits, live, estimates, later)
                plan = _with_comparisons(matrix, plan, store, results)
                compares = plan.with_ancestors(step.key for step in plan.of_stage(COMPARE))
                part = replace(plan, steps=compares)
                outcomes |= _run(part, store, start, choices, limits, live, estimates)
        except KeyboardInterrupt:
            return end(interrupted=True)  # here, where another signal changes nothing
        except ClusterLost:
            end(interrupted=True)
            raise
        else:
            return end(interrupted=False)
        finally:
            tracker.kill()


def _with_comparisons(matrix: Matrix, plan: Plan, store: Store, results: Results) -> Plan:
    """The plan with the comparisons of what was measured, which the sweep needs from now on."""
    if matrix.spec.compare is None:
        return plan
    rows = make_rows(plan, store, matrix.spec.verify, {})
    plan = compared(plan, rows, matrix.spec.compare)
    if plan.of_stage(COMPARE):
        refs = (step.ref for step in plan.steps.values())
        needs.write(store.objects, plan.name, str(results), refs)
    return plan


def _forget(again: Again, matrix: Matrix, plan: Plan, store: Store, results: Results) -> None:
    """Keep the figures that are asked for anew as history, and let their steps run again.

    Raises:
        InputError: there is no such cell.
    """
    rows = make_rows(plan, store, matrix.spec.verify, {})
    plan = compared(plan, rows, matrix.spec.compare)
    chosen = again.chosen(make_rows(plan, store, matrix.spec.verify, {}))
    refs = again.refs(chosen)
    if chosen:
        results.keep_history(chosen, plan.name)
    for ref in refs:
        store.remove(ref)
    log.info(f"{len(chosen)} cells: {again.stage} runs again; their earlier figures are history")


def _live(
    matrix: Matrix,
    store: Store,
    results: Results,
    tracker: Tracker | None,
    plan: Plan,
    remaining: Sequence[Step],
) -> LiveRows:
    """A watcher that writes the rows while the sweep runs, and logs them to MLflow."""

    def written() -> None:
        results.keep(plan.name, complete=False)
        if tracker:
            tracker.update()

    board = Board(results.folder, plan.name, written)
    return LiveRows(plan, remaining, store, matrix.spec.verify, board)


def log_place(sweep: str, results: Results) -> None:
    """Log where a sweep is in MLflow: the link to its runs."""
    # MLflow keeps no database in an object store, but in this machine's folder of it.
    for line in link.lines(sweep, results.folder, tracking_uri(results.folder)):
        log.info(line)


def publish(
    matrix: Matrix, plan: Plan, store: Store, outcomes: Mapping[str, Outcome], results: Results
) -> list[Row]:
    """Write the sweep's rows of the leaderboard, made from the store. Returns them.

    Raises:
        OSError: the leaderboard cannot be written.
    """
    ends = outcomes.values()
    reasons = failure_reasons(ends), skip_reasons(ends), failure_classes(ends)
    rows = make_rows(plan, store, matrix.spec.verify, *reasons)
    results.write(rows, plan.name)
    return rows


def _run(
    plan: Plan,
    store: Store,
    start: Callable[[], Executor],
    choices: Choices,
    limits: Limits,
    live: Callable[[Plan, Sequence[Step]], LiveRows | Unwatched],
    estimates: Estimates,
    comparisons: Sequence[Comparison] = (),
) -> dict[str, Outcome]:
    """Run the steps of a plan. comparisons: that will be planned once they are done."""
    store.learn(step.ref for step in plan.steps.values())
    steps = {key: step for key, step in plan.steps.items() if _is_open(step, store)}
    discard_altered(store, (step.ref for step in steps.values()))
    remaining = steps_to_do(steps, store, limits, choices.retry_failed)
    if not remaining:
        return run_steps(steps, store, start, Unwatched(), choices.retry_failed, limits, estimates)
    log.info(
        f"Sweep {plan.name}: {len(plan.cells)} cells, {len(remaining)} of {len(steps)} steps to do"
    )
    estimates.add_plan(plan.steps)
    slots = 1 if choices.executor == "inline" else cores()
    left = TimeLeft(remaining, estimates, slots, comparisons)
    with Progress(remaining, left) as progress, live(plan, remaining) as rows:
        watchers = Watchers(progress, rows)
        return run_steps(steps, store, start, watchers, choices.retry_failed, limits, estimates)


def _is_open(step: Step, store: Store) -> bool:
    """Whether the step may run: every model has had its check by now, and gets no second one."""
    return step.stage != "check" or store.record(step.ref) is not None
