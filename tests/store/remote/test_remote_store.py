"""A store in an object store, as the processes of several nodes see it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from object_stores import CHILD, KEY, REF, Nodes, content, leave

from farm.errors import AlteredArtifact, InputError
from farm.specs import Ref
from farm.store import Failure, Record, Store, as_json
from farm.store.objects import Objects, Unreachable
from farm.store.records import digest_of
from farm.store.remote import node as remote_node
from farm.store.remote import service

RECORD = f"export/ab/{KEY}/record.json"


def names(objects: Objects, folder: str = "") -> list[str]:
    return sorted(one.name for one in objects.listed(folder))


def test_what_one_node_has_put_another_has(node: Nodes, objects: Objects) -> None:
    one, two = node("one"), node("two")
    assert one.record(REF) is None and not one.exists()
    with one.on_this_node(REF, ()) as here:
        assert type(here) is Store and here.record(REF) is None
        leave(here)
    found = two.record(REF)
    assert found and found.files == {"sub/model.onnx": 4} and found == one.record(REF)
    assert content(two) == "onnx" and two.files(REF) != one.files(REF)
    make = f"export/ab/{KEY}/{found.content[:16]}"
    assert names(objects) == [f"{make}/step.log", f"{make}/sub/model.onnx", RECORD]
    assert two.log_path(REF).read_text() == "log of onnx"
    assert two.where(REF, "sub") == f"{objects.url}/{make}/sub"
    assert two.where(REF, "model") is two.where(CHILD, "sub") is None
    assert [*two.refs("export")] == [*two.artifacts()] == [REF] and two.exists()


def test_a_step_has_what_it_reads(node: Nodes) -> None:
    leave(node("one"))
    with node("two").on_this_node(CHILD, [REF, REF]) as here:
        assert (here.path(REF) / "sub" / "model.onnx").read_text() == "onnx"
        assert here.require_whole(REF).content == node("one").record(REF).content  # type: ignore[union-attr]
        leave(here, CHILD, "engine")
    assert content(node("three"), CHILD) == "engine"


def test_nothing_is_there_before_the_record(node: Nodes, objects: Objects) -> None:
    leave(node("one"))
    objects.delete([RECORD])
    assert node("two").record(REF) is None and not node("two").holds(REF)
    leave(node("two"))
    assert node("three").record(REF)


def test_the_first_of_two_nodes_has_the_artifact(node: Nodes, objects: Objects) -> None:
    """Each with an engine of its own, as builders may make."""
    one, two = node("one"), node("two")
    with one.on_this_node(REF, ()) as here, two.on_this_node(REF, ()) as there:
        leave(here, text="its own")
        leave(there, text="another")
    first = content(node("three"))
    assert first == "another"  # that block has ended first
    assert content(one) == content(two) == first
    assert len(names(objects)) == 5  # what the other has put harms none


def test_a_file_that_is_altered_is_found_when_it_arrives(node: Nodes, objects: Objects) -> None:
    leave(node("one"))
    (file,) = (one for one in names(objects) if one.endswith(".onnx"))
    objects.put(file, b"0nnx")
    two = node("two")
    assert two.record(REF) and [str(one) for one in two.altered(REF)] == [
        "sub/model.onnx is altered"
    ]
    with pytest.raises(AlteredArtifact, match=r"sub/model\.onnx is altered") as error:
        two.files(REF)
    assert error.value.ref == REF
    assert two.record(REF) is None and names(objects) == []  # so that its step can run again
    assert content_of_own_copy(node("one")) == "onnx"
    leave(node("one"), text="anew")
    assert content(two) == "anew" == content(node("one"))


def content_of_own_copy(store: Store) -> str:
    return (store.path(REF) / "sub" / "model.onnx").read_text()


@pytest.mark.parametrize("name", ["record.json", "sub/model.onnx"])
def test_what_is_missing_is_found_too(node: Nodes, objects: Objects, name: str) -> None:
    leave(node("one"))
    objects.delete([one for one in names(objects) if one.endswith(name)])
    with pytest.raises(AlteredArtifact, match=f"{name} is missing"):
        node("two").files(REF)


def test_a_copy_on_a_nodes_disk_that_is_altered_is_brought_again(node: Nodes) -> None:
    leave(node("one"))
    two = node("two")
    (two.files(REF) / "sub" / "model.onnx").write_text("0nnx")
    assert content(two) == "onnx"


def test_a_copy_of_another_make_is_brought_again(node: Nodes) -> None:
    leave(node("one"), text="first")
    two = node("two")
    assert content(two) == "first"
    node("one").remove(REF)
    leave(node("three"), text="second")
    assert content(two) == "second"


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../../outside": 4}}, {"files": {"/outside": 4}}, {"files": {"": 4}},
        {"key": "cd" * 32}, {"stage": "build"}, {"seconds": -1.0}, {"digests": {}}, {"digest": ""},
        {"new": 1}, {"figures": {"onnx_bytes": "many"}},
    ],
)  # fmt: skip
def test_a_record_that_is_none_is_torn_and_made_anew(
    node: Nodes, objects: Objects, change: dict[str, object]
) -> None:
    leave(node("one"))
    value = {**json.loads(objects.get(RECORD)), **change}
    if "files" in change:
        value["digests"] = dict.fromkeys(value["files"], "00" * 32)
    if "digest" not in change:
        value["digest"] = digest_of(value)
    objects.put(RECORD, json.dumps(value).encode())
    two = node("two")
    if "files" in change:
        with pytest.raises(AlteredArtifact):
            two.files(REF)
    else:
        assert two.record(REF) is None and two.holds(REF)
        assert two.compared(REF)[1] and two.compared(REF, anew=True)[1]
    leave(two, text="anew")
    assert content(node("three")) == "anew"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 5000, b"null"])
def test_anything_may_be_in_a_records_place(node: Nodes, objects: Objects, data: bytes) -> None:
    objects.put(RECORD, data)
    objects.put(f"failed/{KEY}/failure.json", data)
    store = node("one")
    store.learn([REF])
    assert store.record(REF) is None is store.failure(KEY)
    leave(store)
    assert node("two").record(REF)


def test_what_has_failed_is_known_with_its_log(node: Nodes, tmp_path: Path) -> None:
    failure = Failure("export", KEY, "a op17", "no such operator", "unsupported")
    with node("one").on_this_node(REF, ()) as here:
        (tmp_path / "step.log").write_text("its log")
        (tmp_path / "used.jsonl").write_text("a line")
        here.record_failure(failure, tmp_path / "step.log", [tmp_path / "used.jsonl"])
    two = node("two")
    assert two.failure(KEY) == failure and two.record(REF) is None
    assert two.log_path(REF).read_text() == "its log"
    assert two.failed_file(KEY, "used.jsonl").read_text() == "a line"
    assert not two.failed_file(KEY, "nothing").exists()
    two.forget(REF)
    assert two.failure(KEY) is None is node("three").failure(KEY)


def test_the_log_of_a_step_that_has_said_nothing_is_empty_and_not_put(
    node: Nodes, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = node("one"), node("two")
    folder = one.work_folder(KEY)
    (folder / "step.log").touch()
    one.publish(folder, Record("export", KEY, "a op17", {}, {}, {}, 1.5, 100, {"host": "h"}))
    assert names(objects) == [RECORD]
    assert two.log_path(REF).read_text() == ""

    def fails(self: object, name: str, path: Path) -> str:
        raise Unreachable(objects.url, "503")

    monkeypatch.setattr(service.ObstoreObjects, "download", fails)
    assert not two.log_path(REF).exists()  # it is not known what it has


def test_a_failure_outside_of_a_step_and_a_log_alone_are_kept(node: Nodes, tmp_path: Path) -> None:
    one = node("one")
    (tmp_path / "a.log").write_text("lost")
    one.keep_log(KEY, tmp_path / "a.log")
    assert node("two").log_path(REF).read_text() == "lost" and node("two").failure(KEY) is None
    failure = Failure("export", KEY, "a op17", "crashed")
    one.record_failure(failure, None)
    assert one.failure(KEY) == node("two").failure(KEY) == failure


def test_answers_are_kept_until_they_are_dropped(node: Nodes) -> None:
    one, two = node("one"), node("two")
    assert two.record(REF) is None is two.failure(KEY)
    leave(one)
    assert two.record(REF) is None
    two.drop(REF)
    assert two.record(REF)
    one.remove(REF)
    assert two.record(REF)
    two.drop(REF)
    assert two.record(REF) is None


def test_many_steps_are_learnt_at_once_with_their_files(node: Nodes) -> None:
    refs = [Ref("export", f"{number:064x}") for number in range(20)]
    one = node("one")
    for ref in refs[:10]:
        leave(one, ref)
    one.record_failure(Failure("export", refs[15].key, "a", "why"), None)
    two = node("two")
    two.learn(refs, files={"export": ("sub/model.onnx", "no such file")})
    two._objects = None  # type: ignore[assignment]  # nothing is asked any more
    assert [two.record(ref) is not None for ref in refs] == [True] * 10 + [False] * 10
    assert [ref for ref in refs[10:] if two.failure(ref.key)] == [refs[15]]
    files = [two.whole_file(ref, "sub/model.onnx") for ref in refs[:10]]
    assert {path.read_text() for path in files} == {"onnx"} and len(set(files)) == 10


def test_a_driver_keeps_no_inputs(node: Nodes) -> None:
    leave(node("one"))
    two = node("two")
    two._with_inputs = False
    (found, whole) = two.record(REF), node("three").record(REF)
    assert found and whole and whole.inputs and found == replace(whole, inputs={})


def test_what_an_earlier_try_has_left_counts_if_its_parents_are_the_same(node: Nodes) -> None:
    """As where the service has failed after the work was done."""
    leave(node("one"))
    two = node("two")
    parent = two.record(REF)
    assert parent is not None
    name = f"export/{KEY}"
    leave(Store(two.root), CHILD, "of this export", **{name: parent.content})
    with two.on_this_node(CHILD, [REF]) as here:
        assert here.record(CHILD)  # the worker finds it, and does nothing
    assert content(node("three"), CHILD) == "of this export"
    two.remove(CHILD)
    leave(Store(two.root), CHILD, "of another export", **{name: "00" * 32})
    with two.on_this_node(CHILD, [REF]) as here:
        assert here.record(CHILD) is None
        leave(here, CHILD, "made anew")
    assert content(node("three"), CHILD) == "made anew"


def test_imports_come_to_each_node_and_go(node: Nodes, objects: Objects) -> None:
    one = node("one")
    folder = one.imports_folder() / ("ef" * 32)
    (folder / "export").mkdir(parents=True)
    (folder / "export" / "x").write_text("imported")
    one.put_import(folder.name)
    two = node("two")
    assert (two.imports_folder() / folder.name / "export" / "x").read_text() == "imported"
    two.remove_import(folder.name)
    assert names(objects) == [] and [*node("three").imports_folder().glob("*")] == []


def test_a_store_of_a_newer_farm_is_refused_by_name(node: Nodes, objects: Objects) -> None:
    store = node("one")
    store.require_version()
    assert names(objects) == []
    store.require_version(write=True)
    store.require_version()
    objects.put("format.json", b'{"version": 2}')
    with pytest.raises(InputError, match=r"a store of a newer farm \(version 2; this one reads"):
        store.require_version()
    objects.put("format.json", b"{}")
    with pytest.raises(InputError, match=r"format.json states no version"):
        store.require_version(write=True)


def test_a_record_as_it_is_put_is_one(node: Nodes) -> None:
    leave(node("one"))
    found = node("two").record(REF)
    assert found and json.loads(as_json(found))["digest"] == found.digest


def test_a_file_alone_is_compared_when_it_comes_and_asked_for_once(
    node: Nodes, objects: Objects
) -> None:
    name, two = "sub/model.onnx", node("two")
    with pytest.raises(AlteredArtifact, match=r"record\.json is missing"):
        two.whole_file(REF, name)
    leave(node("one"))
    two.drop(REF)
    with pytest.raises(FileNotFoundError):
        two.whole_file(REF, "another")
    path = two.whole_file(REF, name)
    assert path.read_text() == "onnx" and not two.path(REF).exists()
    path.write_text("ONNX")  # of the same size
    assert two.whole_file(REF, name).read_text() == "onnx"
    assert node("one").whole_file(REF, name) == node("one").path(REF) / name
    (stored,) = (one.name for one in objects.listed("export") if one.name.endswith(name))
    objects.put(stored, b"ONNX")
    three = node("three")
    for _ in range(2):
        with pytest.raises(AlteredArtifact, match=r"model\.onnx is altered"):
            three.whole_file(REF, name)
    objects.delete([stored])
    with pytest.raises(AlteredArtifact, match=r"model\.onnx is missing"):
        three.whole_file(REF, name)
    assert two.whole_file(REF, name) == path  # nothing is asked


def test_files_that_lie_alone_have_the_bound_of_the_folder(
    node: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(node("one"))
    two = node("two", 1)
    path = two.whole_file(REF, "sub/model.onnx")
    two.node.trim()
    assert path.exists()  # it was used a moment ago
    monkeypatch.setattr(remote_node, "_LEFT_S", -1.0)
    two.node.trim()
    assert not path.exists() and two.whole_file(REF, "sub/model.onnx").exists()
