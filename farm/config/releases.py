"""What follows the @ of a cell's runtime: a release of its package, or an environment by name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from farm.catalog import runtime_of
from farm.errors import nearest, shown

_VERSION = re.compile(r"\d+(\.\d+)*([A-Za-z.+][A-Za-z0-9.+]*)?")
_PARTIAL = re.compile(r"\d+(\.\d+)?")


def unknown(runtime: str, environments: Iterable[str]) -> str | None:
    """Return what is wrong with the part after the @; None where it is right, or there is none.

    The name of an environment comes first; what is none must look like a version.
    """
    name, at, rest = runtime.partition("@")
    known = list(environments)
    if not at or rest in known:
        return None
    if not _VERSION.fullmatch(rest):
        hint = nearest(rest, known) or "; the matrix has no `environments`"
        return f"{shown(runtime)}: {rest} is no version, and no environment of that name{hint}"
    if not runtime_of(name).packages:
        return f"{shown(runtime)}: {name} is no package, and has no releases"
    return None


def requirements(runtime: str) -> tuple[str, ...]:
    """Return what pip takes for a runtime of a release: its package, and what that needs.

    One or two numbers (`2025.2`) are its newest release that begins so; any other version
    (`1.20.1`, `2026.0.0rc1`) is exactly that one.
    """
    name, _, release = runtime.partition("@")
    wanted = f"=={release}{'.*' if _PARTIAL.fullmatch(release) else ''}"
    return (f"{runtime_of(name).packages[0]}{wanted}", *needs(name, wanted))


def needs(runtime: str, release: str = "") -> tuple[str, ...]:
    """Return what an environment has beside the packages of a runtime. release: `==1.6.*`."""
    return tuple(one.replace("{release}", release) for one in runtime_of(runtime).needs)
