"""Write a bundle: all files into a folder beside the one that is asked for, then one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import onnx

from farm.bundle import detector, onnx_file, texts
from farm.bundle import triton as triton_repository
from farm.bundle.manifest import manifest, onnx_metadata
from farm.bundle.sample import Sample, expected
from farm.errors import InputError
from farm.files import expanded

if TYPE_CHECKING:
    from farm.bundle.cells import FinishedCell


def empty_folder(name: str) -> Path:
    """Return the path of a folder to write, which is not there yet or is empty.

    Raises:
        InputError: it is a file or has files in it, or cannot be made.
    """
    path = expanded(name, Path.cwd()).resolve()
    there = next(one for one in (path, *path.parents) if one.exists())
    if not there.is_dir():
        raise InputError(f"{there} is a file; give a new or an empty folder", name)
    if not os.access(there, os.W_OK):
        raise InputError(f"{there}: no right to write there", name)
    if there == path and any(path.iterdir()):
        raise InputError("it is not empty; give a new or an empty folder", name)
    if there == path and (path.is_mount() or not os.access(path.parent, os.W_OK)):
        raise InputError("it cannot be replaced by the bundle; give a new folder in it", name)
    return path


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a folder to write into; it becomes `path` when the block ends, and is removed when the
    block raises. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex[:8]}.part")
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(path)  # which takes the place of an empty folder
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write(cell: FinishedCell, folder: Path, sample: Sample, triton: bool = False) -> None:
    """Write all files of a bundle.

    Raises:
        InputError, StepFailed: as `sample.expected`.
        OSError: a file cannot be written.
    """
    engine = _copy_engine(cell, folder)
    model = onnx_file.as_read(cell.onnx, cell.runtime, cell.options.precision)
    content = manifest(cell, model, engine)
    onnx_file.name_axes(model)
    onnx_file.set_metadata(model, onnx_metadata(content))
    onnx.save(model, str(folder / content["onnx"]["file"]))
    shutil.copyfile(detector.__file__, folder / "detector.py")
    (folder / "requirements.txt").write_text(texts.requirements(content))
    _seal(folder, content)  # so that the detector opens it
    content["sample"] = expected(cell, folder, content, sample)
    others = _openvino_ir(cell, folder, content)
    if triton:
        triton_repository.write(folder, content, model, cell.options.shape)
        others[f"{triton_repository.FOLDER}/"] = "a model repository of Triton Inference Server"
    (folder / "README.md").write_text(texts.readme(content, others))
    _seal(folder, content)


def _openvino_ir(cell: FinishedCell, folder: Path, content: dict[str, Any]) -> dict[str, str]:
    """Write OpenVINO's IR of an OpenVINO cell; return what to say of it in README.md."""
    if cell.runtime != "openvino":
        return {}
    from farm.bundle import model_api

    if reason := model_api.why_not(cell):
        content["openvino_ir"] = {"file": None, "why_not": reason}
        return {}
    model_api.write(cell, folder / content["onnx"]["file"], folder / model_api.FILE)
    content["openvino_ir"] = {"file": model_api.FILE, "why_not": None}
    return {
        model_api.FILE: "OpenVINO's IR with preprocessing, which OpenVINO Model API opens:"
        f' `Model.create_model("{model_api.FILE}")`'
    }


def _copy_engine(cell: FinishedCell, folder: Path) -> str:
    """Copy the engine's files; return the name of the one that its runtime opens."""
    shutil.copytree(cell.engine, folder / "engine")
    name = "engine.plan" if cell.runtime == "tensorrt" else "model.*"
    (file,) = sorted((folder / "engine").glob(name))
    return file.relative_to(folder).as_posix()


def _seal(folder: Path, content: dict[str, Any]) -> None:
    """Write `bundle.json` with the digests of all other files and its own."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    names.pop("bundle.json", None)
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in names.items()}
    content.pop("sha256", None)
    content["files"] = digests
    plain = json.loads(json.dumps(content))
    content["sha256"] = detector.bundle_digest(plain)
    (folder / "bundle.json").write_text(json.dumps(content, indent=1) + "\n")
    del content["sha256"]
