"""What a child that performs a step leaves and takes with it: processes, sessions, streams."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import psutil
import pytest
from conftest import wait_for
from own_stage import step, supervised

from farm.engine.estimates import Estimates
from farm.engine.local import LocalExecutor
from farm.engine.workers import perform as performing
from farm.engine.workers import supervise
from farm.engine.workers.limits import Limit
from farm.engine.workers.memory import MemoryWatch
from farm.engine.workers.perform import perform
from farm.engine.workers.supervise import Supervisor
from farm.plan import Needs, Step
from farm.store import Store

APART = Needs(own_process=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def figures(store: Store, own: Step) -> dict[str, object]:
    record = store.record(own.ref)
    assert record is not None
    return record.figures


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_has_a_session_and_a_folder_of_its_own(store: Store) -> None:
    own = step(
        "import os, tempfile\n"
        "figures['session'] = os.getsid(0) == os.getpid()\n"
        "figures['tmp'] = tempfile.gettempdir()\n"
        "figures['there'] = os.path.isdir(tempfile.gettempdir())",
        APART,
    )
    assert supervised(own, store.root).status == "done"
    found = figures(store, own)
    assert found["session"] is True and found["there"] is True
    assert "/farm-" in str(found["tmp"]) and not str(found["tmp"]).startswith(str(store.root))
    assert not Path(str(found["tmp"])).exists()


@pytest.mark.parametrize("code", ["", "\nimport os; os._exit(3)", "\ntime.sleep(600)"])
def test_what_a_child_began_ends_with_it(store: Store, code: str) -> None:
    """Also in a session of its own."""
    pids = store.root.parent / "pids"
    own = step(
        "import subprocess, time\n"
        "both = [subprocess.Popen(['sleep', '600'], start_new_session=new) for new in (0, 1)]\n"
        f"open({str(pids)!r}, 'w').write(' '.join(str(one.pid) for one in both)){code}",
        APART,
    )
    other = subprocess.Popen(["sleep", "600"])  # of somebody else: goes on
    try:
        supervised(own, store.root, Limit(4 if "sleep(" in code else 60))
        found = [int(pid) for pid in pids.read_text().split()]
        assert len(found) == 2
        wait_for(lambda: all(map(ended, found)))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_child_that_outlives_its_parent_is_ended(store: Store) -> None:
    mark = store.root.parent / "pid"
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    text = (
        "from own_stage import step, supervised\nfrom farm.plan import Needs\n"
        f"supervised(step({code!r}, Needs(own_process=True)), {str(store.root)!r})"
    )
    path = os.pathsep.join([*sys.path])
    parent = subprocess.Popen([sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": path})
    wait_for(lambda: mark.exists() and mark.read_text() != "")
    assert not ended(int(mark.read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: ended(int(mark.read_text())))


def test_a_step_that_removes_its_own_folder_ends_itself_alone(store: Store) -> None:
    here = step("import shutil; shutil.rmtree(context.folder)")
    outcome = perform(here, str(store.root))
    assert outcome.status == "transient" and "FileNotFoundError" in outcome.reason
    child = step("import shutil; shutil.rmtree(context.folder.parent)", APART)
    outcome = supervised(child, store.root)
    assert outcome.status == "transient" and "FileNotFoundError" in outcome.reason


@pytest.mark.parametrize("proc", [True, False])
def test_the_peak_is_counted_in_whole_kibibytes(
    store: Store, proc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not proc:
        monkeypatch.setattr(performing, "Path", lambda _: Path("/no/such/proc"))
    own = step("kept = bytearray(1 << 20)")
    assert perform(own, str(store.root)).status == "done"
    record = store.record(own.ref)
    assert record is not None
    assert record.peak_host_bytes > 1 << 20 and record.peak_host_bytes % 1024 == 0


@pytest.mark.parametrize("own_process", [False, True])
def test_a_step_reads_nothing_and_says_nothing_but_to_its_log(
    store: Store, own_process: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    own = step(
        "import os, sys\n"
        "figures['read'] = sys.stdin.read()\n"
        "figures['numbers'] = [one.fileno() for one in (sys.stdin, sys.stdout, sys.stderr)]\n"
        "figures['modes'] = [one.mode for one in (sys.stdin, sys.stdout, sys.stderr)]\n"
        "print('one'); os.write(1, b'two\\n'); print('three', file=sys.stderr)\n"
        "os.write(2, b'four\\n')\n"
        f"# {own_process}",
        Needs(own_process=own_process),
    )
    assert supervised(own, store.root).status == "done"
    found = figures(store, own)
    assert found == {"read": "", "numbers": [0, 1, 2], "modes": ["r", "w", "w"]}
    assert store.log_path(own.ref).read_text() == "one\ntwo\nthree\nfour\n"
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


@pytest.mark.parametrize("own_process", [False, True])
def test_an_echo_shows_the_log_too(
    store: Store, own_process: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    own = step(f"print('shown')  # {own_process}", Needs(own_process=own_process))
    supervisor = Supervisor(echo=True)
    assert supervisor.run(own, str(store.root), Limit(60)).status == "done"
    supervisor.close()
    assert "shown" in capfd.readouterr().out
    assert store.log_path(own.ref).read_text() == "shown\n"


def test_a_step_here_keeps_quiet_unless_it_should_echo(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    assert perform(step("print('quiet')"), str(store.root)).status == "done"
    failing = step("raise ValueError('quiet too')")
    assert perform(failing, str(store.root)).status == "failed"
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert "ValueError: quiet too" in store.log_path(failing.ref).read_text()


def test_the_inline_executor_admits_each_step_by_itself(store: Store) -> None:
    executor = LocalExecutor(store)
    rare = step("1", Needs(accelerator="H100-9000", optional=True))
    plain, other = step("2"), step("3", Needs(accelerator="H100-9001", optional=True))
    left = executor.admit([plain, rare, plain, other], Estimates())
    assert list(left) == [rare.key, other.key]
    assert left[rare.key].startswith("accelerator H100-9000 is not here; run on a Ray cluster")
    assert executor.admit([plain], Estimates()) == {}


def test_the_inline_executor_is_quiet_unless_it_should_echo(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = LocalExecutor(store)
    own = step("print('quiet')")
    assert executor.take(own) and executor.wait().status == "done"
    assert capfd.readouterr().out == ""
    loud = LocalExecutor(store, echo=True)
    said = step("print('loud')")
    assert loud.take(said) and loud.wait().status == "done"
    assert "loud" in capfd.readouterr().out


def test_a_worker_is_not_kept_with_a_process_that_its_step_has_left_running(store: Store) -> None:
    """It would run beside the next step, a measurement perhaps."""
    own = step("import subprocess\nfigures['pid'] = subprocess.Popen(['sleep', '600']).pid")
    assert supervised(own, store.root).status == "done"
    pid = figures(store, own)["pid"]
    assert isinstance(pid, int)
    wait_for(lambda: ended(pid))


@pytest.mark.parametrize("code", ["raise ValueError('of the child')", ""])
def test_a_process_that_the_code_forks_does_not_go_on_as_the_worker(
    store: Store, code: str
) -> None:
    own = step(f"import os\nif (pid := os.fork()) == 0: {code or 'pass'}\nelse: os.waitpid(pid, 0)")
    assert supervised(own, store.root).status == "done"
    assert store.failure(own.key) is None
    log = store.log_path(own.ref).read_text()
    assert log.endswith("ValueError: of the child\n") if code else log == ""
    assert supervised(step(f"1  # {code}"), store.root).status == "done"


def test_memory_is_watched_also_of_code_that_has_closed_every_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limit, "most_bytes", property(lambda _: 400 << 20))
    own = step(
        "import os, time\nos.closerange(3, 999)\nkept = []\n"
        "for _ in range(200): kept.append(bytearray(b'1' * 10_000_000)); time.sleep(0.05)",
        APART,
    )
    outcome = supervised(own, store.root)
    assert outcome.reason.startswith("it used more than 400MiB of memory")


INTERRUPTED = """
from farm.engine.workers import client as workers
print("starts", flush=True)
workers.ForkServer(None, False)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_interrupted_while_it_starts_leaves_nothing(
    tmp_path: Path, number: int
) -> None:
    main = "import signal\nfrom farm import interrupts\ndef main():" + INTERRUPTED.replace(
        "\n", "\n    "
    )
    main += "\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{main}\ninterrupts.to_the_end(main)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"starts\n"
    wait_for(lambda: bool(list(tmp_path.glob("farm-worker-*"))))
    process.send_signal(number)
    assert process.wait(30) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_server_started_with_blocked_signals_sees_its_children_end(store: Store) -> None:
    signals = {signal.SIGCHLD, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    supervisor = Supervisor()
    try:
        own = step("import os; os._exit(3)", APART)
        outcome = supervisor.run(own, str(store.root), Limit(30))
        supervisor.close()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert outcome.reason == "its code ended the process with exit code 3"


def test_the_server_outlives_the_thread_that_has_started_it(store: Store) -> None:
    supervisor, pids = Supervisor(), list[object]()
    for number in range(3):
        own = step(f"import os; figures['pid'] = os.getppid()  # {number}")
        run = partial(supervisor.run, own, str(store.root), Limit(60))
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        pids.append(figures(store, own)["pid"])
    supervisor.close()
    assert len(set(pids)) == 1


def test_what_a_step_changes_of_its_process_does_not_reach_the_next_one(store: Store) -> None:
    """In the same worker."""
    code = "import os, resource, signal; figures['pid'] = os.getpid()\n"
    rude = step(
        code + "os.umask(0o077); os.chdir('/'); os.environ['RUDE'] = '1'\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))"
    )
    look = step(
        code + "os.umask(mask := os.umask(0)); files = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "ignored = signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN\n"
        "blocked = len(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "figures['state'] = [mask, files[0], ignored, blocked, 'RUDE' in os.environ, os.getcwd()]"
    )
    os.umask(mask := os.umask(0))
    for own in (rude, look):
        assert supervised(own, store.root).status == "done"
    assert figures(store, rude)["pid"] == figures(store, look)["pid"]
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert figures(store, look)["state"] == [mask, files, False, 0, False, os.getcwd()]


def test_a_killed_fork_server_is_no_lack_of_memory_and_leaves_no_process(store: Store) -> None:
    pids = store.root.parent / "pids"
    own = step(
        "import os, signal, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)",
        APART,
    )
    outcome = supervised(own, store.root)
    assert (outcome.status, outcome.kind) == ("transient", "crash")
    assert outcome.reason == "the fork server of its process was killed"
    wait_for(lambda: all(ended(int(pid)) for pid in pids.read_text().split()))


def test_a_process_that_is_killed_when_memory_ran_out_is_said_to_be(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryWatch, "ran_out", property(lambda _: True))
    outcome = supervised(step("import os; os.kill(os.getpid(), 9)", APART), store.root)
    assert (outcome.status, outcome.kind) == ("transient", "oom")
    assert outcome.reason == "its process was killed by signal 9 (Killed), and memory ran out"


def test_fork_servers_do_not_accumulate(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervise, "_MOST_SERVERS", 1)
    supervisor, servers = Supervisor(), []
    for number in range(2):
        monkeypatch.syspath_prepend(tmp_path / str(number))
        own = step(f"import os; figures['server'] = os.getppid()  # {number}")
        assert supervisor.run(own, str(store.root), Limit(60)).status == "done"
        servers.append(figures(store, own)["server"])
    assert isinstance(servers[0], int) and ended(servers[0])
    supervisor.close()
