"""However a model's code ends its process, that is its own step's end, with the reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ends
import pytest
from conftest import PROJECT, full_disk
from own_stage import supervised

from farm.engine.claims import remove_stale_work
from farm.engine.scheduler import Outcome
from farm.engine.workers.limits import Limit
from farm.engine.workers.perform import perform
from farm.errors import InputError, StepFailed
from farm.failures import out_of_memory, text_of
from farm.store import Store

pytestmark = pytest.mark.slow  # some thirty processes

FAILED = {
    "import sys; sys.exit(0)": "its code raised SystemExit: 0",
    "import sys; sys.exit('bye')": "its code raised SystemExit: bye",
    "exit()": "its code raised SystemExit: None",
    "raise KeyboardInterrupt": "its code raised KeyboardInterrupt",
    "raise GeneratorExit": "its code raised GeneratorExit",
    "class Own(BaseException): pass\nraise Own('x')": "its code raised Own: x",
    "import os; os._exit(0)": "its code ended the process with exit code 0",
    "import os; print('why', flush=True); os._exit(3)":
        "its code ended the process with exit code 3; its log ends with: why",
    "import os; os.abort()": "its code ended by signal 6 (Aborted)",
    "import ctypes; ctypes.string_at(0)": "its code ended by signal 11 (Segmentation fault)",
    "import signal, time; signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(60)":
        "its code ended by signal 14 (Alarm clock)",
    "import os; os.close(1); os.close(2); raise ValueError('x')": "ValueError: x",
    "import os; os.closerange(0, 99); raise ValueError('x')": "ValueError: x",
    "import sys; sys.stdout.close(); sys.stderr = None; raise ValueError('x')": "ValueError: x",
    "import os; os.chdir('/'); print(1); raise ValueError('x')": "ValueError: x",
    "input()": "EOFError: EOF when reading a line",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()\n1 / 0":
        "ZeroDivisionError: division by zero",
    "import atexit, time; atexit.register(time.sleep, 999); 1 / 0":
        "ZeroDivisionError: division by zero",
    "raise ValueError('\\ud800 \\x1b[2J')": "ValueError: \\ud800 \\x1b[2J",
    "class Mute(Exception):\n def __str__(self): 1 / 0\nraise Mute":
        "Mute: (its text cannot be read: ZeroDivisionError)",
    "class Mute(Exception):\n def __str__(self): raise KeyboardInterrupt\nraise Mute":
        "Mute: (its text cannot be read: KeyboardInterrupt)",
    "class Meta(type):\n __name__ = property(lambda c: 1 / 0)\n"
    "class Odd(Exception, metaclass=Meta): ...\nraise Odd('x')": "Odd: x",
    "raise ValueError('x' * 20_000_000)": f"ValueError: {'x' * 300}",
    "def f(): f()\nf()": "RecursionError: maximum recursion depth exceeded",
    "from farm.errors import StepFailed; raise StepFailed('=x')": "=x",
}  # fmt: skip
PASSING = {
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)":
        "its process was killed by signal 9 (Killed)",
    "raise MemoryError": "out of memory (MemoryError)",
    "try: raise MemoryError('4 GB')\nexcept MemoryError as e: raise ValueError('x') from e":
        "ValueError: x",
}  # fmt: skip

MORE = "`limits: {check: TIME}` in the matrix allows more"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """All of them in one store."""
    root = str(tmp_path_factory.mktemp("ends") / "store")
    codes = [*FAILED, *PASSING]
    ended = [supervised(ends.step(code), root) for code in codes]
    assert not list((Path(root) / "tmp").iterdir())
    for code in codes:
        failure = Store(root).failure(ends.step(code).key)
        assert (failure is not None) == (code in FAILED)
    return dict(zip(codes, ended, strict=True))


@pytest.mark.parametrize("code", FAILED)
def test_code_that_ends_its_process_fails_its_own_step(
    code: str, outcomes: dict[str, Outcome]
) -> None:
    assert (outcomes[code].status, outcomes[code].reason) == ("failed", FAILED[code])


@pytest.mark.parametrize("code", PASSING)
def test_too_little_memory_is_of_the_moment(code: str, outcomes: dict[str, Outcome]) -> None:
    assert (outcomes[code].status, outcomes[code].reason) == ("transient", PASSING[code])


HANGS = {
    "python": "while True: pass",
    "C, with the interpreter's lock": "import ctypes; ctypes.PyDLL(None).sleep(999)",
    "deaf": "import signal, time\nfor n in range(1, 9):\n"
    " if n != 9: signal.signal(n, signal.SIG_IGN)\nwhile True: time.sleep(9)",
}


@pytest.mark.parametrize("how", HANGS)
def test_code_that_never_ends_is_ended_and_the_log_says_where(tmp_path: Path, how: str) -> None:
    outcome = supervised(ends.step(HANGS[how]), tmp_path, Limit(2.5))
    assert outcome.status == "failed"
    assert outcome.reason == f"it did not finish within 2.5s; {MORE}"
    assert 2.4 < outcome.seconds < 10
    log = Store(tmp_path).log_path(ends.step(HANGS[how]).ref).read_text()
    assert re.search(r'File "<string>", line \d+ in <module>\n.*ends.py", line \d+ in model', log)


def gone(pid: int) -> bool:
    """Ended, or waiting for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def soon(what: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("own_session", [False, True])
def test_processes_that_the_code_began_end_with_it(tmp_path: Path, own_session: bool) -> None:
    code = f"""
import subprocess
child = subprocess.Popen(["sleep", "999"], start_new_session={own_session})
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
raise ValueError
"""
    assert supervised(ends.step(code), tmp_path / "store").status == "failed"
    assert soon(lambda: gone(int((tmp_path / "pid").read_text())))


def test_temporary_files_of_code_that_is_cut_off_are_removed(tmp_path: Path) -> None:
    code = f"""
import os, tempfile
open({str(tmp_path / "name")!r}, "w").write(tempfile.mkdtemp())
os._exit(1)
"""
    supervised(ends.step(code), tmp_path / "store")
    assert not Path((tmp_path / "name").read_text()).exists()


def test_a_child_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    hang = f"import ctypes, os; open({str(pid)!r}, 'w').write(str(os.getpid()))\n{{}}"
    code = hang.format("ctypes.PyDLL(None).sleep(999)")
    call = f"supervised(ends.step({code!r}), {str(tmp_path)!r})"
    text = f"import ends; from own_stage import supervised; {call}"
    path = f"{PROJECT}:{PROJECT / 'tests' / 'engine'}"
    parent = subprocess.Popen([sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": path})
    assert soon(lambda: pid.exists() and pid.read_text() != "")
    parent.kill()
    parent.wait()
    assert soon(lambda: gone(int(pid.read_text())))
    assert remove_stale_work(Store(tmp_path)) > 0  # by the next run


def test_a_step_in_this_process_leaves_it_as_it_was(tmp_path: Path) -> None:
    """Folder, streams and stdin are the same afterwards, and what it raised is its own reason."""
    before = Path.cwd(), sys.stdin, sys.stdout, sys.stderr
    code = """
import os, sys
print("said"); os.chdir("/"); sys.stdout.close(); sys.stderr = None; os.closerange(0, 3)
raise KeyboardInterrupt
"""
    outcome = perform(ends.step(code, own_process=False), str(tmp_path))
    assert (outcome.status, outcome.reason) == ("failed", "its code raised KeyboardInterrupt")
    assert before == (Path.cwd(), sys.stdin, sys.stdout, sys.stderr)
    assert [os.fstat(number) for number in range(3)] and not sys.stdout.closed
    log = Store(tmp_path).log_path(ends.step(code).ref).read_text()
    assert log.startswith("said\nTraceback") and log.endswith("KeyboardInterrupt\n")


def test_what_ends_with_the_code_is_said_in_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the temporary file of a config that mmcv was reading."""
    code = """
class Loud:
    def __del__(self): __import__("os").write(1, b"loud")
def f():
    it = Loud()
    raise SystemExit
f()
"""
    perform(ends.step(code, own_process=False), str(tmp_path))
    assert capfd.readouterr() == ("", "")
    assert "loud" in Store(tmp_path).log_path(ends.step(code).ref).read_text()


def test_a_failure_for_which_the_disk_has_no_room_is_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "record_failure", full_disk)
    outcome = perform(ends.step("1 / 0", own_process=False), str(tmp_path))
    assert outcome.status == "transient" and "disk is full" in outcome.reason


CTRL_C = """
import signal, sys
import ends
from farm import interrupts
from farm.engine.workers.perform import perform

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
root, code = sys.argv[1:]
try:
    perform(ends.step(code, own_process=False), root)
except (interrupts.Interrupted, ZeroDivisionError):
    try:
        interrupts.check()
    except interrupts.Interrupted:
        print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.parametrize("wrap", ["", "try: {}\nexcept BaseException: 1 / 0", "import time; {}"])
def test_ctrl_c_is_not_taken_for_the_codes_own(tmp_path: Path, wrap: str) -> None:
    """Not even where the code catches it: nothing is recorded."""
    kill = "__import__('os').kill(__import__('os').getpid(), 2); __import__('time').sleep(9)"
    code = (wrap or "{}").format(kill)
    path = f"{PROJECT}:{PROJECT / 'tests' / 'engine'}"
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C, tmp_path, code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "interrupted True\n"), done.stderr
    assert Store(tmp_path).failure(ends.step(code).key) is None


@pytest.mark.parametrize(
    "text",
    [
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested"
        " buffer of size 99",
        "bad allocation",
        "std::bad_alloc",
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory:"
        " you tried to allocate 64424509440 bytes. Error code 12 (Cannot allocate memory)",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
        "Unable to allocate 60.0 GiB for an array with shape (1,)",
        "OpenCV(4.8.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes",
        "cudaErrorMemoryAllocation: the API call failed",
        "1: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory)",
        "Requested amount of GPU memory (99 bytes) could not be allocated.",
        "[MemUsage] cudaMalloc of 99 bytes failed",
    ],
)
def test_libraries_say_in_many_ways_that_memory_ran_out(text: str) -> None:
    assert out_of_memory(RuntimeError(text))
    wrapped = StepFailed("it cannot be run")
    wrapped.__cause__ = RuntimeError(text)
    assert out_of_memory(wrapped)


def test_other_errors_are_not_of_memory() -> None:
    assert not out_of_memory(InputError("cannot be read", "x.py"))
    assert not out_of_memory(RecursionError("maximum recursion depth exceeded"))
    error = ValueError("x")
    error.__context__ = error  # a chain that goes round
    assert not out_of_memory(error)


def test_texts_of_errors_are_printable() -> None:
    assert text_of(ValueError("a\x1b[31m\n\u202e\ud800é")) == "a\\x1b[31m\n\\u202e\\ud800é"
