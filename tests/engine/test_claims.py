"""Claims of steps among sweeps, and the working folders of dead ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT
from own_stage import step

from farm.engine import claims
from farm.engine.claims import Claims, path_of, remove_stale_work
from farm.store import Store

KEY = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_step_is_claimed_once(store: Store) -> None:
    own, other, one = Claims(store), Claims(store), step("1")
    assert own.claim(one) and own.claim(one) and not other.claim(one)
    assert other.claim(step("2"))
    own.release(one.key)
    own.release(one.key)
    assert other.claim(one)
    other.release_all()
    assert list((store.root / "claims").iterdir()) == []


def test_a_store_that_cannot_be_written_stops_no_claim(store: Store) -> None:
    store.root.parent.mkdir(exist_ok=True)
    store.root.write_text("a file")
    assert Claims(store).claim(step("1"))  # the step itself says what is wrong


HOLD = """
import sys
from farm.engine.claims import Claims
from farm.store import Store
from own_stage import step
store = Store(sys.argv[1])
assert Claims(store).claim(step("1"))
store.work_folder(step("1").key)
print("held", flush=True)
sys.stdin.read()
"""


def test_the_work_of_a_sweep_that_was_killed_is_removed_when_its_claim_has_expired(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "EXPIRES_S", 1.0)
    path = f"{PROJECT}:{PROJECT / 'tests' / 'engine'}"
    short = "from farm.engine import claims\nclaims.EXPIRES_S = 1.0\nstore = "
    code = HOLD.replace("store = ", short)
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)],
        env={"PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        (folder,) = (store.root / "tmp").iterdir()
        assert remove_stale_work(store) == 0 and folder.exists()
        assert not Claims(store).claim(step("1"))
    finally:
        other.kill()
        other.wait()
    lease = claims.Lease(path_of(store, step("1").key), 1.0)
    assert lease.acquire(wait_s=30)
    lease.release()
    assert remove_stale_work(store) == 1 and not folder.exists()


def test_what_is_no_folder_of_work_does_no_harm(store: Store) -> None:
    assert remove_stale_work(store) == 0
    (store.root / "tmp").mkdir(parents=True)
    (store.root / "tmp" / f"{KEY}.host.1.1").write_text("a file")
    assert remove_stale_work(store) == 1
    assert list((store.root / "tmp").iterdir()) == []


def test_the_claim_of_a_sweep_that_was_killed_after_its_step_was_done_goes(
    store: Store,
) -> None:
    own = Claims(store)
    assert own.claim(step("lives"))
    dead = path_of(store, KEY)
    dead.touch()
    os.utime(dead, (0, 0))
    remove_stale_work(store)
    assert not dead.exists() and path_of(store, step("lives").key).exists()
    own.release_all()
