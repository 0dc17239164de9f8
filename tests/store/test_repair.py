"""Which artifacts go, by hand-made ones: what is altered, and what was made of another parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from farm.specs import Ref
from farm.store import Record, Store
from farm.store.opening import CachedStore
from farm.store.upkeep.repair import discard_altered, outdated

STAGES = ("prepare", "export", "build", "evaluate")
REFS = {stage: Ref(stage, f"{number}" * 64) for number, stage in enumerate(STAGES)}
PARENTS = {"build": ("export",), "evaluate": ("prepare", "build")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "store")
    for stage in STAGES:
        publish(found, stage)
    return found


def publish(store: Store, stage: str, text: str = "made") -> None:
    ref = REFS[stage]
    folder = store.work_folder(ref.key)
    (folder / "out").write_text(text)
    parents = {name(one): content(store, one) for one in PARENTS.get(stage, ())}
    made = Record(stage, ref.key, "a", {}, {}, {}, 1.0, 1, {"host": "h"}, parents=parents)
    store.publish(folder, made)


def name(stage: str) -> str:
    return f"{stage}/{REFS[stage].key}"


def content(store: Store, stage: str) -> str:
    record = store.record(REFS[stage])
    assert record is not None
    return record.content


def discarded(store: Store) -> list[str]:
    return [ref.stage for ref in discard_altered(store, REFS.values())]


def alter(store: Store, stage: str) -> None:
    (store.path(REFS[stage]) / "out").write_text("edam")


def test_a_whole_store_stays_as_it_is(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert discarded(store) == [] and capsys.readouterr().err == ""
    assert all(store.record(ref) for ref in REFS.values())


def test_only_what_is_altered_goes_where_it_is_made_the_same_again(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    alter(store, "prepare")
    assert discarded(store) == ["prepare"]
    key = REFS["prepare"].key[:12]
    assert capsys.readouterr().err == f"prepare {key}: out is altered; it is made anew\n"
    assert store.record(REFS["prepare"]) is None and store.record(REFS["evaluate"])
    publish(store, "prepare")
    assert discarded(store) == []
    store.remove(REFS["prepare"])
    publish(store, "prepare", "other images")
    assert discarded(store) == ["evaluate"]


def test_what_ran_an_engine_goes_with_it(store: Store) -> None:
    alter(store, "build")
    assert discarded(store) == ["build", "evaluate"]


def test_what_ran_an_engine_goes_where_that_is_not_there(store: Store) -> None:
    store.remove(REFS["build"])
    assert discarded(store) == ["evaluate"]


def test_another_file_makes_another_engine_and_other_figures(store: Store) -> None:
    store.remove(REFS["export"])
    publish(store, "export", "another file")
    assert discarded(store) == ["build", "evaluate"]


def test_a_step_that_is_not_done_is_passed_over(tmp_path: Path) -> None:
    assert discarded(Store(tmp_path / "none")) == [] and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("contents", "absent", "said"),
    [
        ({}, (), None),
        ({"export": "same"}, (), None),
        ({"prepare": "another"}, (), None),  # it is no parent
        ({"export": "another"}, (), "it was made of another export than is there now"),
        ({}, ("export",), None),
        ({}, ("build",), "its engine is made anew"),
    ],
)
def test_why_an_artifact_is_not_of_its_parents(
    contents: Mapping[str, str], absent: tuple[str, ...], said: str | None
) -> None:
    parents = {name("export"): "same", name("build"): "engine"}
    record = Record("evaluate", "k", "a", {}, {}, {}, 1.0, 1, {}, parents=parents)
    known = {name(stage): digest for stage, digest in contents.items()}
    assert outdated(record, known, tuple(map(name, absent))) == said
    assert outdated(None, known) is None


@pytest.mark.parametrize("before", ["absent", "other"])
def test_what_another_sweep_makes_meanwhile_stays(
    store: Store, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine is looked at before that sweep has made it, its figures afterwards."""
    store.remove(REFS["build"])
    store.remove(REFS["evaluate"])
    if before == "other":
        publish(store, "build", "of before")
    reader = CachedStore(store.root)

    def read_while_the_other_goes_on() -> Iterator[Ref]:
        for stage in STAGES:
            if stage == "evaluate":
                store.remove(REFS["build"])
                publish(store, "build")
                publish(store, "evaluate")
            yield REFS[stage]

    assert discard_altered(reader, read_while_the_other_goes_on()) == []
    assert capsys.readouterr().err == "" and Store(store.root).record(REFS["evaluate"])
