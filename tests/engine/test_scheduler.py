"""The scheduler, driven by an executor whose steps end as each test says."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from farm import interrupts
from farm.engine import order, ready
from farm.engine.checks import require_packages
from farm.engine.claims import Claims
from farm.engine.estimates import Estimates
from farm.engine.order import LOSSES, TRIES
from farm.engine.scheduler import Outcome, StepStatus, run_steps
from farm.engine.status import TRANSITIONS, InvalidTransition, StepStatuses
from farm.engine.workers.limits import Limits
from farm.errors import InputError
from farm.failures import FailureKind
from farm.interrupts import Interrupted
from farm.plan import Step
from farm.plan.steps import Needs
from farm.specs import Ref
from farm.store import Failure, Record, Store


@dataclass
class Scripted:
    """An executor of `slots` places. ends: how each step ends, one status a try ('done' where
    nothing is said). optional: reasons that `admit` returns by key. outcomes: of a step's first
    tries, before `ends`."""

    slots: int = 1
    ends: Mapping[str, list[str]] = field(default_factory=dict)
    outcomes: dict[str, list[Callable[[], Outcome]]] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    admitted: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    most: int = 0
    running: list[Step] = field(default_factory=list)

    def admit(self, steps: Iterable[Step], estimates: Estimates) -> Mapping[str, str]:
        self.admitted += [step.key for step in steps]
        return self.optional

    def forget(self, step: Step) -> None: ...

    def take(self, step: Step) -> bool:
        if len(self.running) == self.slots:
            self.refused.append(step.key)
            return False
        self.taken.append(step.key)
        self.running.append(step)
        self.most = max(self.most, len(self.running))
        return True

    def wait(self) -> Outcome:
        step = self.running.pop(0)
        if self.outcomes.get(step.key):
            return self.outcomes[step.key].pop(0)()
        tried = self.taken.count(step.key)
        statuses = self.ends.get(step.key, [])
        status = statuses[min(tried, len(statuses)) - 1] if statuses else "done"
        if status == "interrupt":
            raise Interrupted
        return Outcome(step.key, StepStatus(status), f"{step.key} {status}", 1.0)

    def stop(self) -> None: ...


@dataclass
class Notes:
    """A watcher that keeps what happened, in order."""

    events: list[tuple[str, str]] = field(default_factory=list)

    def started(self, step: Step) -> None:
        self.events.append(("started", step.key))

    def ended(self, step: Step, outcome: Outcome) -> None:
        self.events.append((outcome.status, step.key))


def step(key: str, *parents: str, needs: Needs | None = None) -> Step:
    return Step("export", key, key.upper(), None, (), parents, needs or Needs(), "")  # type: ignore[arg-type]


def steps(*found: Step) -> dict[str, Step]:
    return {one.key: one for one in found}


DIAMOND = steps(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"))


def run(
    planned: Mapping[str, Step], executor: Scripted, store: Store, retry_failed: bool = False
) -> tuple[dict[str, Outcome], list[tuple[str, str]]]:
    notes = Notes()
    return run_steps(planned, store, lambda: executor, notes, retry_failed), notes.events


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def finish(store: Store, key: str) -> None:
    folder = store.work_folder(key)
    store.publish(folder, Record("export", key, key, {}, {}, {}, 1.0, 1, {}))


def altered(store: Store, parent: str) -> Callable[[], Outcome]:
    """How the step `m` ends that finds its parent altered: the artifact is removed by then."""

    def end() -> Outcome:
        shutil.rmtree(store.path(Ref("export", parent)))
        return Outcome("m", StepStatus.TRANSIENT, "altered", altered=Ref("export", parent))

    return end


def statuses(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    return {key: outcome.status for key, outcome in outcomes.items()}


def test_parents_run_before_children_and_a_shared_step_once(store: Store) -> None:
    executor = Scripted(slots=4)
    outcomes, events = run(DIAMOND, executor, store)
    assert executor.taken == ["a", "b", "c", "d"] and executor.admitted == ["a", "b", "c", "d"]
    assert statuses(outcomes) == dict.fromkeys("abcd", "done")
    assert events.index(("done", "b")) < events.index(("started", "d"))
    assert events.index(("done", "c")) < events.index(("started", "d"))
    assert executor.most == 2


def test_steps_in_the_store_are_not_run_again(store: Store) -> None:
    finish(store, "a")
    finish(store, "b")
    executor = Scripted()
    outcomes, events = run(DIAMOND, executor, store)
    assert executor.taken == ["c", "d"] and executor.admitted == ["c", "d"]
    assert outcomes["a"] == Outcome("a", StepStatus.DONE) and statuses(outcomes)["d"] == "done"
    assert ("done", "a") not in events


def test_no_executor_is_started_where_nothing_is_to_be_done(store: Store) -> None:
    finish(store, "a")
    store.record_failure(Failure("export", "b", "b", "no operator"), None)

    def start() -> Scripted:
        raise AssertionError("an executor was started")

    outcomes = run_steps(steps(step("a"), step("b", "a")), store, start, Notes())
    assert outcomes == {
        "a": Outcome("a", StepStatus.DONE),
        "b": Outcome("b", StepStatus.FAILED, "no operator"),
    }


def test_what_waits_for_a_failed_step_is_skipped_with_its_reason(store: Store) -> None:
    executor = Scripted(ends={"b": ["failed"]})
    outcomes, events = run(
        steps(*DIAMOND.values(), step("e", "d"), step("f", "c")), executor, store
    )
    assert executor.taken == ["a", "b", "c", "f"]
    assert statuses(outcomes) == {
        "a": "done", "b": "failed", "c": "done", "d": "blocked", "e": "blocked", "f": "done",
    }  # fmt: skip
    assert outcomes["d"].reason == outcomes["e"].reason == "b failed"
    assert ("blocked", "d") in events and ("started", "d") not in events


@pytest.mark.parametrize("status", ["failed", "input", "skipped"])
def test_only_a_transient_failure_is_tried_again(store: Store, status: str) -> None:
    executor = Scripted(ends={"a": [status]})
    outcomes, events = run(steps(step("a"), step("b", "a")), executor, store)
    assert executor.taken == ["a"]
    assert statuses(outcomes) == {"a": status, "b": "blocked"}
    assert events == [("started", "a"), (status, "a"), ("blocked", "b")]


def test_a_transient_failure_passes_at_a_later_try(store: Store) -> None:
    executor = Scripted(ends={"a": ["transient", "transient", "done"]})
    outcomes, events = run(steps(step("a"), step("b", "a")), executor, store)
    assert executor.taken == ["a", "a", "a", "b"]
    assert statuses(outcomes) == {"a": "done", "b": "done"}
    assert [one for one in events if one[1] == "a"] == [("started", "a")] * 3 + [("done", "a")]


def test_a_transient_failure_is_given_up_after_three_tries(store: Store) -> None:
    executor = Scripted(ends={"a": ["transient"]})
    outcomes, events = run(steps(step("a"), step("b", "a"), step("c")), executor, store)
    assert executor.taken.count("a") == TRIES == 3
    assert statuses(outcomes) == {"a": "transient", "b": "blocked", "c": "done"}
    assert outcomes["b"].reason == "a transient"
    assert events.count(("transient", "a")) == 1


def test_recorded_failures_are_shown_and_retried_only_when_asked(store: Store) -> None:
    planned = steps(step("a"), step("b", "a"))
    store.record_failure(Failure("export", "a", "a", "no operator"), None)
    executor = Scripted()
    outcomes, events = run(planned, executor, store)
    assert executor.taken == [] and events == []
    assert outcomes["a"] == Outcome("a", StepStatus.FAILED, "no operator")
    assert outcomes["b"].reason == "no operator"
    outcomes, _ = run(planned, executor, store, retry_failed=True)
    assert executor.taken == ["a", "b"] and statuses(outcomes) == {"a": "done", "b": "done"}
    assert store.failure("a") is None


def test_steps_that_no_node_can_run_are_skipped_and_block_their_children(store: Store) -> None:
    executor = Scripted(optional={"b": "no H100"})
    outcomes, events = run(DIAMOND, executor, store)
    assert executor.taken == ["a", "c"]
    assert outcomes["b"] == Outcome("b", StepStatus.SKIPPED, "no H100")
    assert statuses(outcomes) == {"a": "done", "b": "skipped", "c": "done", "d": "blocked"}
    assert events[0] == ("skipped", "b")


def test_an_input_error_of_admit_ends_the_run_before_any_work(store: Store) -> None:
    class Refusing(Scripted):
        def admit(self, steps: Iterable[Step], estimates: Estimates) -> Mapping[str, str]:
            raise InputError("no node can run it")

    executor = Refusing()
    with pytest.raises(InputError, match="no node can run it"):
        run(DIAMOND, executor, store)
    assert executor.taken == []


def test_steps_that_need_a_node_alone_are_offered_last(store: Store) -> None:
    alone = Needs(exclusive=True)
    executor = Scripted(slots=9)
    run(
        steps(step("m", needs=alone), step("a"), step("n", needs=alone), step("b")), executor, store
    )
    assert executor.taken == ["a", "b", "m", "n"]


def test_one_refusal_stands_for_all_steps_of_the_same_needs(store: Store) -> None:
    executor = Scripted(slots=1)
    run(steps(*(step(key) for key in "abcd"), step("e", needs=Needs(cpus=2))), executor, store)
    # First round: a is taken, b and e (of other needs) are refused; c and d are not asked.
    assert executor.refused[:2] == ["b", "e"]
    assert executor.taken == ["a", "b", "c", "d", "e"]


def test_an_interrupt_keeps_what_ended_and_starts_nothing_more(store: Store) -> None:
    executor = Scripted(ends={"b": ["interrupt"]})
    notes = Notes()
    with pytest.raises(Interrupted):
        run_steps(DIAMOND, store, lambda: executor, notes)
    assert executor.taken == ["a", "b"]
    assert notes.events == [("started", "a"), ("done", "a"), ("started", "b")]


def test_an_interrupt_that_a_library_swallowed_stops_the_next_round(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Scripted()
    monkeypatch.setattr(interrupts, "_interrupted", True)
    with pytest.raises(Interrupted):
        run(DIAMOND, executor, store)
    assert executor.taken == []


def test_steps_whose_parents_are_not_planned_are_named(store: Store) -> None:
    with pytest.raises(RuntimeError, match="export B waits for a step that is not planned"):
        run(steps(step("b", "nonesuch")), Scripted(), store)


def test_a_step_that_is_given_back_unstarted_runs_later_and_has_lost_no_try(store: Store) -> None:
    executor = Scripted(ends={"a": ["waiting", "waiting", "transient", "transient", "done"]})
    outcomes, _ = run(DIAMOND, executor, store)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert executor.taken == [*"aaaaa", *"bcd"]
    assert not any((store.root / "claims").iterdir())


@pytest.mark.parametrize("status", ["running", "blocked"])
def test_an_executor_that_reports_what_no_step_can_end_with_is_an_error(
    store: Store, status: str
) -> None:
    executor = Scripted(ends={"a": [status]})
    with pytest.raises(InvalidTransition, match=f"step a is running and cannot become {status}"):
        run(DIAMOND, executor, store)


def test_runs_make_every_transition_of_the_table_and_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, change = set(), StepStatuses.change

    def noted(self: StepStatuses, key: str, new: StepStatus) -> None:
        old = self[key]
        change(self, key, new)
        made.add((old, new))

    monkeypatch.setattr(StepStatuses, "change", noted)
    finish(store, "a")
    store.record_failure(Failure("export", "b", "b", "no operator"), None)
    ends = {"c": ["failed"], "d": ["input"], "e": ["transient", "failed"], "f": ["transient"]}
    ends["i"] = ["waiting", "done"]
    planned = steps(*(step(key) for key in "abcdefghi"), step("j", "i"), step("k", "b"))
    run(planned, Scripted(ends={**ends, "g": ["skipped"]}, optional={"h": "no H100"}), store)
    finish(store, "l")
    run(steps(step("l"), step("m", "l")), Scripted(outcomes={"m": [altered(store, "l")]}), store)
    assert made == {(old, new) for old, allowed in TRANSITIONS.items() for new in allowed}


def test_packages_that_are_not_installed_are_named_for_steps_still_to_run(store: Store) -> None:
    def using(key: str, *tools: tuple[str, str]) -> Step:
        return Step("export", key, key, None, tools, (), Needs(), "")  # type: ignore[arg-type]

    finish(store, "a")
    done = using("a", ("gone", "absent"))
    require_packages([done, using("b", ("onnx", "1.16"))], store)
    with pytest.raises(InputError) as error:
        require_packages(
            [done, using("c", ("z", "absent"), ("y", "absent")), using("d", ("z", "absent"))], store
        )
    assert error.value.message.startswith("y, z not installed; `farm doctor` says")


def test_a_parent_that_was_altered_is_made_anew_and_its_child_runs_again(store: Store) -> None:
    for key in "al":
        finish(store, key)
    planned = steps(step("a"), step("l", "a"), step("m", "l"), step("n", "l"), step("o", "m"))
    executor = Scripted(outcomes={"m": [altered(store, "l")]})
    outcomes, _ = run(planned, executor, store)
    assert executor.taken == ["m", "l", "m", "n", "o"]
    assert statuses(outcomes) == dict.fromkeys("almno", "done")


def test_a_parent_that_cannot_be_made_anew_blocks_its_children(store: Store) -> None:
    finish(store, "l")
    planned = steps(step("l"), step("m", "l"), step("n", "m"))
    executor = Scripted(outcomes={"m": [altered(store, "l")]}, ends={"l": ["failed"]})
    outcomes, _ = run(planned, executor, store)
    assert executor.taken == ["m", "l"]
    assert statuses(outcomes) == {"l": "failed", "m": "blocked", "n": "blocked"}


@pytest.mark.parametrize("kind", [FailureKind.OOM, FailureKind.CRASH])
def test_a_step_that_has_killed_two_workers_gets_no_third(store: Store, kind: FailureKind) -> None:
    killed = Outcome("a", StepStatus.TRANSIENT, "killed", kind=kind)
    executor = Scripted(outcomes={"a": [lambda: killed] * 9})
    outcomes, _ = run(steps(step("a")), executor, store)
    assert executor.taken == ["a", "a"] and statuses(outcomes) == {"a": "transient"}


def test_a_step_that_reached_a_limit_is_tried_again_under_a_higher_one(store: Store) -> None:
    def taken(limits: Limits) -> list[str]:
        failure = Failure("export", "a", "a", "too slow", FailureKind.TIMEOUT, 60.0)
        store.record_failure(failure, None)
        executor = Scripted(ends={"a": ["failed"]})
        outcomes = run_steps(steps(step("a")), store, lambda: executor, Notes(), limits=limits)
        assert outcomes["a"].status is StepStatus.FAILED
        return executor.taken

    assert taken(Limits({"export": 60.0})) == []
    assert taken(Limits({"build": 61.0, "export": 30.0})) == []
    assert taken(Limits({"export": 61.0})) == ["a"]


def test_a_failure_keeps_its_class(store: Store) -> None:
    store.record_failure(Failure("export", "a", "a", "no operator", "unsupported"), None)
    outcomes, _ = run(steps(step("a")), Scripted(), store)
    assert outcomes["a"].kind is FailureKind.UNSUPPORTED


def test_a_step_that_another_sweep_is_running_is_awaited_and_not_run(store: Store) -> None:
    """Also where it fails there."""
    other = Claims(store)
    assert other.claim(step("a")) and other.claim(step("b"))
    executor = Scripted()

    def work() -> None:
        time.sleep(0.5)
        finish(store, "a")
        store.record_failure(Failure("export", "b", "b", "no operator"), None)
        other.release_all()

    thread = threading.Thread(target=work)
    thread.start()
    outcomes, _ = run(steps(step("a"), step("b"), step("c", "a"), step("d")), executor, store)
    thread.join()
    assert sorted(executor.taken) == ["c", "d"]
    assert statuses(outcomes) == {"a": "done", "b": "failed", "c": "done", "d": "done"}


@pytest.mark.parametrize("children", [0, 2])
def test_a_sweep_goes_on_when_all_that_it_waits_for_has_ended_elsewhere(
    store: Store, children: int
) -> None:
    """The step that another sweep was running was the last, or others wait for it alone."""
    other = Claims(store)
    assert other.claim(step("a"))

    def work() -> None:
        time.sleep(0.2)
        finish(store, "a")
        other.release_all()

    thread = threading.Thread(target=work)
    thread.start()
    names = [f"b{n}" for n in range(children)]
    apart = Needs(own_process=True)
    planned = steps(step("a"), *(step(name, "a", needs=apart) for name in names))
    outcomes, _ = run(planned, Scripted(), store)
    thread.join()
    assert statuses(outcomes) == dict.fromkeys(["a", *names], "done")


def test_claims_are_given_back_however_the_run_ends(store: Store) -> None:
    with pytest.raises(Interrupted):
        run(DIAMOND, Scripted(ends={"b": ["interrupt"]}), store)
    assert list((store.root / "claims").iterdir()) == []


def test_the_work_for_a_step_does_not_grow_with_the_number_of_steps(store: Store) -> None:
    """The executor is asked a bounded number of times per step, whatever waits."""
    many = steps(step("a"), *(step(f"b{n}", "a") for n in range(500)))
    executor = Scripted(slots=2)
    run(many, executor, store)
    assert len(executor.taken) == 501 and len(executor.refused) <= 501


def test_what_waits_for_a_step_that_is_blocked_anew_is_blocked_too(store: Store) -> None:
    """A parent in the store was altered, and the step before it has failed meanwhile."""
    finish(store, "l")
    planned = steps(step("a"), step("l", "a"), step("m", "l"), step("n", "m"))
    store.record_failure(Failure("export", "a", "a", "no operator"), None)
    outcomes, _ = run(planned, Scripted(outcomes={"m": [altered(store, "l")]}), store)
    assert statuses(outcomes) == {"a": "failed", "l": "blocked", "m": "blocked", "n": "blocked"}


def lost(key: str) -> Callable[[], Outcome]:
    """How a step ends whose node has died."""
    return lambda: Outcome(key, StepStatus.TRANSIENT, "lost", kind=FailureKind.NODE_LOST, lost=True)


def test_a_lost_node_is_no_try_of_the_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_PAUSE_S", 0.001)
    ends = [*[""] * (LOSSES - 1), *["transient"] * (TRIES - 1), "done"]
    executor = Scripted(outcomes={"a": [lost("a")] * (LOSSES - 1)}, ends={"a": ends})
    outcomes, _ = run(steps(step("a")), executor, store)
    assert statuses(outcomes) == {"a": "done"} and len(executor.taken) == len(ends)
    executor = Scripted(outcomes={"b": [lost("b")] * 9})
    outcomes, _ = run(steps(step("b")), executor, store)
    assert executor.taken == ["b"] * LOSSES and outcomes["b"].reason == "lost"
    assert store.failure("b") is None


def test_what_no_node_is_left_for_is_skipped_and_the_rest_is_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "_NODE_S", 0.05)

    class Without(Scripted):
        def take(self, step: Step) -> bool:
            return step.key != "a" and super().take(step)

    planned = steps(step("a", needs=Needs(cpus=2)), step("b", "a"), step("c"))
    outcomes, _ = run(planned, Without(), store)
    assert statuses(outcomes) == {"a": "skipped", "b": "blocked", "c": "done"}
    assert outcomes["a"].reason.startswith("no node is left that can run it; the same command")
    assert list((store.root / "claims").iterdir()) == []


def test_an_executor_without_news_is_offered_steps_again(store: Store) -> None:
    class Slow(Scripted):
        waits = 0

        def wait(self) -> Outcome | None:  # type: ignore[override]
            self.waits += 1
            return super().wait() if self.waits % 2 == 0 else None

    executor = Slow()
    outcomes, _ = run(steps(step("a"), step("b", "a")), executor, store)
    assert statuses(outcomes) == {"a": "done", "b": "done"} and executor.waits == 4
