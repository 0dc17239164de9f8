"""What is handed out is as its steps left it; the sweeps are in tests/e2e/test_altered_store.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rows import row

from farm.results.picking.criteria import Criteria
from farm.results.picking.select import Pick, pick
from farm.results.picking.shipping import altered, checked
from farm.specs import Ref
from farm.store import Record, Store, integrity
from farm.store.imports import imports, place, write_origin

KEYS = {stage: f"{n}" * 64 for n, stage in enumerate(("export", "build", "evaluate", "measure"))}
FIGURES = {"latency_p50_ms": 1.0, "throughput_per_s": 1000.0}
NAMES = {f"{stage}_key": key for stage, key in KEYS.items()}
PICKED = row("a", **NAMES)


def fill(store: Store, host: str = "h") -> None:
    for stage, key in KEYS.items():
        folder = store.work_folder(key)
        (folder / "out").write_text("made")
        node = {"host": host} if host else {"device": "another"}
        store.publish(folder, Record(stage, key, "a", FIGURES, {}, {}, 1.0, 1, node))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "store")
    fill(found)
    return found


def path(store: Store, stage: str, name: str) -> Path:
    return store.path(Ref(stage, KEYS[stage])) / name


def picked(store: Store, *rows: object) -> Pick:
    return checked(pick([PICKED, *rows], Criteria()), store)  # type: ignore[list-item]


def test_what_is_whole_is_shipped(store: Store) -> None:
    assert altered(PICKED, store) is None
    assert picked(store).best == PICKED


def test_without_a_cell_to_ship_nothing_is_looked_at(store: Store) -> None:
    none = Pick(None, (), {}, "none of 0 cells may be shipped")
    assert checked(none, store) is none


@pytest.mark.parametrize("stage", KEYS)
def test_an_edited_record_is_not_shipped(stage: str, store: Store) -> None:
    record = path(store, stage, "record.json")
    record.write_text(record.read_text().replace('"label": "a"', '"label": "b"'))
    said = f"record.json is altered ({stage} {KEYS[stage][:12]})"
    assert altered(PICKED, store) == f"{said}: run the sweep again, which makes it anew"
    next_best = row("b", latency_p50_ms=99.0)
    found = picked(store, next_best)
    assert found.best is None and found.why == "the best cell was altered since its sweep"
    assert said in found.left_out["a"] and next_best in found.eligible


@pytest.mark.parametrize("stage", ["export", "build"])
def test_an_altered_file_that_is_handed_out_is_not_shipped(stage: str, store: Store) -> None:
    assert store.altered(Ref(stage, KEYS[stage])) == []
    path(store, stage, "out").write_text("edam")
    assert f"out is altered ({stage}" in str(altered(PICKED, store))
    path(store, stage, "out").unlink()
    assert f"out is missing ({stage}" in str(altered(PICKED, store))


def test_figures_of_another_engine_than_is_there_ship_nothing(store: Store) -> None:
    ref = Ref("evaluate", KEYS["evaluate"])
    record = store.record(ref)
    build = store.record(Ref("build", KEYS["build"]))
    assert record is not None and build is not None
    for content, said in (
        (build.content, None),
        ("0" * 64, "it was made of another build than is there now (evaluate"),
    ):
        store.remove(ref)
        parents = {f"build/{KEYS['build']}": content}
        store.publish(store.work_folder(ref.key), replace(record, parents=parents))
        found = altered(PICKED, store)
        assert found is None if said is None else said in str(found)


def test_what_is_handed_out_is_read_whatever_was_found_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(store.altered(Ref(stage, key)) for stage, key in KEYS.items())
    read, of_file = [], integrity.of_file
    monkeypatch.setattr(integrity, "of_file", lambda path: read.append(path) or of_file(path))
    assert altered(PICKED, store) is None
    assert read == [path(store, stage, "out") for stage in ("export", "build")]


def test_steps_that_are_not_in_the_store_are_passed_over(store: Store, tmp_path: Path) -> None:
    assert altered(PICKED, Store(tmp_path / "none")) is None
    assert altered(row("a"), store) is None


def test_an_import_that_was_altered_is_not_picked(store: Store) -> None:
    folder = place(store, "d1" * 32)
    fill(Store(folder), host="")
    write_origin("h200.tar.gz", "d1" * 32, folder)
    (one,) = imports(store)
    brought = row("a", origin=str(one.origin), **NAMES)
    assert altered(brought, store) is None
    record = path(one.store, "measure", "record.json")
    record.write_text(record.read_text().replace("1000.0", "9000.0"))
    assert altered(brought, store) == (
        f"record.json is altered (measure {KEYS['measure'][:12]}): run the cell here, or import"
        " the records again"
    )
    assert altered(row("a", origin="d1d1d1d1d1d1 gone.tar.gz", **NAMES), store) is None
