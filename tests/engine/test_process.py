"""Steps in processes of their own, and the executor that performs one after another here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import full_disk
from own_stage import step, supervised

from farm.engine.estimates import Estimates
from farm.engine.local import LocalExecutor
from farm.engine.workers import ends
from farm.engine.workers.ends import clear_up
from farm.engine.workers.limits import Limit
from farm.errors import InputError
from farm.plan import Needs
from farm.plan.machines import placement
from farm.plan.machines.placement import Gpu
from farm.store import Store

APART = Needs(own_process=True)
ALONE = (APART, Needs(exclusive=True))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_worker_is_kept_for_the_next_step_unless_that_must_be_alone(store: Store) -> None:
    code = "import os; figures['pid'] = os.getpid()"
    kept = [pid_of(store, f"{code}  # {n}", Needs()) for n in range(2)]
    alone = [pid_of(store, f"{code}  # {n}", needs) for n, needs in enumerate(ALONE, start=2)]
    assert kept[0] == kept[1] != os.getpid() and len({*alone, kept[0]}) == 1 + len(ALONE)
    assert pid_of(store, f"{code}  # again", Needs()) == kept[0]
    assert supervised(step("raise ValueError"), store.root).status == "failed"
    assert pid_of(store, f"{code}  # after a failure", Needs()) != kept[0]


def pid_of(store: Store, code: str, needs: Needs) -> int:
    own = step(code, needs)
    assert supervised(own, store.root).status == "done"
    record = store.record(own.ref)
    assert record is not None
    return int(record.figures["pid"])


def test_a_child_leaves_what_a_step_here_leaves(store: Store) -> None:
    own = step("print('log'); (context.folder / 'f').write_text('abc')", APART)
    outcome = supervised(own, store.root)
    record = store.record(own.ref)
    assert outcome.status == "done" and 0 < outcome.seconds < 60
    assert record is not None and record.files == {"f": 3}
    assert store.log_path(own.ref).read_text() == "log\n"
    assert list((store.root / "tmp").iterdir()) == []
    again = supervised(own, store.root)
    assert (again.status, again.seconds) == ("done", 0.0)


ENDS = {
    "raise ValueError('x')": ("failed", "ValueError: x"),
    "import os; print('why', flush=True); os._exit(3)": (
        "failed", "its code ended the process with exit code 3; its log ends with: why",
    ),
    "import os; os._exit(0)": ("failed", "its code ended the process with exit code 0"),
    "import os; os.abort()": ("failed", "its code ended by signal 6 (Aborted)"),
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": (
        "transient", "its process was killed by signal 9 (Killed)",
    ),
    "import os, signal; signal.signal(15, signal.SIG_DFL); os.kill(os.getpid(), 15)": (
        "transient", "its process was killed by signal 15 (Terminated)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", ENDS)
def test_the_end_of_a_child_is_the_end_of_its_step(code: str, store: Store) -> None:
    own = step(code, APART)
    outcome = supervised(own, store.root)
    status, reason = ENDS[code]
    assert outcome.status == status
    assert outcome.reason.startswith(reason)
    failure = store.failure(own.key)
    assert (failure is not None) == (status == "failed")
    # What its code ends itself has no time that is known.
    assert failure is None or failure.limit == 0.0
    assert failure is None or failure.seconds == 0.0 or code.startswith("raise")
    assert list((store.root / "tmp").iterdir()) == []


def test_a_step_over_its_time_is_ended_with_its_trace_in_the_log(store: Store) -> None:
    own = step("import time; time.sleep(600)", APART)
    outcome = supervised(own, store.root, Limit(3))
    assert (outcome.status, outcome.kind) == ("failed", "timeout")
    assert outcome.reason == (
        "it did not finish within 3.0s; `limits: {stages: {own: TIME}}` in the matrix allows more"
    )
    assert 3 <= outcome.seconds < 60
    failure = store.failure(own.key)
    assert failure is not None and (failure.kind, failure.limit) == ("timeout", 3.0)
    assert failure.seconds == 0.0
    assert "Timeout (0:00:0" in store.log_path(own.ref).read_text()


def test_no_room_for_a_childs_folder_is_transient(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "work_folder", full_disk)
    outcome = supervised(step("", APART), store.root)
    assert outcome.status == "transient" and outcome.reason.startswith("the disk is full")


def test_what_a_lost_process_was_working_on_is_removed_and_its_log_kept(store: Store) -> None:
    folder = store.work_folder("k" * 64)
    (folder / "step.log").write_text("so far")
    other = store.work_folder("o" * 64)
    outcome = folder.with_name(f"{folder.name}.outcome")
    outcome.touch()
    clear_up(store, "k" * 64)
    assert not folder.exists() and other.exists() and not outcome.exists()
    assert (store.root / "failed" / f"{'k' * 64}.log").read_text() == "so far"


def test_a_log_that_ends_in_a_long_line_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\n" + "x" * 999 + "\n")
    assert ends._last_line(log) == f"; its log ends with: {'x' * 300}"
    with log.open("wb") as file:
        file.seek(1 << 40)  # a file with a hole, which nobody can read as a whole
        file.write(b"\nthe end\n")
    assert ends._last_line(log) == "; its log ends with: the end"
    log.write_text("\n")
    assert ends._last_line(log) == "" == ends._last_line(tmp_path / "none")


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
    assert executor.admit([cpu, here, optional], Estimates()) == {
        optional.key: "accelerator H100 is not here; run on a Ray cluster that has one (--address)"
    }
    with pytest.raises(InputError) as error:
        executor.admit([cpu, step("4", Needs(accelerator="H100"))], Estimates())
    assert error.value.message.startswith("own mine: accelerator H100 is not here")
    assert error.value.where == "--executor inline"


def test_a_full_disk_does_not_keep_the_folders_of_a_lost_process(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.work_folder("k" * 64)
    monkeypatch.setattr(Store, "keep_log", full_disk)
    clear_up(store, "k" * 64)
    assert not folder.exists()
