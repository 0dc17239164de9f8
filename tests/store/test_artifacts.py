"""Corners of the store: races, leftovers, logs, and what a record may hold."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from farm.errors import InputError
from farm.specs import ModelFacts, Ref, Used
from farm.store import Failure, Record, Store, figures, read_record
from farm.store.facts import facts_from
from farm.store.imports import imports, place, write_origin
from farm.store.records import Origin

KEY, OTHER = "ab" * 32, "cd" * 32


def record(key: str = KEY, stage: str = "export", **values: object) -> Record:
    base = Record(stage, key, "a op17", {}, {}, {}, 1.5, 100, {"host": "h"})
    return replace(base, **values)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(store: Store, made: Record, text: str = "onnx") -> None:
    folder = store.work_folder(made.key)
    (folder / "sub").mkdir()
    (folder / "sub" / "model.onnx").write_text(text)
    (folder / "step.log").write_text("log")
    store.publish(folder, made)


def test_a_record_is_read_as_it_was_published(store: Store) -> None:
    made = record(figures={"onnx_bytes": 4}, code="c0de", toolchain={"onnx": "1"})
    publish(store, made)
    digests = {"sub/model.onnx": sha256(b"onnx").hexdigest()}
    found = store.record(Ref("export", KEY))
    assert found is not None and found.digest
    assert found == replace(made, files={"sub/model.onnx": 4}, digests=digests, digest=found.digest)
    assert store.path(Ref("export", KEY)) == store.root / "export" / "ab" / KEY
    assert store.log_path(Ref("export", KEY)).read_text() == "log"
    assert list(store.refs("export")) == [Ref("export", KEY)] and list(store.refs("build")) == []


def test_a_record_in_another_steps_place_is_none(store: Store) -> None:
    publish(store, record())
    for ref in (Ref("export", OTHER), Ref("build", KEY)):
        path = store.path(ref)
        path.parent.mkdir(parents=True)
        path.symlink_to(store.path(Ref("export", KEY)))
        assert store.record(ref) is None is store.any_record(ref)


def test_records_of_another_machine_are_no_work_done_here(store: Store) -> None:
    for key, node, left_out in (
        ("11" * 32, {"device": "x"}, {}), ("22" * 32, {"host": "h"}, {"engine": 9}),
        ("33" * 32, {}, {}),
    ):  # fmt: skip
        publish(store, record(key, node=node, left_out=left_out))
    refs = [Ref("export", digit * 64) for digit in "123"]
    assert [store.record(ref) is None for ref in refs] == [True, True, False]
    assert all(store.any_record(ref) for ref in refs)


def test_a_folder_that_cannot_take_its_place_is_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path, target: Path) -> Path:
        raise PermissionError(13, "denied", str(target))

    monkeypatch.setattr(Path, "rename", denied)
    with pytest.raises(PermissionError):
        publish(store, record())
    assert store.record(Ref("export", KEY)) is None


def test_a_failure_of_another_key_or_a_torn_one_is_none(store: Store) -> None:
    failed = store.root / "failed"
    store.record_failure(Failure("export", KEY, "a", "why"), None)
    (failed / f"{OTHER}.json").write_text((failed / f"{KEY}.json").read_text())
    assert store.failure(OTHER) is None and store.failure("gone") is None
    (failed / f"{KEY}.json").write_text('{"stage": "export"')
    assert store.failure(KEY) is None
    assert sorted(one.suffix for one in failed.iterdir()) == [".json", ".json"]


def test_files_kept_with_a_failure_go_when_the_step_succeeds(store: Store) -> None:
    folder = store.work_folder(KEY)
    for name in ("step.log", "used.jsonl"):
        (folder / name).write_text(name)
    failure = Failure("export", KEY, "a", "why")
    store.record_failure(failure, folder / "step.log", [folder / "used.jsonl"])
    assert store.failed_file(KEY, "used.jsonl").read_text() == "used.jsonl"
    assert store.log_path(Ref("export", KEY)).read_text() == "step.log"
    store.forget(Ref("export", OTHER))  # none there: no error
    store.keep_log(OTHER, folder / "gone")
    publish(store, record())
    assert list((store.root / "failed").iterdir()) == []


def test_a_record_that_could_not_be_read_back_is_not_kept(store: Store, tmp_path: Path) -> None:
    for wrong in (
        {"seconds": -1.0}, {"peak_host_bytes": -1}, {"node": {"device": 3}},
        {"figures": {"opset": "x"}},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="the record cannot be kept"):
            publish(store, record(**wrong))
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(InputError):
        read_record(tmp_path / "r.json")


NUMBERS: dict[str, list[object]] = {
    "count": [0, 1, (1 << 53) - 1],
    "size": [0, 1.5, 1e308, (1 << 53) - 1, 1 << 53],
    "number": [0, -1.5, 3, -(1 << 53)],
    "positive": [1e-9, 1],
    "fraction": [0, 0.5, 1, 1.0, 1 + 1e-10],
    "flag": [True, False],
    "text": ["", "x"],
    "texts": [[], ["a", ""]],
    "fractions": [{}, {"a": None, "b": 0.5}],
}
WRONG: dict[str, list[object]] = {
    "count": [-1, 1.0, True, "1", None, 1 << 53],
    "size": [-1, float("nan"), float("inf"), True, "1", (1 << 53) + 1, -0.5],
    "number": [float("nan"), True, "1", None, float("-inf"), -(1 << 53) - 1],
    "positive": [0, 0.0, -1, True],
    "fraction": [-0.1, 1.1, True, "1", 1 + 1e-8],
    "flag": [0, 1, None, "true"],
    "text": [None, 3, b"x"],
    "texts": ["ab", [1], ("a",), None],
    "fractions": [{"a": 2}, {"a": True}, [], None],
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_figures_are_of_their_kind(kind: str) -> None:
    valid = getattr(figures, kind)
    assert [value for value in NUMBERS[kind] if not valid(value)] == []
    assert [value for value in WRONG[kind] if valid(value)] == []


def test_figures_that_results_need_must_be_there() -> None:
    figures.require_figures("own", {"anything": object()})
    figures.require_figures("build", {})
    with pytest.raises(InputError, match=r"'measure\.latency_p50_ms' is missing"):
        figures.require_figures("measure", {"throughput_per_s": 1.0})
    with pytest.raises(InputError, match=r"'convert\.kept_fp32' is missing"):
        figures.require_figures("convert", {})
    with pytest.raises(InputError, match=r"'build\.build_s' is -1, expected a finite number of 0"):
        figures.require_figures("build", {"build_s": -1})
    with pytest.raises(InputError, match="'x' is 3, expected a colour"):
        figures.require("x", 3, figures.text, "a colour")
    figures.require("x", None, figures.text)


CHECKED = {"classes": ["circle"], "masks": True, "pipeline": "[]"}


def test_what_a_check_found_is_what_a_plan_asks_for(store: Store) -> None:
    facts = facts_from(store, {OTHER: "killed", "33" * 32: ""})
    assert facts(KEY) is None
    notes = {**CHECKED, "notes": ["odd"]}
    publish(store, record(stage="check", figures=notes))
    assert facts(KEY) == ModelFacts(("circle",), True, "[]")
    lost = facts(OTHER)
    assert lost is not None
    assert lost == ModelFacts(
        (), False, "", refused="killed", host_refused="killed", raw_refused="killed"
    )
    silent = facts("33" * 32)
    assert silent is not None and silent.refused == "its check failed for an unknown reason"


def test_what_a_check_has_left_is_removed_where_it_was_altered_and_that_is_wanted(
    store: Store,
) -> None:
    publish(store, record(stage="check", figures=CHECKED))
    (store.path(Ref("check", KEY)) / "sub" / "model.onnx").write_text("ONNX")
    assert facts_from(store)(KEY) and store.path(Ref("check", KEY)).exists()
    assert facts_from(store, repair=True)(KEY) is None
    assert not store.path(Ref("check", KEY)).exists()


def test_a_check_that_is_to_be_made_again_has_found_nothing(store: Store) -> None:
    store.record_failure(Failure("check", KEY, "a", "a limit of time"), None)
    for again, is_known in ((lambda _: False, True), (lambda failure: failure.key == KEY, False)):
        assert (facts_from(store, again=again)(KEY) is not None) is is_known


def test_a_failed_check_says_why_and_what_it_saw(store: Store) -> None:
    used = Used("file", "", "d1", "a.txt")
    folder = store.work_folder(KEY)
    (folder / "used.jsonl").write_text('["file", "", "d1", "a.txt"]\n')
    failure = Failure("check", KEY, "a", "no such layer")
    store.record_failure(failure, None, [folder / "used.jsonl"])
    found = facts_from(store)(KEY)
    assert found is not None and found.refused == "no such layer" and found.used == (used,)
    made = store.work_folder(OTHER)
    (made / "used.jsonl").write_text('["file", "", "d1", "a.txt"]\n')
    store.publish(made, record(OTHER, "check", figures=CHECKED))
    again = facts_from(store)(OTHER)
    assert again is not None and again.refused is None and again.used == (used,)


def test_imports_are_listed_the_newest_first_and_torn_ones_left_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from farm.store import imports as module

    assert imports(store) == []
    for digest, moment in (("d1" * 32, 5.0), ("d2" * 32, 9.0), ("d3" * 32, 7.0)):
        folder = place(store, digest)
        folder.mkdir(parents=True)
        monkeypatch.setattr(module.time, "time", lambda moment=moment: moment)
        write_origin(f"{digest[:2]}.tar.gz", digest, folder)
        assert [one.name for one in folder.iterdir()] == ["origin.json"]
    (place(store, "d3" * 32) / "origin.json").write_text("{")
    found = imports(store)
    assert [one.origin for one in found] == [
        Origin("d2.tar.gz", "d2" * 32, 9.0), Origin("d1.tar.gz", "d1" * 32, 5.0),
    ]  # fmt: skip
    assert str(found[0].origin) == "d2d2d2d2d2d2 d2.tar.gz"
