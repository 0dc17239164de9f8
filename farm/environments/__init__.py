"""Environments: Pythons with packages of their own, for runtimes that exclude each other.

The machine that plans a sweep resolves the requirements of an environment to a lock, once; every
node that runs a step of it makes it by that lock, once, in its user's cache. A step's process is
then started by `command`. What a step's key has of its environment are the versions of packages,
which `make` asks its Python for.
"""

from __future__ import annotations

from farm.environments.making import command, interpreter, variables
from farm.environments.state import Known, known, make, toolchain
from farm.errors import EnvironmentFailed

__all__ = [
    "EnvironmentFailed",
    "Known",
    "command",
    "interpreter",
    "known",
    "make",
    "toolchain",
    "variables",
]
