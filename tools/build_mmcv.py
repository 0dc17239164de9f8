"""Build mmcv-full once per machine and keep the wheel.

mmcv-full has no wheel for current Python or torch and declares no build requirements. Its 73
sources take over 25 CPU minutes one by one, nearly all of it torch's headers, so they are compiled
as three: torch's headers are then read three times. Runs inside the virtual environment that
already has torch, setuptools<81, wheel and ninja; prints the path of the finished wheel as its last
line.
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
# Two of these in one translation unit would define the same template twice.
APART = ("roi_align.cpp", "roi_align_rotated.cpp", "rotated_feature_align.cpp")


def wheel_folder(torch_version: str) -> Path:
    """The cache folder of this build: same Python, torch and flags, same folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = sysconfig.get_config_var("SOABI")
    recipe = "\n".join([VERSION, torch_version, str(python), *FLAGS, "recipe 2"])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    return cache / "farm" / "wheels" / f"mmcv-full-{VERSION}-{digest}"


def compiler() -> str:
    return os.environ.get("CXX") or "g++"


def merge_sources(source: Path) -> int:
    """Let three files include all others, of which setup.py then finds no other; returns how many
    were merged.

    Some sources define `min` and `max` as macros, which the next one's headers do not survive.
    """
    folder = source / "mmcv" / "ops" / "csrc" / "pytorch"
    found = sorted([*folder.glob("*.cpp"), *(folder / "cpu").glob("*.cpp")])
    groups: dict[str, list[Path]] = {name: [] for name in APART}
    for place in found:
        # The operators' kernels with the binding weigh as much as all dispatchers together.
        heavy = place.parent.name == "cpu" or place.name == "pybind.cpp"
        group = place.name if place.name in APART else APART[0 if heavy else 1]
        merged = place.with_suffix(".merged")
        place.rename(merged)
        groups[group].append(merged)
    for number, files in enumerate(groups.values(), start=1):
        lines = ["#include <torch/script.h>", "#include <torch/extension.h>"]
        for file in files:
            lines += [f'#include "{file.relative_to(folder)}"', "#undef min", "#undef max"]
        (folder / f"merged_{number}.cpp").write_text("\n".join(lines) + "\n")
    return len(found)


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


def compile_wheel(source: Path, output: Path) -> None:
    """Run the build, showing one progress line per compiled file; the log's end if it fails."""
    env = dict(os.environ)
    env["CFLAGS"] = " ".join(FLAGS)
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
    else:
        sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> None:
    import torch

    # mmcv 1.7's CUDA sources are older than this torch and want nvcc: build the CPU's operators.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.pop("FORCE_CUDA", None)
    keep = wheel_folder(torch.__version__)
    if not (found := sorted(keep.glob("*.whl"))):
        print("Building mmcv-full, once per machine (about a minute on 2 cores)", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="farm-mmcv-") as name:
            folder = Path(name)
            source = download_source(folder)
            merge_sources(source)
            compile_wheel(source, folder / "dist")
            keep.mkdir(parents=True, exist_ok=True)
            for wheel in (folder / "dist").glob("*.whl"):
                part = keep / f".{os.getpid()}.part"
                shutil.copy(wheel, part)
                part.replace(keep / wheel.name)  # a half-written wheel is never found
        found = sorted(keep.glob("*.whl"))
    print(found[0])


if __name__ == "__main__":
    main()
