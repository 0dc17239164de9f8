"""Hold the user's files against the digests that a step was planned with.

A checkpoint, config, annotation file or folder that changes between planning and reading would
leave a result of the new content under the key of the old one. So each file is compared before its
stage runs and again afterwards, whether that ended well or not. An unchanged file costs a stat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from farm import interrupts
from farm.errors import InputError, TransientFailure
from farm.plan.content import digests
from farm.plan.content.configs import config_file
from farm.plan.content.files import code_file, data_folder, image_folder
from farm.specs import File, Model, ModuleModel

_PLAIN = {str, int, float, bool, type(None)}


@contextmanager
def unchanged(inputs: Any, store: Path) -> Iterator[None]:
    """Require before and after a block that no file of a step's frozen inputs has changed.

    An error in the block that comes with a change is taken for its consequence.

    store: the store's folder, whose files have digests of their own.

    Raises:
        TransientFailure: a file has not the digest that the step was planned with; names it.
    """
    files = list(files_of(inputs))
    _require_unchanged(files, store)
    try:
        yield
    except BaseException as error:  # a model's code may raise anything
        if not interrupts.from_outside(error):
            _require_unchanged(files, store)
        raise
    _require_unchanged(files, store)


def require_unchanged(inputs: Any, store: Path) -> None:
    """Require every file of a step's frozen inputs to have the digest that is in them.

    Raises:
        TransientFailure: one has another, or is not there any more; names it.
    """
    _require_unchanged(files_of(inputs), store)


def _require_unchanged(files: Iterable[tuple[File, Any]], store: Path) -> None:
    for file, owner in files:
        if not file.digest or Path(file.path).is_relative_to(store):
            continue
        try:
            now = _digest(file, owner)
        except (OSError, InputError):
            now = None
        if now != file.digest:
            how = "changed" if now else "was removed or cannot be read"
            raise TransientFailure(f"{file.path} {how} while the sweep ran; run it again")


def files_of(value: Any, owner: Any = None) -> Iterator[tuple[File, Any]]:
    """Yield every file in frozen inputs, each with the dataclass that holds it."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return
    if isinstance(value, File):
        yield value, owner
    elif names := _fields(kind):
        for name in names:
            yield from files_of(getattr(value, name), value)
    elif isinstance(value, Mapping):
        yield from files_of(tuple(value.values()), owner)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from files_of(one, owner)


@cache
def _fields(kind: type) -> tuple[str, ...]:
    """The names of a dataclass's fields; of another type, none."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


def _digest(file: File, owner: Any) -> str:
    """The digest of the file today, made as planning made it.

    Raises OSError, or InputError where planning would.
    """
    path = Path(file.path)
    if isinstance(owner, Model) and file is owner.config:
        return config_file(file.path, path.parent).digest
    if isinstance(owner, ModuleModel) and file is owner.code:
        return code_file(owner.function.partition(":")[0], Path(owner.root)).digest
    if file.suffixes:
        return data_folder(file.path, path, file.suffixes).digest
    return image_folder(file.path, path).digest if path.is_dir() else digests.of_file(path)
