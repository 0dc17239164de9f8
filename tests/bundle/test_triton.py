"""The model repository of a bundle in a server of Triton: it is loaded, and answers.

The server is that of the package nvidia-pytriton. It reads `config.pbtxt`, and holds requests and
answers to it, as any server of Triton; its backend `python` runs `stand_ins/triton_backend.py` in
place of the backends onnxruntime and openvino, which no package index has.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import PROJECT, Tool, made_once, needs_packages
from onnx import TensorProto, helper

from farm.bundle import triton
from farm.environments import EnvironmentFailed, uv
from farm.specs import Dims, Shape

pytestmark = pytest.mark.slow

PACKAGE = "nvidia-pytriton==0.7.0"
DYNAMIC = Shape("dynamic", Dims(1, 3, 8, 8), Dims(1, 3, 8, 8), Dims(4, 3, 64, 64))

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def environment(common: Path) -> Path:
    """A Python with the server; skips where its wheel does not fit or no package index answers."""
    glibc = tuple(map(int, (platform.libc_ver()[1] or "0").split(".")))
    if platform.machine() != "x86_64" or glibc < (2, 35) or sys.version_info >= (3, 14):
        pytest.skip(f"{PACKAGE} is for x86_64, glibc 2.35 and Python 3.13 at most")
    try:
        uv.run("pip", "compile", "-", "--quiet", stdin="numpy")
    except EnvironmentFailed as error:
        pytest.skip(f"no package index answers: {error}")

    def make(folder: Path) -> None:
        uv.run("venv", "--quiet", "--python", sys.executable, str(folder))
        install = ("pip", "install", "--quiet", "--python", str(uv.python_of(folder)))
        uv.run(*install, "--no-deps", PACKAGE)
        uv.run(*install, "numpy<2", "onnxruntime")  # the backend was compiled before numpy 2

    return made_once(common / "triton", make)


@pytest.fixture
def server(environment: Path, tmp_path: Path) -> Callable[[Path], Any]:
    (package,) = environment.glob("lib/python*/site-packages")
    files = package / "pytriton" / "tritonserver"
    backends = tmp_path / "backends"
    shutil.copytree(files / "backends", backends)
    stub = files / "python_backend_stubs" / f"3.{sys.version_info.minor}"
    shutil.copy(stub / "triton_python_backend_stub", backends / "python")
    for name in ("onnxruntime", "openvino"):
        (backends / name).mkdir()
        own = PROJECT / "tests" / "bundle" / "stand_ins" / "triton_backend.py"
        shutil.copyfile(own, backends / name / "model.py")
    for program in (files / "bin" / "tritonserver", *backends.rglob("*stub")):
        program.chmod(0o755)

    @contextmanager
    def started(repository: Path) -> Iterator[Ask]:
        """Serve the models of a folder; yields a function that asks for a path."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words: dict[str, object] = {
            "model-repository": repository, "backend-directory": backends, "http-port": port,
            "http-address": "127.0.0.1", "allow-grpc": "false", "allow-metrics": "false",
        }  # fmt: skip
        env = {
            **os.environ,
            "LD_LIBRARY_PATH": str(package / "nvidia_pytriton.libs"),
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        env.pop("PYTHONPATH", None)
        command = [str(files / "bin" / "tritonserver"), *(f"--{k}={v}" for k, v in words.items())]
        with (tmp_path / "server.log").open("w") as log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            ask = _asker(port)
            _wait(ask, process, tmp_path / "server.log")
            yield ask
        finally:
            process.terminate()
            process.wait(60)

    return started


def _asker(port: int) -> Ask:
    def ask(path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/{path}", data) as answer:
                return json.loads(answer.read() or b"true")
        except urllib.error.HTTPError as error:
            return json.loads(error.read() or b"false")

    return ask


def _wait(ask: Ask, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            if ask("health/ready"):
                return
        except OSError:
            pass
        time.sleep(0.25)
    raise AssertionError(f"not ready: {log.read_text()}")


def request(images: Any) -> dict[str, Any]:
    tensor = {"name": "images", "shape": images.shape, "datatype": "FP32"}
    return {"inputs": [{**tensor, "data": images.ravel().tolist()}]}


def arrays(answer: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: np.reshape(one["data"], one["shape"]) for one in answer["outputs"]}


@needs_packages
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_server_loads_the_repository_and_finds_the_boxes(
    runtime: str, server: Any, tool: Tool, small_made: Path, tmp_path: Path
) -> None:
    cell = f"onestage.op17.fixed.fp32.{runtime}.cpu"
    done = tool("bundle", cell, "new", "--triton", "--results", small_made)
    assert done.code == 0, done.err
    session = onnxruntime.InferenceSession(tmp_path / "new" / "model.onnx")
    images = np.random.default_rng(0).normal(size=(1, 3, 160, 160)).astype(np.float32)
    expected = session.run(["dets", "labels"], {"images": images})
    with server(tmp_path / "new" / "triton") as ask:
        told = ask("models/onestage")
        assert told["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [1, 3, 160, 160]}]
        assert {(one["name"], one["datatype"]) for one in told["outputs"]} == {
            ("dets", "FP32"), ("labels", "INT64"),
        }  # fmt: skip
        assert ask("models/onestage/config")["backend"] == runtime
        found = arrays(ask("models/onestage/infer", request(images)))
        assert np.allclose(found["dets"], expected[0], atol=1e-3)
        assert np.array_equal(found["labels"], expected[1])
        other = ask("models/onestage/infer", request(images[:, :, :80]))
        assert "Expected [1,3,160,160], got [1,3,80,160]" in other["error"]


def test_a_server_takes_batches_up_to_the_largest(server: Any, tmp_path: Path) -> None:
    """Of a file whose batch, size and number of boxes are free."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])
    places = helper.make_tensor_value_info("labels", TensorProto.INT64, ["n", "k"])
    sizes = np.array([0, -1], np.int64)
    nodes = [
        helper.make_node("Reshape", ["images", "sizes"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["labels"], to=TensorProto.INT64),
    ]
    weights = [onnx.numpy_helper.from_array(sizes, "sizes")]
    graph = helper.make_graph(nodes, "g", [images], [places], weights)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    bundle = {
        "model": "own", "labels": ["a"], "engine": {"runtime": "onnxruntime"},
        "onnx": {"file": "model.onnx"},
    }  # fmt: skip
    triton.write(tmp_path, bundle, model, DYNAMIC)
    with server(tmp_path / "triton") as ask:
        assert ask("models/own")["inputs"][0]["shape"] == [-1, 3, -1, -1]
        for shape in ((1, 3, 8, 8), (4, 3, 2, 16)):
            values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            found = arrays(ask("models/own/infer", request(values)))
            assert np.array_equal(found["labels"], values.reshape(len(values), -1))
        many = ask("models/own/infer", request(np.zeros((5, 3, 8, 8), np.float32)))
        assert "must be <= 4" in many["error"]
