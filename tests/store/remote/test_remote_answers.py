"""What a driver asks an object store of its steps, and for how long it believes the answers."""

from __future__ import annotations

from collections import Counter

import pytest
from object_stores import KEY, REF, Nodes, leave

from farm.specs import Ref
from farm.store import Failure
from farm.store.objects import Objects
from farm.store.remote import answers

REFS = [Ref("export", f"{number:064x}") for number in range(16)]


def test_what_is_not_there_stays_so_for_a_run_that_is_alone(
    node: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_ABSENT_S", -1.0)  # nothing is believed for any time
    one, two = node("one"), node("two")
    two.alone = True
    assert two.record(REF) is None is two.failure(KEY)
    one.record_failure(Failure("export", KEY, "a", "why"), None)
    leave(one)
    assert two.record(REF) is None is two.failure(KEY)
    two.alone = False
    assert two.record(REF) and two.failure(KEY)


def test_what_is_known_is_not_asked_for_again(
    node: Nodes, objects: Objects, asked: list[str]
) -> None:
    torn, failed, _, there = REFS[:4]
    one, two = node("one"), node("two")
    leave(one, there)
    one.record_failure(Failure("export", failed.key, "a", "why"), None)
    objects.put(f"export/00/{torn.key}/record.json", b"{")
    two.learn(REFS[:4])
    asked.clear()
    two.learn(REFS[:4])
    assert [two.holds(ref) for ref in REFS[:4]] == [True, False, False, True]
    assert [bool(two.failure(ref.key)) for ref in REFS[:3]] == [False, True, False]
    assert asked == []


def test_a_failure_is_asked_for_where_the_step_is_not_done(node: Nodes, asked: list[str]) -> None:
    one = node("one")
    for ref in REFS[:3]:
        one.record_failure(Failure("export", ref.key, "a", "why"), None)
    leave(node("two"), REFS[0])
    asked.clear()
    three = node("three")
    three.learn([REFS[0], REFS[1], REFS[5]])
    found = Counter(asked)
    assert found == {"get record.json": 3, "listed failed": 1, "get failure.json": 1}


@pytest.mark.parametrize(("count", "ways"), [(15, {"get": 15}), (16, {"listed": 1})])
def test_few_steps_are_asked_for_one_by_one(
    node: Nodes, asked: list[str], count: int, ways: dict[str, int]
) -> None:
    one = node("one")
    one.learn(REFS[:count])
    found = Counter(name.split()[0] for name in asked if name != "listed failed")
    assert found == ways


def test_a_listing_ends_where_it_has_too_many_names_for_each_step(
    node: Nodes, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):  # of three objects each
        leave(node("one"), Ref("export", f"e{number:063x}"))
    for most, gets in ((1, 16), (2, 0)):  # of 16 and 32 names
        monkeypatch.setattr(answers, "_MOST_LISTED", most)
        asked.clear()
        node("two").learn(REFS)
        assert asked.count("get record.json") == gets
