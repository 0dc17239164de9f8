"""`farm gc`: what it asks for, what it shows and removes, and what it keeps."""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path

import pytest
from conftest import Tool
from object_stores import leave
from rows import row

from farm.cli.gc import age, shown
from farm.engine.claims import path_of
from farm.engine.holding import REMOVING, announced, held
from farm.files.lease import Lease
from farm.results import leaderboard
from farm.specs import Ref
from farm.store import Store

DAY = 86400


def ref(number: int, stage: str = "build") -> Ref:
    return Ref(stage, f"{number:064x}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Of two sweeps with an artifact each and one that they share, and one artifact of neither."""
    store = Store(tmp_path / "r" / "store")
    for number in range(1, 5):
        leave(store, ref(number), "x" * (1000 if number == 4 else 10))
        made_ago(store, number, days=number)
    for name, ago, steps in (("old", 30, (1, 2)), ("new", 1, (2, 3))):
        with announced(store, name, str(tmp_path / "r"), map(ref, steps)):
            pass
        (file,) = (store.root / "sweeps").glob(f"{name}.*")
        os.utime(file, (time.time() - ago * DAY,) * 2)
    return store


def made_ago(store: Store, number: int, days: float) -> None:
    for path in store.path(ref(number)).rglob("*"):
        os.utime(path, (time.time() - days * DAY,) * 2)


def left(store: Store) -> list[int]:
    return [number for number in range(1, 5) if store.record(ref(number))]


def test_what_no_sweep_needs_goes(store: Store, tmp_path: Path, tool: Tool) -> None:
    words = ("gc", "--results", tmp_path / "r", "--keep-sweeps", "2")
    dry = tool(*words, "--dry-run")
    assert dry.code == 0 and left(store) == [1, 2, 3, 4]
    assert dry.out.startswith("2 of 2 sweeps are kept (new, old).\nstage  artifacts")
    assert re.search(
        r"build +1 +[\d.]+ KiB\n1 would be removed: [\d.]+ KiB of [\d.]+ KiB.\n", dry.out
    )
    done = tool(*words)
    assert done.code == 0 and "\n1 removed: " in done.out and left(store) == [1, 2, 3]
    assert "\n0 removed: 0 B of " in tool(*words).out
    tool("gc", "--results", tmp_path / "r", "--keep-sweeps", "1")
    assert left(store) == [2, 3]


def test_only_what_is_older_goes(store: Store, tmp_path: Path, tool: Tool) -> None:
    words = ("gc", "--results", tmp_path / "r", "--older-than")
    tool(*words, "30d")
    assert left(store) == [1, 2, 3, 4]
    tool(*words, "3d")
    assert left(store) == [1, 2, 3]


def test_the_store_is_made_as_small_as_kept_sweeps_let_it(
    store: Store, tmp_path: Path, tool: Tool
) -> None:
    words = ("gc", "--results", tmp_path / "r", "--max-size")
    tool(*words, "1GB")
    assert left(store) == [1, 2, 3, 4]
    done = tool(*words, "100B")
    assert left(store) == [1, 2, 3]
    assert "What is left is larger than 100 B: kept sweeps need 1." in done.out
    tool(*words, "1KB", "--keep-sweeps", "1")
    assert left(store) == [2, 3]


def test_a_sweep_that_runs_is_kept(store: Store, tmp_path: Path, tool: Tool) -> None:
    with announced(store, "old", str(tmp_path / "r"), [ref(1)]):
        file = next((store.root / "sweeps").glob("old.*"))
        os.utime(file, (1, 1))  # begun long ago
        done = tool("gc", "--results", tmp_path / "r", "--keep-sweeps", "1")
    assert left(store) == [1, 2, 3] and "2 of 2 sweeps are kept (new, old)" in done.out


def test_files_without_a_record_stay_while_a_sweep_may_run_their_step(
    store: Store, tmp_path: Path, tool: Tool
) -> None:
    """It may be putting the very same files, and has not claimed that step by itself."""
    (store.path(ref(2)) / "record.json").unlink()
    words = ("gc", "--results", tmp_path / "r", "--keep-sweeps", "2")
    with announced(store, "old", str(tmp_path / "r"), [ref(1), ref(2)]):
        tool(*words)
    assert store.path(ref(2)).exists()
    tool(*words)
    assert not store.path(ref(2)).exists()


def test_sweeps_of_an_earlier_version_are_known_by_their_rows(
    store: Store, tmp_path: Path, tool: Tool
) -> None:
    leave(store, ref(5, "export"))
    leave(store, ref(6), "engine", **{f"export/{ref(5).key}": "00"})
    for one in (ref(5, "export"), ref(6)):
        for path in store.path(one).rglob("*"):
            os.utime(path, (time.time() - 9 * DAY,) * 2)
    rows = [{**row("x", sweep="early"), "build_key": ref(6).key}]
    leaderboard.write(rows, tmp_path / "r", "early")
    tool("gc", "--results", tmp_path / "r", "--older-than", "1h")
    assert store.record(ref(6)) and store.record(ref(5, "export")) and left(store) == [1, 2, 3]


def test_what_a_killed_sweep_has_claimed_is_named_and_goes_and_holds_nothing(
    store: Store, tmp_path: Path, tool: Tool
) -> None:
    """Though an hour has not passed since its last sign of life; a living one's claim stays."""
    dead, lives = path_of(store, ref(4).key), path_of(store, ref(1).key)
    dead.parent.mkdir(exist_ok=True)
    dead.write_text('{"host": "h", "pid": 1, "token": "0123456789abcdef"}')
    os.utime(dead, (time.time() - 60,) * 2)
    words = ("gc", "--results", tmp_path / "r", "--keep-sweeps", "1")
    with Lease(lives, 20.0):
        dry = tool(*words, "--dry-run")
        named = f"1 claim of killed processes would be removed: {dead.name[:24]}.\n"
        assert dry.out.endswith(named) and dead.exists() and left(store) == [1, 2, 3, 4]
        done = tool(*words)
        assert done.out.endswith(named.replace("would be removed", "removed"))
        assert left(store) == [1, 2, 3]
        assert lives.exists() and not dead.exists()
    assert "claim" not in tool(*words).out


def test_one_removes_at_a_time(store: Store, tmp_path: Path, tool: Tool) -> None:
    with held(store, REMOVING):
        done = tool("gc", "--results", tmp_path / "r", "--keep-sweeps", "1")
    assert done.code == 2 and "another `farm gc` is running there" in done.err
    assert left(store) == [1, 2, 3, 4]


def test_it_removes_nothing_without_being_told_what(
    store: Store, tmp_path: Path, tool: Tool
) -> None:
    done = tool("gc", "--results", tmp_path / "r")
    assert done.code == 2 and left(store) == [1, 2, 3, 4]
    assert "give --keep-sweeps, --older-than or --max-size" in done.err
    done = tool("gc", "--results", tmp_path / "none", "--keep-sweeps", "1")
    assert done.code == 2 and "there is no store here" in done.err
    for words in (("--keep-sweeps", "0"), ("--older-than", "3"), ("--max-size", "3")):
        assert tool("gc", *words).code == 2


def test_ages_and_sizes_are_as_people_write_them() -> None:
    assert (age("12h"), age("30d"), age("2w")) == (43200, 30 * DAY, 14 * DAY)
    for text in ("", "d", "3", "3 d", "-3d", "3m"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no age; write 12h, 30d or 8w"):
            age(text)
    assert [shown(n) for n in (0, 1023, 1536, 3 << 20, 5 << 30, 2 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "3.0 MiB", "5.0 GiB", "2.0 TiB",
    ]  # fmt: skip
