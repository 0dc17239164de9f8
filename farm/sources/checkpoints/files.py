"""Inspects a checkpoint's file without torch and without running code from it."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

_ZIP = b"PK\x03\x04"
_BEGINNINGS = {
    b"version https://git-lfs": "a pointer of Git LFS in place of the file; run `git lfs pull`",
    b"<!doctype": "a web page; the download went wrong",
    b"<html": "a web page; the download went wrong",
    b"\x89hdf\r\n": "an HDF5 file, as Keras writes",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"\xfd7zxz": "compressed by xz; unpack it",
}
_ITEM_BYTES = {"Double": 8, "Long": 8, "Int": 4, "Float": 4, "Half": 2, "BFloat16": 2, "Short": 2}
_ITEM_BYTES |= {"ComplexDouble": 16, "ComplexFloat": 8}


class Torn(Exception):
    """The file is truncated or damaged; the message names the damaged part."""


def other_format(path: str) -> str:
    """Return the file's format if it is no torch checkpoint; empty if it may be one."""
    with open(path, "rb") as file:
        head = file.read(64)
    start = head.lstrip().lower()
    for beginning, name in _BEGINNINGS.items():
        if start.startswith(beginning):
            return name
    size = Path(path).stat().st_size
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "a safetensors file; load it and save it by torch.save({'state_dict': ...})"
    if head.startswith(_ZIP) and zipfile.is_zipfile(path):
        return _other_zip(path, size)
    if not head.startswith(_ZIP) and tarfile.is_tarfile(path):
        return "a tar archive, as PyTorch wrote before 0.2; save it again by a torch of today"
    return ""


def _other_zip(path: str, size: int) -> str:
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    last = {part.filename.rpartition("/")[2] for part in parts}
    if "data.pkl" not in last:
        return "a zip file that torch did not write, as NumPy's .npz"
    if any(part.flag_bits & 1 for part in parts):
        return "an encrypted zip file; unpack it with its password and pack it without"
    if any(".." in part.filename.split("/") for part in parts):
        return "a zip file whose names climb out of it, which torch does not write"
    if sum(part.file_size for part in parts) > 10 * size + 10_000:
        return "a zip file that unpacks to over ten times its size, which torch does not write"
    if "constants.pkl" in last:
        return "a TorchScript archive; save the module's state dict by torch.save"
    return ""


def torn_part(path: str) -> str:
    """Return the damaged part of a zip file; empty if it is sound, or no zip file."""
    with open(path, "rb") as file:
        if file.read(4) != _ZIP:
            return ""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() or ""
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError):
        return "its end"


def names_in(path: str) -> frozenset[str]:
    """Return all classes and functions that the file's pickles name, as `package.module.Name`.

    Raises:
        Torn: a pickle is truncated or invalid, or a tensor has more values than the file.
    """
    try:
        with open(path, "rb") as file:
            return _of_zip(path) if file.read(4) == _ZIP else _of_pickles(file)
    except Torn:
        raise
    except Exception as error:  # bytes that are no pickle raise errors of any type
        raise Torn(f"its pickle ends in {type(error).__name__}") from error


def missing_packages(names: Iterable[str]) -> list[str]:
    """Return the packages of `names` that are not installed."""
    tops = sorted({name.partition(".")[0] for name in names} - {""})
    return [top for top in tops if top not in sys.modules and not importlib.util.find_spec(top)]


def _of_zip(path: str) -> frozenset[str]:
    with zipfile.ZipFile(path) as archive:
        sizes = {part.filename: part.file_size for part in archive.infolist()}
        name = next(name for name in sizes if name.rpartition("/")[2] == "data.pkl")
        with archive.open(name) as file:
            skeleton = _read(file)
    folder = name.removesuffix("data.pkl") + "data/"
    for key, size in skeleton.storages.items():
        if size > sizes.get(folder + key, 0):
            raise Torn(f"the values {key} are fewer than it says")
    return frozenset(skeleton.names)


def _of_pickles(file: IO[bytes]) -> frozenset[str]:
    """torch's format before 1.6: magic number, version, system information, objects, values."""
    file.seek(0)
    parts = [_read(file) for _ in range(5)]
    objects = parts[3]
    here, end = file.tell(), file.seek(0, 2)
    if sum(8 + size for size in objects.storages.values()) > end - here:  # a length before each
        raise Torn("there are fewer values than it says")
    return frozenset(objects.names)


def _read(file: IO[bytes]) -> _Skeleton:
    skeleton = _Skeleton(file)
    skeleton.load()
    return skeleton


class _Inert:
    """Replaces every object of a pickle: accepts any call or state, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def nothing(self, *_: Any, **__: Any) -> _Inert:
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = update = nothing


# The C implementation allocates as much memory as a number in the file states.
class _Skeleton(pickle._Unpickler):
    """Reads a pickle without importing its classes; collects their names and the tensors' sizes."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.names: set[str] = set()
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> type[_Inert]:
        self.names.add(f"{module}.{name}")
        return type(name, (_Inert,), {})

    def persistent_load(self, identity: Any) -> _Inert:
        _, kind, key, _, count, *_ = identity
        item = _ITEM_BYTES.get(kind.__name__.removesuffix("Storage"), 1)
        self.storages[str(key)] = max(self.storages.get(str(key), 0), item * int(count))
        return _Inert()
