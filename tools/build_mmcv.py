"""Build mmcv-full once per machine and keep the wheel.

mmcv-full has no wheel for current Python or torch, declares no build requirements, and spends
nine tenths of its compile time re-reading torch's headers. A precompiled header halves that.
Runs inside the virtual environment that already has torch, setuptools<81, wheel and ninja;
prints the path of the finished wheel as its last line.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections import deque
from pathlib import Path

VERSION = "1.7.2"
FLAGS = ["-O1", "-DNDEBUG", "-g0", "-w", "-fPIC", "-std=c++17"]
# What torch's BuildExtension passes: a precompiled header is only taken if they are the same.
TORCH_DEFINES = ["-DTORCH_API_INCLUDE_EXTENSION_H", "-DTORCH_EXTENSION_NAME=_ext"]


def wheel_folder(torch_version: str) -> Path:
    """The cache folder of this build: same Python, torch and flags, same folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = sysconfig.get_config_var("SOABI")
    recipe = "\n".join([VERSION, torch_version, str(python), *FLAGS, "recipe 1"])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    return cache / "farm" / "wheels" / f"mmcv-full-{VERSION}-{digest}"


def compiler() -> str:
    return os.environ.get("CXX") or "g++"


def precompile_header(folder: Path) -> Path:
    """Compile torch's extension header once; returns the header to force-include."""
    from torch.utils.cpp_extension import include_paths

    header = folder / "torch_extension_pch.h"
    header.write_text("#include <torch/extension.h>\n")
    includes = [f"-I{path}" for path in [*include_paths(), sysconfig.get_path("include")]]
    command = [compiler(), *FLAGS, *TORCH_DEFINES, *includes]
    subprocess.run([*command, "-x", "c++-header", str(header), "-o", f"{header}.gch"], check=True)
    return header


def download_source(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    pip += ["--no-build-isolation", "--no-binary", ":all:", f"mmcv-full=={VERSION}"]
    subprocess.run([*pip, "-d", str(folder)], check=True)
    archive = next(folder.glob("mmcv?full-*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else (
            tar.extractall(folder)
        )
    return next(path for path in folder.glob("mmcv?full-*") if path.is_dir())


def compile_wheel(source: Path, header: Path, output: Path) -> None:
    """Run the build, showing one progress line per compiled file; the log's end if it fails."""
    env = dict(os.environ)
    env["CFLAGS"] = " ".join(["-include", str(header), *FLAGS, "-Winvalid-pch"])
    env["CXX"] = compiler()
    env["MAX_JOBS"] = env.get("MAX_JOBS") or str(os.cpu_count() or 2)
    env["MMCV_WITH_OPS"] = "1"
    command = [sys.executable, "setup.py", "bdist_wheel", "-d", str(output)]
    started, tail = time.monotonic(), deque[str](maxlen=60)
    with subprocess.Popen(
        command, cwd=source, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line[:500])
            if step := re.match(r"\[(\d+)/(\d+)\]", line):
                show_progress(int(step[1]), int(step[2]), time.monotonic() - started)
    if process.returncode:
        sys.stderr.write("".join(tail))
        sys.exit("mmcv-full did not compile: the end of its log is above")


def show_progress(done: int, total: int, seconds: float) -> None:
    left = seconds / max(done, 1) * (total - done) / 60
    text = f"  mmcv-full: {done}/{total} files compiled, about {left:.1f} min left"
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}   " + ("\n" if done == total else ""))
    elif done % 10 == 0 or done == total:
        sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> None:
    import torch

    # mmcv 1.7's CUDA sources are older than this torch and want nvcc: build the CPU's operators.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.pop("FORCE_CUDA", None)
    keep = wheel_folder(torch.__version__)
    if not (found := sorted(keep.glob("*.whl"))):
        print("Building mmcv-full, once per machine (about 7 minutes on 2 cores)", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="farm-mmcv-") as name:
            folder = Path(name)
            source = download_source(folder)
            header = precompile_header(folder)
            compile_wheel(source, header, folder / "dist")
            keep.mkdir(parents=True, exist_ok=True)
            for wheel in (folder / "dist").glob("*.whl"):
                part = keep / f".{os.getpid()}.part"
                shutil.copy(wheel, part)
                part.replace(keep / wheel.name)  # a half-written wheel is never found
        found = sorted(keep.glob("*.whl"))
    print(found[0])


if __name__ == "__main__":
    main()
