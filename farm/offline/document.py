"""Read and check the JSON documents of packs and of records."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from farm import jsonfile
from farm.errors import InputError, nearest
from farm.plan import STAGES
from farm.specs import Ref


def read_json(path: Path, kind: str, versions: Collection[int]) -> Mapping[str, Any]:
    """Return the JSON mapping of a file that states its version.

    Raises:
        InputError: the file cannot be read, or its version is none of these.
    """
    try:
        found = jsonfile.read(path)
    except OSError as error:
        reason = f"no {kind} here: cannot read {path.name} ({error.strerror})"
        raise InputError(reason, str(path.parent)) from None
    except ValueError as error:
        raise InputError(f"damaged, or not a {kind}: not valid JSON ({error})", str(path)) from None
    return require_version(found, kind, versions, str(path))


def require_version(
    found: Any, kind: str, versions: Collection[int], where: str
) -> Mapping[str, Any]:
    """Return the mapping if it states one of these versions. Raises InputError otherwise."""
    version = found.get("version") if isinstance(found, dict) else None
    if version not in versions or isinstance(version, bool):
        known = " and ".join(map(str, versions))
        raise InputError(f"a {kind} of version {version!r}; this farm reads version {known}", where)
    return dict(found)


def require_ref(ref: Ref, where: str, stages: Collection[str] = STAGES) -> None:
    """Check a stage and a key, which become a path. Raises InputError."""
    if ref.stage not in stages:
        raise InputError(f"unknown stage {ref.stage!r}{nearest(ref.stage, stages)}", where)
    require_key(ref.key, ref.stage, where)


def require_key(key: str, what: str, where: str) -> None:
    """Check that a key has 64 hex digits. Raises InputError."""
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise InputError(f"{what}: {key!r} is not a key; expected 64 hex digits", where)
