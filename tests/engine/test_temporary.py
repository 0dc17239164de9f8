"""Temporary folders of workers, also of those that were killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import PROJECT

from farm.engine.workers.temporary import (
    TOKEN,
    TOKEN_VARIABLE,
    TemporaryFolder,
    remove_abandoned,
)

MAKE = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from farm.engine.workers.temporary import TemporaryFolder
folder = TemporaryFolder()
(folder.path / "file").write_text("x")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_its_owners_until_it_is_removed(folder: Path) -> None:
    own, other = TemporaryFolder(), TemporaryFolder()
    assert own.path != other.path and own.path.parent == folder
    assert (own.path / "lock").stat().st_mode & 0o777 == 0o600
    (own.path / "a").write_text("x")
    remove_abandoned()
    assert (own.path / "a").exists() and other.path.exists()
    own.remove()
    other.remove()
    assert list(folder.iterdir()) == []


def test_a_folder_into_which_something_still_writes_is_removed_once_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, remove = [], shutil.rmtree

    def removed(path: Path, ignore_errors: bool) -> None:
        tries.append(path)
        if len(tries) > 1:
            remove(path)
        elif not ignore_errors:
            raise OSError("not empty")

    own = TemporaryFolder()
    monkeypatch.setattr(shutil, "rmtree", removed)
    own.remove()
    assert tries == [own.path] * 2 and not own.path.exists()


def test_what_is_left_of_a_ray_whose_driver_was_killed_is_ended_and_nothing_else(
    folder: Path,
) -> None:
    make = MAKE.replace("TemporaryFolder()", "TemporaryFolder('ray')")
    driver = subprocess.Popen(
        [sys.executable, "-c", make, str(folder)], env={"PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert driver.stdout is not None
    path = Path(driver.stdout.readline().strip())
    agents = [
        subprocess.Popen(["sleep", "60"], env={**os.environ, TOKEN_VARIABLE: str(token)})
        for token in (path / TOKEN, path.with_name("farm-ray-other") / TOKEN)
    ]
    try:
        remove_abandoned()
        assert [one.poll() for one in agents] == [None, None]
        driver.kill()
        driver.communicate()
        remove_abandoned()
        assert agents[0].wait(10) == -signal.SIGKILL and not path.exists()
        assert agents[1].poll() is None
    finally:
        for one in agents:
            one.kill()
            one.wait()


def test_the_folder_of_a_process_that_was_killed_is_removed_by_the_next(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE, str(folder)], env={"PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    path = Path(process.stdout.readline().strip())
    remove_abandoned()
    assert (path / "file").exists()
    process.kill()
    process.communicate()
    TemporaryFolder().remove()
    assert not path.exists()
    (folder / "farm-worker-odd").write_text("no folder")
    remove_abandoned()
