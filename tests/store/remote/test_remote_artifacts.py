"""In what order the objects of an artifact are asked for and put, and how often."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from object_stores import KEY, REF, Nodes, leave

from farm.store import Failure
from farm.store.objects import Objects
from farm.store.records import digest_of
from farm.store.remote.service import ObstoreObjects

RECORD = f"export/ab/{KEY}/record.json"


def test_a_record_is_asked_for_once_with_its_files(node: Nodes, asked: list[str]) -> None:
    leave(node("one"))
    two = node("two")
    asked.clear()
    two.files(REF)
    assert sorted(asked) == ["download model.onnx", "get record.json"]


def test_a_record_in_other_words_comes_as_it_is(node: Nodes, objects: Objects) -> None:
    """Its digest is over these words: the same numbers, written otherwise, have another."""
    leave(node("one"))
    value = {**json.loads(objects.get(RECORD)), "seconds": 2}
    objects.put(RECORD, json.dumps({**value, "digest": digest_of(value)}).encode())
    two = node("two")
    assert (two.files(REF) / "record.json").read_bytes() == objects.get(RECORD)
    assert two.compared(REF)[1] == []


def test_a_failure_is_put_after_what_explains_it(
    node: Nodes, tmp_path: Path, asked: list[str]
) -> None:
    """Who sees the failure sees its log and its files."""
    for name in ("step.log", "a.jsonl", "z.jsonl"):
        (tmp_path / name).write_text(name)
    kept = [tmp_path / "a.jsonl", tmp_path / "z.jsonl"]
    one = node("one")
    one.record_failure(Failure("export", KEY, "a", "why"), tmp_path / "step.log", kept)
    assert sorted(asked[:-1]) == ["put a.jsonl", "put step.log", "put z.jsonl"]
    assert asked[-1] == "put failure.json"
    assert [*(one.root / "failed").iterdir()] == []


def test_what_another_process_of_the_node_has_put_is_no_error(
    node: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sweeps may run a step on a node where the service keeps no conditions on puts."""
    real = ObstoreObjects.put

    def put(self: ObstoreObjects, name: str, content: Path) -> str:
        tag = real(self, name, content)
        content.unlink()  # as the other does
        return tag

    monkeypatch.setattr(ObstoreObjects, "put", put)
    one = node("one")
    one.record_failure(Failure("export", KEY, "a", "why"), None)
    assert node("two").failure(KEY)


def test_it_is_said_whether_there_was_something_to_remove(node: Nodes, objects: Objects) -> None:
    one = node("one")
    assert not one.remove(REF)
    leave(one)
    assert one.remove(REF) and not one.remove(REF)
    objects.put(RECORD, b"{")
    assert one.remove(REF) and [*objects.listed("")] == []


def test_an_artifact_in_the_place_of_a_torn_one_stays_on_its_node(
    node: Nodes, objects: Objects
) -> None:
    """That of a node whose artifact is not the first is another make, and goes."""
    objects.put(RECORD, b"{")
    one, two = node("one"), node("two")
    leave(one)
    assert one.path(REF).exists()
    leave(two, text="of another make")
    assert not two.path(REF).exists()


def test_a_driver_keeps_no_inputs_of_what_it_has_put(node: Nodes) -> None:
    driver, other = node("driver"), node("other")
    driver._with_inputs = False
    for store, inputs in ((driver, {}), (other, {"x": 1})):
        leave(store)
        found = store.record(REF)
        assert found and found.inputs == inputs
        store.remove(REF)


def test_the_version_of_a_store_is_stated_once(node: Nodes, asked: list[str]) -> None:
    one = node("one")
    for expected in (["get format.json", "put format.json"], ["get format.json"]):
        asked.clear()
        one.require_version(write=True)
        assert asked == expected


def test_imports_are_fetched_once(node: Nodes, asked: list[str]) -> None:
    one = node("one")
    assert one.imports_folder() == one.imports_folder() == one.root / "elsewhere"
    assert asked == ["listed elsewhere"]
