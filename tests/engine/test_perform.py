"""One step in this process: what it leaves in the store, and how its failures are recorded."""

from __future__ import annotations

import errno
import os
import platform
import sys
from pathlib import Path

import pytest
from conftest import full_disk
from own_stage import step

from farm.engine.workers import memory
from farm.engine.workers.perform import perform
from farm.interrupts import Interrupted
from farm.plan import Needs, Step
from farm.plan.content import dependencies
from farm.plan.content.packages import exact_version
from farm.plan.machines.placement import Machine, cpu_model, step_unsupported
from farm.specs import Gpu, Target
from farm.store import Store

HERE = Target("here", cpu_model())
ELSEWHERE = Target("elsewhere", "Z80 (no avx2)")
H100 = Target("gpu", "H100", "H100", "9.0", "580")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_step_leaves_its_files_figures_and_log(store: Store) -> None:
    own = step(
        "print('to the log'); figures['n'] = context.threads\n"
        "(context.folder / 'out.bin').write_bytes(b'12345')",
        Needs(cpus=3),
        (("numpy", exact_version("numpy")),),
        HERE,
    )
    outcome = perform(own, str(store.root))
    assert (outcome.key, outcome.status, outcome.reason) == (own.key, "done", "")
    record = store.record(own.ref)
    assert record is not None
    assert record.figures == {"n": 3} and record.files == {"out.bin": 5}
    assert (record.stage, record.key, record.label, record.code) == ("own", own.key, "mine", "c0de")
    assert record.toolchain == {"numpy": exact_version("numpy")}
    assert record.inputs["code"] == own.inputs.code  # type: ignore[union-attr]
    assert 0 < record.seconds <= outcome.seconds < 60
    assert 1 << 20 < record.peak_host_bytes < 1 << 40
    assert record.node == {
        "host": platform.node(), "device": cpu_model(), "cores": os.cpu_count(),
        "python": platform.python_version(),
    }  # fmt: skip
    assert store.log_path(own.ref).read_text() == "to the log\n"
    assert list((store.root / "tmp").iterdir()) == []


def test_a_step_in_the_store_is_not_performed_again(store: Store, tmp_path: Path) -> None:
    own = step(f"open({str(tmp_path / 'ran')!r}, 'a').write('x')")
    for _ in range(2):
        assert perform(own, str(store.root)).status == "done"
    assert (tmp_path / "ran").read_text() == "x"


