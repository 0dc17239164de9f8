"""Shells complete the words of `farm`: what the Tab key shows in each that is installed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Tool, skip_but_in_ci

from farm.cli import main as command_line
from farm.cli.completion import SHELLS

_MOVES = re.compile(r"\x1b\[[0-9;]*[A-HJ]|[\r\a]")
_CODES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])")
"""What moves the cursor to another place, between words, and all other codes of a terminal."""

_STARTS = {
    "bash": (
        "bash --noprofile --rcfile start -i",
        "bind 'set show-all-if-ambiguous on'; bind 'set page-completions off';"
        " bind 'set completion-query-items 0'; source farm.bash",
    ),
    "zsh": (
        "zsh -d -i",
        'LISTMAX=1000; autoload -Uz compinit; compinit -D -u; eval "$(<farm.zsh)"',
    ),
}
"""The command line of a shell, and what it runs at its start."""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_command_and_its_options(shell: str, tool: Tool) -> None:
    done = tool("completion", shell)
    assert done.code == 0 and done.err == ""
    for word in (*command_line.COMMANDS, "max-ap-drop", "executor", "verify", "discard"):
        assert word in done.out, word


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, str]]:
    """A pseudo terminal: the descriptor of the end where somebody sits, the path of the other."""
    own, other = os.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 160, 0, 0))
    os.set_blocking(own, False)
    try:
        yield own, os.ttyname(other)
    finally:
        os.close(own)
        os.close(other)


def shown(own: int, wanted: set[str]) -> set[str]:
    """The words that the terminal shows, once it shows those that are wanted, or in 30 seconds."""
    text, words, until = "", set[str](), time.monotonic() + 30
    while not wanted <= words and time.monotonic() < until:
        with contextlib.suppress(BlockingIOError):
            text += os.read(own, 65536).decode(errors="replace")
        words = set(_CODES.sub("", _MOVES.sub(" ", text)).split())
        time.sleep(0.02)
    return words


def typed(shell: str, line: str, wanted: set[str], folder: Path) -> set[str]:
    """The words that bash or zsh shows after a line and the Tab key. wanted: see `shown`."""
    command, start = _STARTS[shell]
    start = f"PS1='> '; {start}; echo ready\n"
    (folder / "start").write_text(start)
    (folder / ".zshrc").write_text(start)
    with terminal() as (own, other):
        # In a session of its own the first terminal that it opens is the one that controls it.
        run = subprocess.Popen(
            ["sh", "-c", f"exec {command} <{other} >{other} 2>&1"], start_new_session=True,
            cwd=folder, env={"PATH": os.environ["PATH"], "ZDOTDIR": str(folder), "TERM": "xterm"},
        )  # fmt: skip
        try:
            assert "ready" in shown(own, {"ready"})
            os.write(own, f"{line}\t".encode())
            return shown(own, wanted)
        finally:
            run.kill()
            run.wait()


def asked(line: str, folder: Path) -> set[str]:
    """The words that fish completes a line with, from a script in its own folder for those."""
    place = folder / "config/fish/completions"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "farm.fish", place)
    variables = {
        "XDG_CONFIG_HOME": str(folder / "config"),
        "HOME": str(folder / "home"),
        # Fish loads the completions of commands on its PATH only.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["fish", "-c", f"complete --do-complete {shlex.quote(line)}"],
        capture_output=True, text=True, check=True, cwd=folder, env={**os.environ, **variables},
    )  # fmt: skip
    return {one.split("\t")[0] for one in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("line", "words", "others"),
    [
        ("farm ", {"run", "best", "run-pack", "watch"}, {"verify", "own.yaml"}),
        ("farm bes", {"best"}, {"run"}),
        ("farm -v bes", {"best"}, {"run"}),
        ("farm best --objective ", {"latency", "throughput", "ap"}, {"run", "own.yaml"}),
        ("farm best --m", {"--max-ap-drop", "--min-ap", "--model"}, {"--objective"}),
        ("farm best --ob", {"--objective"}, {"--max-ap-drop"}),
        ("farm plan own", {"own.yaml"}, {"run"}),
        ("farm run own.yaml --retr", {"--retry-failed"}, {"--executor"}),
        ("farm leaderboard --results ", {"folder/"}, {"own.yaml"}),
        ("farm store ", {"verify"}, {"run"}),
        ("farm store verify --di", {"--discard"}, {"--results"}),
        ("farm completion ", {*SHELLS}, {"run"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key_completes_commands_options_choices_and_files(
    shell: str, line: str, words: set[str], others: set[str], tool: Tool, tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        skip_but_in_ci(f"{shell} is not installed on this machine")
    (tmp_path / f"farm.{shell}").write_text(tool("completion", shell).out)
    (tmp_path / "own.yaml").touch()
    (tmp_path / "folder").mkdir()
    if shell == "fish":
        found = asked(line, tmp_path)
    else:
        found = typed(shell, line, words, tmp_path) - set(line.split())
    assert words <= found, found
    assert not others & found


def test_what_is_said_beside_a_name_is_a_line(tool: Tool) -> None:
    for shell in ("zsh", "fish"):
        text = tool("completion", shell).out
        for line in text.splitlines():
            if "pick the engine to ship" in line or "Read every artifact" in line:
                assert len(line) < 200, line
        assert "pick the engine to ship" in text and "Read every artifact" in text
