"""Steps in processes of their own, and the executor that performs one after another here."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import full_disk
from own_stage import step

from farm.engine import process
from farm.engine.local import LocalExecutor
from farm.engine.process import clear_up, perform_apart, perform_where_due
from farm.errors import InputError
from farm.plan import Needs, placement
from farm.plan.placement import Gpu
from farm.store import Store

APART = Needs(own_process=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def pid_of(store: Store, code: str, needs: Needs) -> int:
    own = step(code, needs)
    assert perform_where_due(own, str(store.root), 60).status == "done"
    record = store.record(own.ref)
    assert record is not None
    return int(record.figures["pid"])


def test_only_steps_that_need_it_have_a_process_of_their_own(store: Store) -> None:
    code = "import os; figures['pid'] = os.getpid()"
    assert pid_of(store, code, Needs()) == os.getpid()
    assert pid_of(store, f"{code}  # apart", APART) != os.getpid()


def test_a_child_leaves_what_a_step_here_leaves(store: Store) -> None:
    own = step("print('log'); (context.folder / 'f').write_text('abc')", APART)
    outcome = perform_apart(own, str(store.root), 60)
    record = store.record(own.ref)
    assert outcome.status == "done" and 0 < outcome.seconds < 60
    assert record is not None and record.files == {"f": 3}
    assert store.log_path(own.ref).read_text() == "log\n"
    assert list((store.root / "tmp").iterdir()) == []
    again = perform_apart(own, str(store.root), 60)
    assert (again.status, again.seconds) == ("done", 0.0)


ENDS = {
    "raise ValueError('x')": ("failed", "ValueError: x"),
    "import os; print('why', flush=True); os._exit(3)": (
        "failed", "its code ended the process with exit code 3; its log ends with: why",
    ),
    "import os; os._exit(0)": ("failed", "its code ended the process with exit code 0"),
    "import os; os.abort()": ("failed", "its code ended by signal 6 (Aborted)"),
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": (
        "transient", "its process was killed by signal 9 (Killed): out of memory?",
    ),
    "import os, signal; signal.signal(15, signal.SIG_DFL); os.kill(os.getpid(), 15)": (
        "transient", "its process was killed by signal 15 (Terminated)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", ENDS)
def test_the_end_of_a_child_is_the_end_of_its_step(code: str, store: Store) -> None:
    own = step(code, APART)
    outcome = perform_apart(own, str(store.root), 60)
    status, reason = ENDS[code]
    assert outcome.status == status
    assert outcome.reason.startswith(reason)
    assert (store.failure(own.key) is not None) == (status == "failed")
    assert list((store.root / "tmp").iterdir()) == []


def test_a_step_over_its_time_is_ended_with_its_trace_in_the_log(store: Store) -> None:
    own = step("import time; time.sleep(600)", APART)
    outcome = perform_apart(own, str(store.root), 6)
    assert outcome.status == "failed"
    assert outcome.reason == (
        "did not finish within 6.0s; `farm run --retry-failed --check-minutes N` allows more time"
    )
    assert 6 <= outcome.seconds < 60
    assert "Timeout (0:00:0" in store.log_path(own.ref).read_text()


def test_no_room_for_a_childs_folder_is_transient(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "work_folder", full_disk)
    outcome = perform_apart(step("", APART), str(store.root), 60)
    assert outcome.status == "transient" and outcome.reason.startswith("the disk is full")


def test_a_child_that_published_and_was_then_killed_is_done(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = step("figures['n'] = 1", APART)

    def lost(self: Path) -> bytes:
        raise FileNotFoundError(self)

    monkeypatch.setattr(process.Path, "read_bytes", lost)  # its answer never came
    assert process.perform_apart(own, str(store.root), 60).status == "done"


def test_a_check_has_its_own_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []
    monkeypatch.setattr(process, "perform_apart", lambda *values: limits.append(values))
    own = step("", APART)
    for one in (replace(own, stage="check"), replace(own, stage="export")):
        perform_where_due(one, "root", 7.0, True)
    assert [(values[1], values[2], values[3]) for values in limits] == [
        ("root", 7.0, True), ("root", None, True),
    ]  # fmt: skip


def test_what_a_lost_process_was_working_on_is_removed_and_its_log_kept(store: Store) -> None:
    folder = store.work_folder("k" * 64)
    (folder / "step.log").write_text("so far")
    other = store.work_folder("o" * 64)
    clear_up(store, "k" * 64)
    assert not folder.exists() and other.exists()
    assert (store.root / "failed" / f"{'k' * 64}.log").read_text() == "so far"


def test_a_log_that_ends_in_a_long_line_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\n" + "x" * 999 + "\n")
    assert process._last_line(log) == f"; its log ends with: {'x' * 300}"
    log.write_text("\n")
    assert process._last_line(log) == "" == process._last_line(None)


def test_the_worker_ends_where_its_parent_is_no_more(store: Store, tmp_path: Path) -> None:
    own = step("figures['n'] = 1", APART)
    folder = tmp_path / "work"
    folder.mkdir()
    work = process.ChildWork(own, str(store.root), False, folder, os.getpid() + 1, None)
    code = process._START.format(path=sys.path)
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(work), check=False)
    assert done.returncode == 1 and not work.outcome_file.exists() and store.record(own.ref) is None


def test_the_inline_executor_takes_one_step_at_a_time(store: Store) -> None:
    executor = LocalExecutor(store)
    first, second = step("figures['n'] = 1"), step("raise ValueError('x')")
    assert executor.take(first) and not executor.take(second)
    outcome = executor.wait()
    assert (outcome.key, outcome.status) == (first.key, "done")
    assert executor.take(second)
    assert executor.wait().reason == "ValueError: x"
    executor.stop()


def test_the_inline_executor_admits_what_this_machine_has(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "gpus", lambda: (Gpu("NVIDIA L4", "8.9", "580.1"),))
    executor = LocalExecutor(store)
    cpu, here = step("1"), step("2", Needs(accelerator="L4"))
    optional = step("3", Needs(accelerator="H100", optional=True))
    assert executor.admit([cpu, here, optional]) == {
        optional.key: "accelerator H100 is not here; run on a Ray cluster that has one (--address)"
    }
    with pytest.raises(InputError) as error:
        executor.admit([cpu, step("4", Needs(accelerator="H100"))])
    assert error.value.message.startswith("own mine: accelerator H100 is not here")
    assert error.value.where == "--executor inline"