FAILURES = {
    "raise ValueError('two\\n  lines\\nException from src/core.cpp:1')": (
        "failed", "ValueError: two lines",
    ),
    "raise KeyError": ("failed", "KeyError"),
    "import sys; sys.exit(3)": ("failed", "its code raised SystemExit: 3"),
    "raise KeyboardInterrupt": ("failed", "its code raised KeyboardInterrupt"),
    "from farm.errors import StepFailed; raise StepFailed('no operator\\nX')": (
        "failed", "no operator\nX",
    ),
    "from farm.errors import InputError; raise InputError('bad', 'm.yaml:3')": (
        "input", "m.yaml:3: bad",
    ),
    "from farm.errors import TransientFailure; raise TransientFailure('busy')": (
        "transient", "busy",
    ),
    "raise MemoryError": ("transient", "out of memory (MemoryError)"),
    "raise PermissionError(13, 'not yours', 'f')": (
        "transient", "PermissionError: [Errno 13] not yours: 'f'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", FAILURES)
def test_each_failure_has_its_status_and_its_reason(code: str, store: Store) -> None:
    own = step(f"print('before')\n{code}")
    outcome = perform(own, str(store.root))
    assert (outcome.status, outcome.reason) == FAILURES[code]
    assert 0 < outcome.seconds < 60
    failure = store.failure(own.key)
    assert (failure is not None) == (outcome.status == "failed")
    assert failure is None or (failure.reason, failure.label) == (outcome.reason, "mine")
    assert failure is None or (failure.limit, failure.seconds) == (0.0, outcome.seconds)
    log = store.log_path(own.ref).read_text()
    assert log.startswith("before\n") and "Traceback (most recent call last)" in log
    assert store.record(own.ref) is None and list((store.root / "tmp").iterdir()) == []


def test_a_full_disk_is_named_with_the_store(store: Store) -> None:
    own = step(f"raise OSError({errno.ENOSPC}, 'No space left')")
    outcome = perform(own, str(store.root))
    assert outcome.status == "transient"
    assert outcome.reason == f"the disk is full ({store.root}); free some space and run again"


def test_no_room_for_the_work_folder_is_transient(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "work_folder", full_disk)
    outcome = perform(step(), str(store.root))
    assert (outcome.status, outcome.seconds) == ("transient", 0.0)
    assert outcome.reason.startswith("the disk is full")


def test_a_failure_that_cannot_be_recorded_is_transient(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "record_failure", full_disk)
    outcome = perform(step("raise ValueError('x')"), str(store.root))
    assert outcome.status == "transient" and outcome.reason.startswith("the disk is full")


def test_what_the_code_noted_of_its_model_is_kept_with_the_failure(store: Store) -> None:
    own = step(
        f"(context.folder / {dependencies.FILE!r}).write_text('seen'); raise ValueError('x')"
    )
    perform(own, str(store.root))
    assert store.failed_file(own.key, dependencies.FILE).read_text() == "seen"


def test_an_interrupt_from_outside_is_no_outcome(store: Store) -> None:
    own = step("from farm.interrupts import Interrupted; raise Interrupted")
    with pytest.raises(Interrupted):
        perform(own, str(store.root))
    assert store.failure(own.key) is None and list((store.root / "tmp").iterdir()) == []


def test_the_folder_of_the_process_is_the_same_after_a_step(store: Store) -> None:
    here = Path.cwd()
    perform(step("import os; os.chdir('/')"), str(store.root))
    assert Path.cwd() == here


def test_the_echo_shows_the_log_and_the_traceback(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    perform(step("print('seen'); raise ValueError('why')"), str(store.root), echo=True)
    said = capfd.readouterr()
    assert "seen" in said.out and "ValueError: why" in said.err
    perform(step("print('hidden'); raise ValueError('hidden')"), str(store.root))
    assert "hidden" not in "".join(capfd.readouterr())


def test_streams_that_the_code_closed_are_there_again(store: Store) -> None:
    before = sys.stdin, sys.stdout, sys.stderr
    code = "import sys, os; sys.stdout.close(); sys.stderr = None; os.close(0)"
    assert perform(step(code), str(store.root)).status == "done"
    assert (sys.stdin, sys.stdout, sys.stderr) == before
    os.fstat(0)
    code = "figures['line'] = __import__('sys').stdin.readline()"
    perform(step(code), str(store.root))
    record = store.record(step(code).ref)
    assert record is not None and record.figures == {"line": ""}


def test_a_node_that_does_not_fit_the_plan_is_transient(store: Store) -> None:
    outcome = perform(step("1", toolchain=(("numpy", "0.1"),)), str(store.root))
    assert outcome.status == "transient"
    assert outcome.reason == (
        f"node {platform.node()} has numpy {exact_version('numpy')}, the plan was made with 0.1: "
        "install the same version on both"
    )
    outcome = perform(step("2", target=ELSEWHERE), str(store.root))
    assert outcome.status == "transient" and "target elsewhere is Z80" in outcome.reason


def unfit(own: Step, host: str, device: str, versions: dict[str, str], *gpus: Gpu) -> str | None:
    return step_unsupported(own, Machine(host, device, versions, gpus))


def test_versions_and_processors_decide_whether_a_node_fits() -> None:
    tools = (("numpy", "2.0"), ("onnx", "1.16"))
    own = step("", toolchain=tools, target=HERE)
    assert unfit(own, "n1", cpu_model(), dict(tools)) is None
    assert unfit(own, "n1", cpu_model(), {"numpy": "2.0"}) == (
        "node n1 has onnx None, the plan was made with 1.16: install the same version on both"
    )
    assert unfit(own, "n1", "Z80", dict(tools)) == (
        f"node n1 is Z80, target here is {cpu_model()}: "
        "name the processor as `device` of a target of its own"
    )
    assert unfit(step(""), "n1", "Z80", {}) is None


def test_one_of_a_nodes_gpus_must_be_the_targets() -> None:
    own = step("", Needs(accelerator="H100"), target=H100)
    right, wrong = Gpu("NVIDIA H100", "9.0", "580.1"), Gpu("NVIDIA H100", "9.0", "570.2")
    assert unfit(own, "n1", "any cpu", {}, right) is None
    assert unfit(own, "n1", "any cpu", {}, wrong, right) is None
    assert unfit(own, "n1", "any cpu", {}) is None
    assert unfit(own, "n1", "any cpu", {}, wrong) == (
        "node n1 has NVIDIA H100 (9.0, driver 570), and target gpu is H100 (9.0, driver 580): "
        "give these to a target of its own"
    )
    # Built ahead of time on a CPU: its GPUs decide nothing.
    assert unfit(step("", target=H100), "n1", "any cpu", {}, wrong) is None


def test_the_peak_is_that_of_the_step_alone(store: Store) -> None:
    big, small = step("x = bytearray(b'x') * (300 << 20)"), step("pass")
    for one in (big, small):
        perform(one, str(store.root))
    records = [store.record(one.ref) for one in (big, small)]
    peaks = [one.peak_host_bytes for one in records if one]
    assert peaks[0] - peaks[1] > 200 << 20


def test_the_peak_is_known_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(memory, "open", fails, raising=False)
    memory.reset_peak()
    assert memory.peak_bytes() > 1 << 20
