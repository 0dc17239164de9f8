"""One holder at a time, among processes that die, sleep and race."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import wait_for

from farm.files import lease
from farm.files.lease import Lease, holder

HOLD = """
import sys, time
from pathlib import Path
from farm.files.lease import Lease
lease = Lease(Path(sys.argv[1]), float(sys.argv[2]))
assert lease.acquire(60)
print("held", flush=True)
sys.stdin.readline()
print("lost" if lease.lost else "kept", flush=True)
lease.release()
"""

COUNT = """
import sys
from pathlib import Path
from farm.files.lease import Lease
folder = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with Lease(folder / "lease", float(sys.argv[3])) as lease:
        (folder / "inside").mkdir()  # fails where another is inside
        number = int((folder / "count").read_text())
        (folder / "count").write_text(str(number + 1))
        (folder / "inside").rmdir()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    began = []

    def run(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        began.append(process)
        return process

    yield run
    for process in began:
        process.kill()
        process.wait()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> str:
    """Let a holder end, and return whether it has kept its lease."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return line(process)


def age(path: Path, seconds: float) -> None:
    """Make the file look as if it had not been touched for so long."""
    past = path.stat().st_mtime - seconds
    os.utime(path, (past, past))


def test_a_lease_is_of_one_holder_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.lease"
    first, second = Lease(path), Lease(path)
    assert first.acquire() and not second.acquire() and not second.acquire(0.05)
    found = holder(path)
    assert found is not None and found.pid == os.getpid() and found.host
    assert not first.lost and not second.lost
    second.release()  # which it does not hold
    assert path.exists()
    first.release()
    assert second.acquire() and not first.acquire()
    second.release()
    assert holder(path) is None and list(path.parent.iterdir()) == []


def test_a_free_lease_costs_one_file_created_and_removed(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.lease", list[str]()
    with Lease(path):
        pass  # the thread has begun
    paths = {str(path), str(tmp_path)}
    on = [True]
    sys.addaudithook(
        lambda event, args: seen.append(event) if on[0] and args and str(args[0]) in paths else None
    )
    with Lease(path):
        pass
    on[0] = False
    assert seen == ["open", "os.remove"]


def test_a_block_waits_for_the_lease_and_gives_it_back_after_an_error(tmp_path: Path) -> None:
    first = Lease(tmp_path / "a")
    assert first.acquire()
    threading.Timer(0.1, first.release).start()
    with pytest.raises(ValueError, match="stop"), Lease(tmp_path / "a") as second:
        assert not second.lost and not first.acquire()
        raise ValueError("stop")
    assert not (tmp_path / "a").exists()


def test_two_processes_that_race_are_never_inside_together(tmp_path: Path, start: Start) -> None:
    (tmp_path / "count").write_text("0")
    processes = [start(COUNT, tmp_path, 100, 60) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert (tmp_path / "count").read_text() == "200"
    assert not (tmp_path / "lease").exists()


def test_a_holder_that_was_killed_is_replaced_by_one_of_those_who_wait(
    tmp_path: Path, start: Start
) -> None:
    dead = start(HOLD, tmp_path / "a", 0.5)
    assert line(dead) == "held"
    dead.kill()
    dead.wait()
    waiting = [start(HOLD, tmp_path / "a", 0.5) for _ in range(2)]
    own = Lease(tmp_path / "a", 0.5)
    for process in waiting:
        assert process.stdin is not None
        process.stdin.close()  # so that it gives its lease back at once
    assert own.acquire(60) and not own.lost
    own.release()
    for process in waiting:
        assert (line(process), line(process)) == ("held", "kept")
        process.wait()  # it gives the lease back after its last line
    assert list(tmp_path.iterdir()) == []


def test_a_live_holder_keeps_its_lease_far_beyond_its_time(tmp_path: Path, start: Start) -> None:
    process = start(HOLD, tmp_path / "a", 2)
    assert line(process) == "held"
    assert not Lease(tmp_path / "a", 2).acquire(5)
    assert go_on(process) == "kept"


def test_a_holder_that_was_suspended_finds_its_lease_lost(tmp_path: Path, start: Start) -> None:
    process = start(HOLD, tmp_path / "a", 0.5)
    assert line(process) == "held"
    process.send_signal(signal.SIGSTOP)
    own = Lease(tmp_path / "a", 0.5)
    assert own.acquire(60)
    process.send_signal(signal.SIGCONT)
    assert go_on(process) == "lost"
    process.wait()
    assert not own.lost and (tmp_path / "a").exists()  # the one who lost it removes nothing
    own.release()
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_dead_holders_are_replaced_by_one_process_at_a_time(
    tmp_path: Path, start: Start
) -> None:
    """Each of the counting processes finds the lease of a dead holder again and again."""
    (tmp_path / "count").write_text("0")
    dead = json.dumps({"host": "h", "pid": 1, "token": "0" * 16})
    processes = [start(COUNT, tmp_path, 20, 30) for _ in range(3)]
    until = time.monotonic() + 120
    while any(process.poll() is None for process in processes):
        assert time.monotonic() < until
        time.sleep(0.01)
        if not (tmp_path / "lease").exists():
            part = tmp_path / "dead"
            part.write_text(dead)
            age(part, 100)
            with contextlib.suppress(FileExistsError):
                os.link(part, tmp_path / "lease")
            part.unlink()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "60"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "h", "pid": 1, "token": "../x"}'])
def test_a_torn_file_expires_like_any_other(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a"
    path.write_text(content)
    own = Lease(path, 30)
    assert not own.acquire()
    age(path, 29)
    assert not own.acquire()
    age(path, 2)
    assert own.acquire() and not own.lost
    own.release()
    assert list(tmp_path.iterdir()) == []


def test_a_file_from_the_future_expires_when_nobody_touches_it(tmp_path: Path) -> None:
    """Its host's clock is wrong, or the file system's was."""
    path = tmp_path / "a"
    path.write_text("{}")
    age(path, -1000)
    own = Lease(path, 0.4)
    assert not own.acquire(0.2)
    assert own.acquire(60)
    own.release()


def test_who_dies_while_replacing_a_dead_holder_is_replaced_too(tmp_path: Path) -> None:
    path, claim = tmp_path / "a", tmp_path / f".a.{'0' * 16}"
    for one, token in ((path, "0" * 16), (claim, "1" * 16)):
        one.write_text(json.dumps({"host": "h", "pid": 1, "token": token}))
        age(one, 100)
    os.utime(claim)
    own = Lease(path, 60)
    assert not own.acquire()  # that one may be alive
    age(claim, 100)
    assert own.acquire()
    own.release()
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_comes_back_while_it_is_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    first, second = Lease(path, 60), Lease(path, 60)
    assert first.acquire()
    age(path, 100)
    created = Lease._created

    def slow(one: Lease) -> bool:
        done = created(one)
        if done and one.path != path:
            os.utime(path)  # as the first one's thread does when it runs again
        return done

    monkeypatch.setattr(Lease, "_created", slow)
    assert not second.acquire() and not first.lost
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_who_is_suspended_while_it_creates_the_file_may_have_lost_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, dumps = tmp_path / "a", json.dumps

    def slow(value: object) -> str:
        time.sleep(0.2)
        path.unlink()  # as one does who takes it over
        return dumps(value)

    monkeypatch.setattr(json, "dumps", slow)
    assert not Lease(path, 0.1).acquire()


def test_a_lease_whose_file_is_gone_is_lost(tmp_path: Path) -> None:
    own = Lease(tmp_path / "a", 60)
    assert own.acquire()
    (tmp_path / "a").unlink()
    assert own.lost and own.lost
    other = Lease(tmp_path / "a")
    assert other.acquire()
    own.release()
    assert not other.lost


def test_the_thread_notices_a_loss_by_itself_and_touches_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    own = Lease(path, 0.5)
    assert own.acquire()
    path.write_text(json.dumps({"host": "h", "pid": 1, "token": "0" * 16}))
    age(path, 100)
    before = path.stat().st_mtime_ns
    wait_for(lambda: own._lost)
    assert path.stat().st_mtime_ns == before
    own.release()
    assert path.exists()


def test_one_thread_serves_all_leases_also_the_short_ones(tmp_path: Path) -> None:
    long, short = Lease(tmp_path / "long", 1000), Lease(tmp_path / "short", 1.5)
    assert long.acquire()
    time.sleep(0.5)  # the thread sleeps for minutes now
    assert short.acquire()
    time.sleep(3)  # longer than the short one lasts, if nobody renews it
    assert not Lease(tmp_path / "short", 1.5).acquire() and not short.lost
    assert sum(thread.name == "leases" for thread in threading.enumerate()) == 1
    long.release()
    short.release()


def test_a_forked_child_holds_none_of_its_parents_leases(tmp_path: Path) -> None:
    own = Lease(tmp_path / "a", 60)
    assert own.acquire()
    child = os.fork()
    if child == 0:
        own.release()
        with Lease(tmp_path / "b", 60):
            thread = lease._HEART._thread
            os._exit(thread is None or not thread.is_alive())
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "a").exists() and not own.lost
    own.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into any folder")
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError):
            Lease(tmp_path / "a").acquire()
    finally:
        tmp_path.chmod(0o755)


def test_a_file_in_the_folders_place_and_a_folder_in_the_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError):
        Lease(tmp_path / "file" / "a").acquire()
    with pytest.raises(IsADirectoryError):
        Lease(tmp_path / "folder").acquire()
    with pytest.raises(FileNotFoundError):
        Lease(Path("/proc/a")).acquire()  # where nobody can write


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_lease_expires_after_a_positive_time(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(ValueError, match="a positive number of seconds"):
        Lease(tmp_path / "a", seconds)
