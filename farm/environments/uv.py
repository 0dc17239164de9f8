"""Run uv, which makes Pythons and installs packages, and say in one line what it could not do."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from farm.errors import EnvironmentFailed

_MINUTES = 30
"""How long one call may take: some runtimes download gigabytes."""

_FLAGS = ("--no-progress", "--color", "never")

_LONGEST = 400

_FROM_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_CERT": "SSL_CERT_FILE",
}
"""Settings of pip that uv reads under a name of its own."""

_OF_THIS_PYTHON = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")

# Lines that add nothing to the reason, and the marks that older and newer releases set before it.
_NOISE = re.compile("(warning|hint|help|Using |Creating |Activate |Resolved |error: No solution)")
_MARKS = re.compile("([\u00d7\u2500-\u25ff\\s]|error:|cause:|Caused by:)+")


def run(*words: str, stdin: str = "") -> str:
    """Run uv with these arguments and return what it printed.

    Raises:
        EnvironmentFailed: it could not do that, took too long, or is not installed.
    """
    command = [_binary(), *words, *_FLAGS]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, errors="replace", check=False,
            timeout=_MINUTES * 60, env=_variables(os.environ),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(f"uv did not finish within {_MINUTES} minutes") from None
    except OSError as error:
        raise EnvironmentFailed(f"uv cannot be run: {error.strerror}") from None
    if done.returncode:
        raise EnvironmentFailed(reason(done.stderr) or f"uv ended with {done.returncode}")
    return done.stdout


def _binary() -> str:
    try:
        import uv
    except ImportError:
        raise EnvironmentFailed("the package uv is not installed; `pip install uv`") from None
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise EnvironmentFailed(f"the package uv has no program: {error}") from None


def _variables(env: Mapping[str, str]) -> dict[str, str]:
    """Return these variables with pip's settings for uv, and without the Python of this process."""
    found = {name: value for name, value in env.items() if name not in _OF_THIS_PYTHON}
    for pips, uvs in _FROM_PIP.items():
        if env.get(pips) and not env.get(uvs):
            found[uvs] = env[pips]
    return found


def reason(text: str) -> str:
    """Return why uv failed, by what it printed, in one line."""
    lines = [line.strip() for line in text.splitlines()]
    useful = [_without_marks(line) for line in lines if not _NOISE.match(line)]
    useful = [line for line in useful if line and not line.startswith("No solution found")]
    outputs = [place for place, line in enumerate(useful) if line in ("[stdout]", "[stderr]")]
    if outputs:  # of a package's own build
        printed = useful[outputs[0] :]
        errors = [line for line in printed if re.match(r"[\w.]+(Error|Exception): ", line)]
        useful = useful[: outputs[0]] + (errors or printed)[-1:]
    found = " ".join(useful).removesuffix(".")
    return found if len(found) <= _LONGEST else f"{found[:_LONGEST]}..."


def _without_marks(line: str) -> str:
    marks = _MARKS.match(line)
    return line[marks.end() :] if marks else line


def python_of(folder: Path) -> Path:
    """Return the Python of a virtual environment."""
    return folder / "bin" / "python"
