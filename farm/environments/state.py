"""What this process knows of environments: their locks, and the versions of their packages."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farm.environments.locking import WORKER, locked, package_of
from farm.environments.making import command, interpreter, root, variables
from farm.environments.uv import python_of
from farm.errors import EnvironmentFailed
from farm.files import atomic, jsonfile

if TYPE_CHECKING:
    from farm.specs import Environment

Versions = tuple[tuple[str, str], ...]
"""Of packages, by name."""

_ABSENT = "absent"
_ASK_S = 300.0
_LONGEST = 300

# It imports nothing but Python's own modules.
_ASK = """
import json
from farm.plan.content.packages import toolchain
print(json.dumps(dict(toolchain(json.loads(sys.stdin.read())))))
"""


@dataclass(frozen=True)
class Known:
    """What is known of an environment. versions: of its packages, by name. failed: why it cannot
    be had; empty where it can."""

    environment: Environment
    versions: Mapping[str, str] = field(default_factory=dict)
    failed: str = ""


_KNOWN: dict[str, Known] = {}
"""By the digest of what is asked for: an environment is made once in a process, or fails once."""


def toolchain(known: Known | None, name: str, packages: Iterable[str]) -> Versions:
    """Return the version of each package in an environment, for the key of a step.

    known: None for an environment that is not made yet, whose keys are provisional; name: what it
    is called. A container image stands for the versions of what is in it.
    """
    names = sorted(set(packages))
    if known is None or known.failed:
        return tuple((one, f"unknown until {name} is made") for one in names)
    if known.environment.image:
        return tuple((one, f"of image {known.environment.image}") for one in names)
    return tuple((one, known.versions.get(one, _ABSENT)) for one in names)


def known(wanted: Environment, packages: Iterable[str]) -> Known | None:
    """Return what is known of an environment without making it; None where that is too little.

    packages: whose versions are needed. A ready interpreter is asked for them.
    """
    if found := _KNOWN.get(wanted.digest):
        return found
    if wanted.interpreter or wanted.image:
        return make(wanted, packages)
    resolved = locked(wanted, resolve=False)
    if resolved is None or not python_of(root() / resolved.digest).exists():
        return None
    versions = _remembered(resolved)
    return Known(resolved, versions) if versions.keys() >= {*packages} else None


def make(wanted: Environment, packages: Iterable[str]) -> Known:
    """Resolve and make an environment, and ask it for the versions of packages.

    What fails is tried once in a process; the reason is in `Known.failed`.
    """
    if (found := _KNOWN.get(wanted.digest)) is None:
        found = _KNOWN[wanted.digest] = _made(wanted, {*packages})
    return found


def _made(wanted: Environment, packages: set[str]) -> Known:
    try:
        if wanted.image:
            return Known(wanted)
        if wanted.interpreter:
            needed = packages | {package_of(one) for one in WORKER}
            return Known(wanted, _require(_ask(wanted, needed)))
        resolved = locked(wanted)
        assert resolved is not None
        interpreter(resolved)
        versions = _remembered(resolved)
        if not versions.keys() >= packages:
            versions = {**versions, **_require(_ask(resolved, packages))}
            _remember(resolved, versions)
        return Known(resolved, versions)
    except EnvironmentFailed as error:
        text, name = str(error), f"environment {wanted.name}"
        return Known(wanted, failed=text if text.startswith(name) else f"{name}: {text}")


def _ask(environment: Environment, packages: Iterable[str]) -> dict[str, str]:
    """Ask the environment's Python for the exact versions of packages; 'absent' for none."""
    words = command(environment, _ASK)
    try:
        done = subprocess.run(
            words, input=json.dumps(sorted(packages)), capture_output=True, text=True,
            errors="replace", timeout=_ASK_S, env=variables(os.environ), check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return {str(name): str(version) for name, version in json.loads(done.stdout).items()}
        why = done.stderr.strip().rpartition("\n")[2][:_LONGEST] or f"exit code {done.returncode}"
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"[:_LONGEST]
    hint = " (it needs Python 3.10 or later)" if environment.interpreter else ""
    raise EnvironmentFailed(f"{words[0]} does not run the farm's code: {why}{hint}")


def _require(versions: Mapping[str, str]) -> Mapping[str, str]:
    """Return the versions, if all packages are there.

    Raises:
        EnvironmentFailed: names those that are not.
    """
    if lacking := sorted(name for name, version in versions.items() if version == _ABSENT):
        raise EnvironmentFailed(f"it lacks {', '.join(lacking)}, which its steps need")
    return versions


def _remembered(environment: Environment) -> dict[str, str]:
    try:
        found = jsonfile.read(root() / environment.digest / "versions.json")
        return {str(name): str(version) for name, version in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _remember(environment: Environment, versions: Mapping[str, str]) -> None:
    path = root() / environment.digest / "versions.json"
    try:
        atomic.write(path, json.dumps(versions, indent=1, sort_keys=True), durable=False)
    except OSError:
        return  # it is asked again
