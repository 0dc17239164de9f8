"""How many requests a sweep makes to an object store, which are what it costs there."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from dataclasses import replace

import pytest
from object_stores import CHILD, REF, Nodes, leave
from own_stage import step, supervised

from farm.engine.claims import claims_of
from farm.engine.local import LocalExecutor
from farm.engine.scheduler import Unwatched, run_steps
from farm.plan import Step
from farm.specs import Ref
from farm.store import Record
from farm.store.objects import Objects
from farm.store.opening import open_store
from farm.store.remote import answers, service


def test_a_step_costs_its_claim_two_looks_and_what_it_puts(
    objects: Objects, asked: list[str]
) -> None:
    """The driver neither asks for what it has just learnt, nor for the record of a step's end."""
    steps = {one.key: one for one in (step("print(1)"), step("print(2)"))}
    store = open_store(objects.url, cached=True)
    store.learn(one.ref for one in steps.values())
    asked.clear()
    outcomes = run_steps(steps, store, lambda: LocalExecutor(store), Unwatched())
    assert {one.status for one in outcomes.values()} == {"done"}
    assert all(store.record(one.ref) for one in steps.values())
    named = [name.split() for name in asked]
    of_steps = [
        f"{verb} {'KEY' if name in steps else name}"
        for verb, name in named
        if name in steps or "." in name
    ]
    begins = ["put_if_absent KEY", "get record.json", "get failure.json"]
    ends = ["put step.log", "put_if_absent record.json"]
    assert sorted(of_steps) == sorted([*begins, *ends] * 2)
    assert len(asked) <= len(of_steps) + 4  # of the session, once
    assert {one.record for one in outcomes.values()} == {None}


def test_a_step_of_a_run_that_is_alone_costs_what_it_puts(
    objects: Objects, asked: list[str]
) -> None:
    steps = {one.key: one for one in (step(f"print({number})") for number in range(16))}
    store = open_store(objects.url, cached=True)
    store.learn(one.ref for one in steps.values())
    asked.clear()
    outcomes = run_steps(steps, store, lambda: LocalExecutor(store), Unwatched())
    assert {one.status for one in outcomes.values()} == {"done"}
    assert all(store.record(one.ref) for one in steps.values())
    of_steps = [name for name in asked if "." in name or name.split()[1] in steps]
    assert sorted(of_steps) == sorted(["put step.log", "put_if_absent record.json"] * 16)
    others = Counter(name.split()[0] for name in asked if name not in of_steps)
    seconds = others["listed"] - 4  # of sessions once a second
    assert others - Counter(listed=seconds) == Counter(put=1, entry=1, listed=4)


def test_what_another_run_did_before_this_one_began_is_not_done_again(objects: Objects) -> None:
    steps = {one.key: one for one in (step(f"pass  # {number}") for number in range(20))}
    store, done = open_store(objects.url, cached=True), [*steps.values()][:3]
    store.learn(one.ref for one in steps.values())
    for one in done:
        assert supervised(one, objects.url).status == "done"
    seen = Started()
    outcomes = run_steps(steps, store, lambda: LocalExecutor(store), seen)
    assert {one.status for one in outcomes.values()} == {"done"}
    assert seen.keys == steps.keys() - {one.key for one in done}


class Started(Unwatched):
    """Keeps the keys of the steps that were started."""

    def __init__(self) -> None:
        self.keys = set[str]()

    def started(self, step: Step) -> None:
        self.keys.add(step.key)


def test_a_process_that_supervises_steps_keeps_no_record_of_what_they_read(
    objects: Objects, node: Nodes
) -> None:
    """It lives as long as the sweep, and each record has the inputs of its step."""
    for number in range(2):
        parent = Ref("export", f"{number}e" * 32)
        leave(node("one"), parent)
        one = step(f"from farm.specs import Ref; assert context.store.record({parent!r})")
        one = replace(one, inputs=replace(one.inputs, reads=parent))  # type: ignore[type-var]
        outcome = supervised(one, objects.url)
        assert outcome.record and (outcome.status, outcome.record.key) == ("done", one.key)
        gc.collect()
        kept = {found.key for found in gc.get_objects() if isinstance(found, Record)}
        assert parent.key not in kept and outcome.record.inputs == {}


def test_a_driver_waits_once_for_both_looks_at_a_step_that_it_has_claimed(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, real = threading.Barrier(2), service.ObstoreObjects.get

    def get(self: service.ObstoreObjects, place: str) -> bytes:
        both.wait(30)  # for the other of the two
        return real(self, place)

    store, one = open_store(objects.url, cached=True), step("pass")
    own = claims_of(store)
    monkeypatch.setattr(service.ObstoreObjects, "get", get)
    assert own.claim(one)
    monkeypatch.undo()
    assert store.record(one.ref) is None is store.failure(one.key)
    own.release_all()


def test_what_the_driver_knows_of_a_record_here_is_not_asked_for(
    node: Nodes, asked: list[str]
) -> None:
    leave(node("one"))
    two, driver = node("two"), node("driver")
    driver._with_inputs = False
    assert driver.known([REF]) == {}
    assert driver.record(REF)
    known = driver.known([REF, CHILD])
    assert set(known) == {REF}
    asked.clear()
    for expected in (["get record.json", "download model.onnx"], []):
        with two.on_this_node(CHILD, [REF], known) as here:
            assert (here.path(REF) / "sub" / "model.onnx").read_text() == "onnx"
            assert asked == expected
        asked.clear()
    node("one").remove(REF)
    leave(node("one"), text="of another make")
    driver.drop(REF)
    assert driver.record(REF)
    with two.on_this_node(CHILD, [REF], driver.known([REF])) as here:
        assert (here.path(REF) / "sub" / "model.onnx").read_text() == "of another make"


def test_many_steps_that_are_not_there_are_found_so_by_one_listing(
    node: Nodes, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = [Ref("export", f"{number:064x}") for number in range(40)]
    for ref in refs[:2]:
        leave(node("one"), ref)
    two = node("two")
    asked.clear()
    two.learn(refs)
    assert sorted(asked) == ["get record.json"] * 2 + ["listed export", "listed failed"]
    assert [ref for ref in refs if two.record(ref)] == refs[:2]
    assert len(asked) == 4
    monkeypatch.setattr(answers, "_MOST_LISTED", 0.1)  # there is much more than what is asked
    three = node("three")
    asked.clear()
    three.learn(refs)
    assert asked.count("get record.json") == 40
    assert [ref for ref in refs if three.record(ref)] == refs[:2]


def test_a_driver_fetches_of_a_comparison_what_its_rows_need(node: Nodes, asked: list[str]) -> None:
    leave(node("one"))
    driver = node("driver")
    driver._with_inputs = False
    asked.clear()
    for expected in (["get record.json", "download model.onnx"], []):
        driver.learn([REF], files={"export": ("sub/model.onnx",)})
        assert driver.whole_file(REF, "sub/model.onnx").read_text() == "onnx"
        assert asked == expected
        asked.clear()
