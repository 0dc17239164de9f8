"""What of an artifact is fetched to a node, when, and what is said of what is not whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from object_stores import KEY, REF, Nodes, leave

from farm.store import Alteration
from farm.store.objects import Objects
from farm.store.remote import artifacts

RECORD, NAME = f"export/ab/{KEY}/record.json", "sub/model.onnx"


def remove_file(objects: Objects) -> None:
    objects.delete([one.name for one in objects.listed("export") if one.name.endswith(NAME)])


def test_an_artifact_is_compared_by_its_record_unless_all_is_read_anew(
    node: Nodes, objects: Objects, asked: list[str]
) -> None:
    leave(node("one"))
    two = node("two")
    assert two.compared(REF) == (two.record(REF), [])
    remove_file(objects)
    asked.clear()
    assert two.compared(REF) == (two.record(REF), []) and asked == []
    assert two.compared(REF, anew=True) == (two.record(REF), [Alteration(NAME, "missing")])
    objects.put(RECORD, b"{")
    assert two.compared(REF)[1] == []
    assert two.compared(REF, anew=True) == (None, [Alteration("record.json", "altered")])
    assert two.compared(REF) == (None, [Alteration("record.json", "altered")])
    objects.delete([RECORD])
    assert two.compared(REF, anew=True) == (None, [Alteration("record.json", "missing")])


def test_files_come_once_and_are_asked_for_again_to_be_compared_anew(
    node: Nodes, objects: Objects, asked: list[str]
) -> None:
    leave(node("one"))
    two = node("two")
    assert two.altered(REF) == []
    asked.clear()
    assert two.altered(REF) == [] and asked == []
    assert two.files(REF) == two.path(REF) and asked == ["get record.json"]
    assert two.altered(REF, anew=True) == [] and "download model.onnx" in asked
    remove_file(objects)
    assert two.altered(REF) == []
    assert two.altered(REF, anew=True) == [Alteration(NAME, "missing")]
    assert [*(two.root / "tmp").iterdir()] == []


def test_a_file_that_no_step_makes_is_named(node: Nodes) -> None:
    leave(node("one"))
    with pytest.raises(FileNotFoundError, match=f"no file of export {KEY[:12]}: 'another'"):
        node("two").whole_file(REF, "another")


def test_a_record_that_went_meanwhile_is_missing(objects: Objects, tmp_path: Path) -> None:
    """Between the question for it and that for its files."""
    for data, how in ((None, "missing"), (b"{", "altered")):
        if data:
            objects.put(RECORD, data)
        found = artifacts.download(objects, REF, tmp_path)
        assert found == [Alteration("record.json", how)] and [*tmp_path.glob("sub*")] == []
