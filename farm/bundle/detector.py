"""The detector of this folder: numpy, OpenCV and what `requirements.txt` names are all it needs.

    from detector import Detector

    detector = Detector("path/of/this/folder")
    found = detector.detect("image.jpg")  # or an array [H, W, 3] of BGR, as cv2.imread gives it
    for box, score, name in zip(found.boxes, found.scores, found.names):
        print(name, score, box)

`python detector.py --check` compares every file with its sha256, the versions with those that the
engine was built with, and the boxes of the sample image with those that are expected.
`python detector.py IMAGE ...` prints the boxes of images.

An engine holds for one version of its runtime and one kind of processor, or one model of GPU.
Where these differ, `model.onnx` runs in its place, with a warning: in the same runtime, or for
TensorRT in ONNX Runtime on the CPU. `Detector(folder, fallback=False)` refuses instead.

It is one file, so that no module of it can have the name of one of yours. `farm bundle` wrote it;
what it computes is what the farm computed when it evaluated this engine.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import platform
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

SCHEMA = 1
"""Of the `bundle.json` that this program reads."""

NOT_OPENED = ("README.md", "requirements.txt", "detector.py", "openvino/", "triton/")
"""How names of files begin that `Detector` does not open: only `--check` compares them."""


class BundleError(RuntimeError):
    """The bundle is not as it was written, or cannot run here. The text says why."""


class Detections(NamedTuple):
    """What was found in one image, best score first.

    boxes: float32 [K, 4], x1 y1 x2 y2 in pixels of the image; scores: float32 [K]; names: of the
    classes; labels: their numbers, int64 [K]; masks: bool [K, H, W] of models with masks, else
    None; mask_scores: float32 [K] where masks have scores of their own, else None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    names: list[str]
    labels: np.ndarray
    masks: np.ndarray | None = None
    mask_scores: np.ndarray | None = None


class Frame(NamedTuple):
    """How an image lies in the network's input, in pixels.

    original = (network - (left, top)) / scale, over the valid part that begins there; the rest of
    the network's height x width is padding.
    """

    original_h: int
    original_w: int
    valid_h: int
    valid_w: int
    height: int
    width: int
    scale_x: float
    scale_y: float
    left: int
    top: int


class Detector:
    """The engine of a bundle, with everything before and after it.

    Attributes:
        labels: The names of label 0, 1, ...
        bundle: The content of `bundle.json`.
        runs: The file that runs: the engine, or `model.onnx` where the engine does not fit here.
    """

    def __init__(
        self, folder: str | Path, threads: int | None = None, fallback: bool = True
    ) -> None:
        """Open the bundle in `folder`.

        threads: how many cores the runtime uses; by default its own choice. fallback: whether
        `model.onnx` may run in place of an engine that does not fit this machine.

        Raises:
            BundleError: a file was changed, the runtime is missing, or the engine does not fit.
        """
        self.bundle = read_bundle(Path(folder))
        require_unchanged(Path(folder), self.bundle, without=NOT_OPENED)
        self.labels: list[str] = self.bundle["labels"]
        self.runs, self._engine = open_engine(Path(folder), self.bundle, threads, fallback)

    def detect(self, image: np.ndarray | str | Path) -> Detections:
        """Find objects in an image: a path, or an array [H, W, 3] of BGR as `cv2.imread` gives it.

        Raises:
            BundleError: it is no image, or its size is outside of what the engine takes.
        """
        pixels, frame = prepare(image, self.bundle)
        batch = self.bundle["input"]["shape"]["min"][0]
        outputs = self._engine.run(np.repeat(pixels[None], batch, 0))
        after = self.bundle["postprocess"]
        if after["suppression"]:
            outputs = suppress(outputs, after["suppression"])
        return to_original(outputs, frame, after, self.labels)


# ------------------------------------------------------------------- the files of the bundle


def read_bundle(folder: Path) -> dict[str, Any]:
    """Return the content of `bundle.json`.

    Raises:
        BundleError: it is not there, was changed, or is of another schema.
    """
    path = folder / "bundle.json"
    try:
        bundle = json.loads(path.read_bytes())
        schema, digest = bundle["schema"], bundle.pop("sha256")
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}; expected the folder of a bundle") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{path}: not what `farm bundle` writes; copy the bundle again") from None
    if schema != SCHEMA:
        raise BundleError(f"{path}: of schema {schema}, and this program reads schema {SCHEMA}")
    if digest != bundle_digest(bundle):
        raise BundleError(f"{path}: changed since it was written; copy the bundle again")
    return dict(bundle)


def bundle_digest(bundle: dict[str, Any]) -> str:
    """Return the sha256 of the content of `bundle.json` without its own field `sha256`."""
    return hashlib.sha256(json.dumps(bundle, sort_keys=True).encode()).hexdigest()


def require_unchanged(folder: Path, bundle: dict[str, Any], without: tuple[str, ...] = ()) -> None:
    """Compare the files of the bundle with their sha256; those that begin with `without` are not.

    Raises:
        BundleError: one is missing or was changed.
    """
    for name, digest in bundle["files"].items():
        if name.startswith(without):
            continue
        try:
            found = _sha256(folder / name)
        except OSError as error:
            raise BundleError(f"{folder / name}: {error.strerror}; copy the bundle again") from None
        if found != digest:
            raise BundleError(
                f"{folder / name}: changed since it was written (its sha256 is {found[:12]}...,"
                f" expected {digest[:12]}...); copy the bundle again"
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


# ------------------------------------------------------------------------------- the runtime


def open_engine(
    folder: Path, bundle: dict[str, Any], threads: int | None, fallback: bool
) -> tuple[str, Any]:
    """Return the name of the file that runs, and the opened file.

    Raises:
        BundleError: the runtime is missing, the engine does not fit, or a file cannot be opened.
    """
    engine, onnx = bundle["engine"], bundle["onnx"]["file"]
    reason = misfit(engine)
    if reason is None:
        try:
            opened = RUNTIMES[engine["runtime"]](folder / engine["file"], bundle, threads, True)
            return engine["file"], opened
        except Exception as error:  # of the runtime
            reason = f"{engine['runtime']} cannot open it: {error}"
    if not fallback:
        raise BundleError(f"{folder / engine['file']} cannot be used here: {reason}")
    other = runs_onnx(engine)
    by = "" if other == engine["runtime"] else f" by {other} on the CPU"
    warnings.warn(
        f"{engine['file']} is not used: {reason}; {onnx} runs in its place{by},"
        " perhaps at another speed than the engine's",
        stacklevel=3,
    )
    try:
        return onnx, RUNTIMES[other](folder / onnx, bundle, threads, False)
    except Exception as error:  # of the runtime
        raise BundleError(
            f"{engine['file']}: {reason}; and {folder / onnx} cannot be opened by {other} either:"
            f" {error}"
        ) from error


def runs_onnx(engine: dict[str, Any]) -> str:
    """Return the runtime that runs `model.onnx` where the engine does not fit."""
    return "onnxruntime" if engine["runtime"] == "tensorrt" else str(engine["runtime"])


def version_here(runtime: str) -> str:
    """Return the version of a runtime that is installed. Raises ImportError, OSError."""
    if runtime == "openvino":
        import openvino

        return str(openvino.__version__).partition("-")[0]
    if runtime == "tensorrt":
        import tensorrt

        return str(tensorrt.__version__)
    import onnxruntime

    return str(onnxruntime.__version__)


def misfit(engine: dict[str, Any]) -> str | None:
    """Return why an engine does not run on this machine; None where it does.

    Raises:
        BundleError: the only runtime that could run a file of this bundle is not installed.
    """
    needed = f"{engine['runtime']} {engine['version']}"
    try:
        version = version_here(engine["runtime"])
    except (ImportError, OSError) as error:
        if engine["runtime"] == "tensorrt":
            return f"it was built by {needed} for {engine['gpu']}, and here is no TensorRT: {error}"
        raise BundleError(
            f"{needed} is needed ({error}): pip install -r requirements.txt"
        ) from None
    if version != engine["version"] and not engine.get("version_compatible"):
        return f"it was built by {needed}, and here is {version}"
    return _gpu_misfit(engine) if engine["runtime"] == "tensorrt" else _cpu_misfit(engine)


def _cpu_misfit(engine: dict[str, Any]) -> str | None:
    sets = instruction_sets()
    if sets is None and engine["instruction_sets"]:
        return f"it was built for {engine['device']}, and the instruction sets here are not known"
    if sets is not None and sets != engine["instruction_sets"]:
        here = " ".join(sets) or "none of those that matter"
        return f"it was built for {engine['device']}, and the instruction sets here are: {here}"
    if platform.machine() != engine["machine"]:
        return f"it was built for {engine['machine']}, and here is {platform.machine()}"
    return None


def _gpu_misfit(engine: dict[str, Any]) -> str | None:
    """Compare model and compute capability of the first GPU. Another driver is no misfit."""
    built = f"it was built for {engine['gpu']} (compute capability {engine['compute_capability']})"
    try:
        gpu, capability = gpu_here()
    except BundleError as error:
        return f"{built}, and {error}"
    if engine["hardware_compatible"]:
        return None
    if (gpu, capability) != (engine["gpu"], engine["compute_capability"]):
        return f"{built}, and here is {gpu} (compute capability {capability})"
    return None


SETS = {
    "avx2": "avx2", "avx512f": "avx512f", "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16", "avx512_fp16": "avx512_fp16", "avx_vnni": "avx_vnni",
    "amx_int8": "amx_int8", "amx_bf16": "amx_bf16", "amx_fp16": "amx_fp16",
    "asimd": "asimd", "neon": "neon", "asimdhp": "fp16", "asimddp": "dotprod",
    "i8mm": "i8mm", "bf16": "bf16", "sve": "sve", "sve2": "sve2", "sme": "sme",
}  # fmt: skip
"""The instruction sets by which runtimes choose their kernels: as Linux names them, and here."""


def instruction_sets() -> list[str] | None:
    """Return those of `SETS` that all cores have; None where Linux does not list them."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return None
    cores = re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    common = set.intersection(*(set(core.split()) for core in cores)) if cores else set()
    return [name for flag, name in SETS.items() if flag in common] if cores else None


class OpenVino:
    """A blob, or an ONNX file, on the CPU."""

    def __init__(
        self, path: Path, bundle: dict[str, Any], threads: int | None, built: bool
    ) -> None:
        import openvino as ov

        properties = dict(bundle["engine"]["properties"])
        properties["NUM_STREAMS"] = 1
        if threads:
            properties["INFERENCE_NUM_THREADS"] = threads
        core = ov.Core()
        if built:
            import io

            compiled = core.import_model(io.BytesIO(path.read_bytes()), "CPU", properties)
        else:
            model = core.read_model(path)
            least, most = (bundle["input"]["shape"][end] for end in ("min", "max"))
            if least != most:
                bounds = [
                    low if low == high else ov.Dimension(low, high)
                    for low, high in zip(least, most, strict=True)
                ]
                model.reshape(ov.PartialShape(bounds))
            compiled = core.compile_model(model, "CPU", properties)
        self._request = compiled.create_infer_request()
        self._outputs = [output.get_any_name() for output in compiled.outputs]

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, for images float32 [N, 3, H, W]."""
        outputs = self._request.infer([images]).values()  # copies of the request's buffers
        return dict(zip(self._outputs, outputs, strict=True))


class OnnxRuntime:
    """A model that was optimised for its processor, or an ONNX file, on the CPU."""

    def __init__(
        self, path: Path, bundle: dict[str, Any], threads: int | None, built: bool
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")  # as when measured
        engine = bundle["engine"]
        if engine["runtime"] == "onnxruntime":
            for name, value in engine["properties"].items():
                options.add_session_config_entry(name, str(value))
        if built:  # optimised already
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        providers = ["CPUExecutionProvider"]
        self._session = ort.InferenceSession(str(path), options, providers=providers)
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, for images float32 [N, 3, H, W]."""
        values = self._session.run(self._outputs, {self._input: images})
        return dict(zip(self._outputs, values, strict=True))


class TensorRt:
    """A plan on the first GPU that this process sees.

    It needs the names of tensors that TensorRT has from 8.5 on, and CUDA's runtime by
    `cuda-bindings`.
    """

    def __init__(
        self, path: Path, bundle: dict[str, Any], threads: int | None, built: bool
    ) -> None:
        import tensorrt as trt

        logger = trt.Logger(trt.Logger.ERROR)
        trt.init_libnvinfer_plugins(logger, "")
        self._runtime = trt.Runtime(logger)
        if bundle["engine"]["version_compatible"]:
            self._runtime.engine_host_code_allowed = True  # such a plan carries its own runtime
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        loaded = self._engine is not None
        self._context: Any = self._engine.create_execution_context() if loaded else None
        if self._context is None:
            raise BundleError("it does not load; TensorRT's messages are on stderr")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        mode, images = self._engine.get_tensor_mode, trt.TensorIOMode.INPUT
        (self._input,) = (name for name in names if mode(name) == images)
        self._types = {name: _numpy_type(self._engine, name) for name in names}
        self._memory = {name: DeviceMemory() for name in names}
        self._outputs = [name for name in names if name != self._input]
        self._allocators: dict[str, Any] = {}
        self._allocator = _allocator_type(trt.IOutputAllocator)
        self._stream = cuda("cudaStreamCreate")

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, for images float32 [N, 3, H, W].

        Raises:
            BundleError: the engine does not take images of this size, or CUDA or TensorRT fails.
        """
        images = np.ascontiguousarray(images, self._types[self._input])
        if not self._context.set_input_shape(self._input, images.shape):
            raise BundleError(f"the engine does not take images of {images.shape}")
        memory = self._memory[self._input]
        self._context.set_tensor_address(self._input, memory.reserve(images.nbytes))
        memory.write(images)
        shapes = {name: self._bound(name) for name in self._outputs}
        if not self._context.execute_async_v3(int(self._stream)):
            raise BundleError("the engine failed to run; TensorRT's messages are on stderr")
        cuda("cudaStreamSynchronize", self._stream)
        outputs = {}
        for name in self._outputs:
            shape = shapes[name] or self._allocators[name].shape
            outputs[name] = self._memory[name].read(shape, self._types[name])
        return outputs

    def _bound(self, name: str) -> tuple[int, ...] | None:
        """Give an output its memory; return its shape, None where only a run finds it.

        An NMS finds any number of boxes: TensorRT then asks an allocator for memory, and tells it
        the shape.
        """
        shape = tuple(self._context.get_tensor_shape(name))
        if min(shape, default=0) < 0:
            if name not in self._allocators:
                self._allocators[name] = self._allocator(self._memory[name])
                self._context.set_output_allocator(name, self._allocators[name])
            return None
        size = int(np.prod(shape, dtype=np.int64)) * self._types[name].itemsize
        self._context.set_tensor_address(name, self._memory[name].reserve(size))
        return shape


def _allocator_type(base: Any) -> Any:
    """Return the class of allocators: TensorRT 8.6 calls the first method, 10 the second one."""

    class Allocator(base):  # type: ignore[misc]
        def __init__(self, memory: DeviceMemory) -> None:
            base.__init__(self)
            self.memory, self.shape = memory, ()

        def reallocate_output(self, name: str, current: int, size: int, alignment: int) -> int:
            return self.memory.reserve(size)

        def reallocate_output_async(
            self, name: str, current: int, size: int, alignment: int, stream: int
        ) -> int:
            return self.memory.reserve(size)

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator


def _numpy_type(engine: Any, name: str) -> np.dtype[Any]:
    """Return a tensor's type; TensorRT's own `nptype` fails with a current numpy in 8.6."""
    kind = engine.get_tensor_dtype(name).name
    known = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32"}
    if kind not in known:
        raise BundleError(f"its {name} is {kind}, which this program does not read")
    return np.dtype(known[kind])


class DeviceMemory:
    """Memory of the GPU that grows when more is needed, and else keeps its address."""

    def __init__(self) -> None:
        self._pointer = self._size = 0

    def reserve(self, size: int) -> int:
        """Return the address of `size` bytes or more; never 0, which TensorRT does not accept."""
        if size > self._size or not self._pointer:
            self._free()
            self._pointer, self._size = int(cuda("cudaMalloc", max(size, 1))), size
        return self._pointer

    def write(self, array: np.ndarray) -> None:
        """Copy an array to the GPU."""
        kind = _cuda_modules()[1].cudaMemcpyKind.cudaMemcpyHostToDevice
        cuda("cudaMemcpy", self._pointer, array.ctypes.data, array.nbytes, kind)

    def read(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Copy an array of this shape from the GPU."""
        array = np.empty(shape, dtype)
        kind = _cuda_modules()[1].cudaMemcpyKind.cudaMemcpyDeviceToHost
        if array.nbytes:
            cuda("cudaMemcpy", array.ctypes.data, self._pointer, array.nbytes, kind)
        return array

    def _free(self) -> None:
        if self._pointer:
            cuda("cudaFree", self._pointer)
        self._pointer = self._size = 0

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # CUDA may have ended before
            self._free()


def gpu_here() -> tuple[str, str]:
    """Return the name and the compute capability of the first GPU that this process sees.

    Raises:
        BundleError: there is none, or no driver, or cuda-bindings is missing.
    """
    driver = _cuda_modules()[0]
    try:
        cuda("cuInit", 0)
        device = cuda("cuDeviceGet", 0)
    except (RuntimeError, OSError) as error:  # without a driver, too
        raise BundleError(f"here is no NVIDIA GPU: {error}") from None
    name = cuda("cuDeviceGetName", 256, device).split(b"\0")[0].decode()
    kinds = driver.CUdevice_attribute
    capability = (
        cuda("cuDeviceGetAttribute", kind, device)
        for kind in (
            kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    return name, ".".join(map(str, capability))


def cuda(name: str, *values: Any) -> Any:
    """Call a function of CUDA's driver (`cu...`) or runtime (`cuda...`), and return its value.

    Raises:
        BundleError: cuda-bindings is missing, or the function failed.
    """
    driver, runtime = _cuda_modules()
    error, *found = getattr(runtime if name.startswith("cuda") else driver, name)(*values)
    if int(error):
        raise BundleError(f"{name} of CUDA failed: {error.name}")
    return found[0] if found else None


def _cuda_modules() -> tuple[Any, Any]:
    try:
        from cuda.bindings import driver, runtime
    except ImportError as error:
        raise BundleError(f"cuda-bindings is missing ({error})") from None
    return driver, runtime


RUNTIMES: dict[str, Any] = {
    "openvino": OpenVino,
    "onnxruntime": OnnxRuntime,
    "tensorrt": TensorRt,
}
"""What opens a file, by the name of the runtime."""


# ------------------------------------------------------------ from an image to the network

_FLAGS = {
    "color": cv2.IMREAD_COLOR,
    "color_ignore_orientation": cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR,
    "grayscale": cv2.IMREAD_GRAYSCALE,
    "grayscale_ignore_orientation": cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_GRAYSCALE,
    "unchanged": cv2.IMREAD_UNCHANGED,
}
_INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


def prepare(image: np.ndarray | str | Path, bundle: dict[str, Any]) -> tuple[np.ndarray, Frame]:
    """Return float32 [3, H, W] as the network takes it, and how the image lies in it.

    Raises:
        BundleError: it is no image of three channels, or too small or large for the engine.
    """
    pixels = read_image(image, bundle["preprocess"]["decode"])
    original_h, original_w = valid_h, valid_w = pixels.shape[:2]
    top = left = 0
    for step in bundle["preprocess"]["steps"]:
        if step["step"] == "resize":
            pixels = _resize(pixels, step)
            valid_h, valid_w = pixels.shape[:2]
        elif step["step"] == "normalize":
            pixels = _normalize(pixels, step)
        elif step["step"] == "pad":
            pixels = _pad(pixels, step)
        else:
            pixels, top, left = _centre_pad(pixels, step)
    height, width = pixels.shape[:2]
    least, most = bundle["input"]["shape"]["min"], bundle["input"]["shape"]["max"]
    if not (least[2] <= height <= most[2] and least[3] <= width <= most[3]):
        raise BundleError(
            f"the image is {height}x{width} (HxW) as the network takes it, and the engine takes"
            f" {least[2]}x{least[3]} to {most[2]}x{most[3]}"
        )
    scale_x, scale_y = (
        float(np.float32(valid / original))
        for valid, original in ((valid_w, original_w), (valid_h, original_h))
    )
    frame = Frame(
        original_h, original_w, valid_h, valid_w, height, width, scale_x, scale_y, left, top
    )
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32), frame


def read_image(image: np.ndarray | str | Path, how: dict[str, Any]) -> np.ndarray:
    """Return the pixels [H, W, 3] of a file or an array of BGR. Raises BundleError."""
    if isinstance(image, (str, Path)):
        try:
            content = np.frombuffer(Path(image).read_bytes(), np.uint8)
        except OSError as error:
            raise BundleError(f"{image}: {error.strerror}") from None
        pixels = cv2.imdecode(content, _FLAGS[how["color_type"]]) if len(content) else None
        if pixels is None:
            raise BundleError(f"{image}: not an image that OpenCV can decode")
    else:
        pixels = image
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[2] != 3:
        kind = getattr(pixels, "shape", type(pixels).__name__)
        raise BundleError(f"expected an image [H, W, 3] of BGR as cv2.imread gives it, not {kind}")
    if how["color_type"] == "color" and how["channel_order"] == "rgb":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return pixels.astype(np.float32) if how["to_float32"] else pixels


def _resize(pixels: np.ndarray, step: dict[str, Any]) -> np.ndarray:
    """Resize to fit (`keep_ratio`) or to fill the size; or by a factor of the image's own."""
    height, width = pixels.shape[:2]
    to_w, to_h = size = step["width"], step["height"]
    if step["factor"]:
        size = int(width * step["factor"]), int(height * step["factor"])
    elif step["keep_ratio"] and not step["exact"]:
        size = max(size), min(size)
    elif step["keep_ratio"] and (height > width) != (to_h > to_w):
        size = min(size), min(size)  # an image that stands in a size that lies, or the reverse
    if step["keep_ratio"]:
        long, short = max(height, width), min(height, width)
        factor = min(max(size) / long, min(size) / short)
        size = int(width * factor + 0.5), int(height * factor + 0.5)
    return cv2.resize(pixels, size, interpolation=_INTERPOLATIONS[step["interpolation"]])


def _normalize(pixels: np.ndarray, step: dict[str, Any]) -> np.ndarray:
    """Swap blue and red (`to_rgb`), subtract the mean, divide by the deviation, by channel."""
    pixels = pixels.astype(np.float32)  # a copy, which is changed in place
    if step["to_rgb"]:
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, pixels)
    mean, std = (np.array([step[name]], np.float32).astype(np.float64) for name in ("mean", "std"))
    cv2.subtract(pixels, mean, pixels)
    cv2.multiply(pixels, 1 / std, pixels)
    return pixels


def _pad(pixels: np.ndarray, step: dict[str, Any]) -> np.ndarray:
    """Pad on the right and below: to a size, to a square, or to multiples of a divisor."""
    height, width = pixels.shape[:2]
    if step["size"]:
        to_h, to_w = step["size"]
    elif step["square"]:
        to_h = to_w = max(height, width)
    else:
        multiple = step["divisor"] or 1
        to_h, to_w = -(-height // multiple) * multiple, -(-width // multiple) * multiple
    below, right = max(to_h - height, 0), max(to_w - width, 0)
    return cv2.copyMakeBorder(
        pixels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=tuple(step["value"])
    )


def _centre_pad(pixels: np.ndarray, step: dict[str, Any]) -> tuple[np.ndarray, int, int]:
    """Pad on all sides; also return where the image's first column and row lie, as top and left."""
    size = step["size"] or [_centred_extent(step, extent) for extent in pixels.shape[:2]]
    padded = np.empty((*size, 3), pixels.dtype)
    padded[:] = step["value"]
    places = []
    for extent, to in zip(pixels.shape[:2], size, strict=True):
        centre, half = extent // 2, to // 2
        first, last = max(0, centre - half), min(centre + half, extent)
        start = half - (centre - first)
        places.append((slice(start, half + last - centre), slice(first, last), start))
    (rows, from_rows, top), (columns, from_columns, left) = places
    padded[rows, columns] = pixels[from_rows, from_columns]
    return padded, top, left


def _centred_extent(step: dict[str, Any], extent: int) -> int:
    number = int(step["number"])
    if step["mode"] == "size_divisor":
        return -(-extent // number) * number
    return (extent | number) + int(step["extra"])


# ---------------------------------------------------- from the network's outputs to boxes


def suppress(outputs: dict[str, np.ndarray], how: dict[str, Any]) -> dict[str, np.ndarray]:
    """Suppress boxes [N, M, 4] with scores [N, M] (0 for none) and labels [N, M] as mmcv does.

    Returns dets [1, K, 5] and labels [1, K] of the first image.
    """
    boxes, scores, labels = (outputs[name][0] for name in ("boxes", "scores", "labels"))
    rows = np.flatnonzero(scores > 0)
    moved = boxes[rows]
    if len(rows) and not how["class_agnostic"]:
        # Classes are moved so far apart that none overlaps another; in float32, whose rounding is
        # part of the result.
        offset = max(moved.max(), np.float32(0)) + np.float32(1)
        moved = moved + (labels[rows].astype(np.float32) * offset)[:, None]
    kept, remaining = (_soft if how["decay"] else _greedy)(moved, scores[rows], how)
    order = np.argsort(-remaining, kind="stable")
    kept, remaining = rows[kept[order]], remaining[order]
    dets = np.concatenate([boxes[kept], remaining[:, None]], 1)
    return {"dets": dets[None].astype(np.float32), "labels": labels[kept][None]}


def _greedy(
    boxes: np.ndarray, scores: np.ndarray, how: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that no better kept one overlaps by more than `iou`, and their scores."""
    alive = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(alive) and len(kept) < how["keep"]:
        best, alive = alive[0], alive[1:]
        kept.append(int(best))
        alive = alive[~(_iou(boxes[best], boxes[alive], 0) > np.float32(how["iou"]))]
    rows = np.array(kept, np.int64)
    return rows, scores[rows]


def _soft(
    boxes: np.ndarray, scores: np.ndarray, how: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that were picked and their scores then: a pick lowers what it overlaps."""
    decay = how["decay"]
    remaining, picked = scores.copy(), np.zeros_like(scores)
    for _ in range(how["keep"] if len(scores) else 0):
        best = int(remaining.argmax())
        if remaining[best] <= 0:
            break
        picked[best] = remaining[best]
        overlap = _iou(boxes[best], boxes, decay["offset"])
        over = overlap >= np.float32(decay["iou"])
        if decay["method"] == "naive":
            remaining *= (~over).astype(np.float32)
        elif decay["method"] == "linear":
            remaining *= np.where(over, 1 - overlap, np.float32(1))
        else:
            remaining *= np.exp(-(overlap * overlap) / np.float32(decay["sigma"]))
        remaining[best] = 0
        remaining[remaining < np.float32(decay["min_score"])] = 0
    rows = np.flatnonzero(picked)
    return rows, picked[rows]


def _iou(box: np.ndarray, others: np.ndarray, offset: int) -> np.ndarray:
    """IoU of one box [4] with others [M, 4]; 0 where they do not meet or have no area."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inner = np.maximum(high - low + np.float32(offset), 0).prod(1)
    area = (box[2:] - box[:2] + np.float32(offset)).prod()
    union = area + (others[:, 2:] - others[:, :2] + np.float32(offset)).prod(1) - inner
    overlaps: np.ndarray = np.divide(inner, union, out=np.zeros_like(inner), where=inner > 0)
    return overlaps


def to_original(
    outputs: dict[str, np.ndarray], frame: Frame, how: dict[str, Any], names: list[str]
) -> Detections:
    """Return the detections of the first image of a batch, in pixels of the original image."""
    kept = outputs["dets"][0, :, 4] > 0  # rows without a box have the score 0
    dets, labels = outputs["dets"][0][kept], outputs["labels"][0][kept].astype(np.int64)
    scores = dets[:, 4]
    boxes = dets[:, :4] - np.array([frame.left, frame.top] * 2, np.float32)
    if how["clip_boxes"]:
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, frame.valid_w)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, frame.valid_h)
    boxes /= np.array([frame.scale_x, frame.scale_y] * 2, np.float32)
    masks = mask_scores = None
    if "mask_scores" in outputs:
        mask_scores = outputs["mask_scores"][0][kept]
    if "masks" in outputs and how["mask_frame"] == "box":
        masks = paste(outputs["masks"][0][kept], boxes, frame, how["mask_threshold"])
    elif "masks" in outputs:
        whole = whole_masks(outputs["masks"][0][kept], frame, how["mask_frame"])
        order, boxes, scores, masks = _by_masks(whole, boxes, scores, how)
        labels = labels[order]
    found = [names[label] for label in labels]
    return Detections(boxes, scores, found, labels, masks, mask_scores)


def paste(masks: np.ndarray, boxes: np.ndarray, frame: Frame, threshold: float) -> np.ndarray:
    """Paste probabilities [K, m, m] of boxes [K, 4] into the image; return bool [K, H, W].

    Bilinear, with half-pixel centres and zeros outside, as MMDetection samples them.
    """
    if not np.isfinite(boxes).all():
        raise BundleError("the engine gives a box of NaN or infinity")
    pasted = np.zeros((len(masks), frame.original_h, frame.original_w), np.bool_)
    for mask, box, image in zip(masks, boxes, pasted, strict=True):
        top, bottom, rows = _box_weights(box[1], box[3], frame.original_h, mask.shape[0])
        left, right, columns = _box_weights(box[0], box[2], frame.original_w, mask.shape[1])
        image[top:bottom, left:right] = (rows @ mask @ columns.T) >= threshold
    return pasted


def _box_weights(
    low: np.float32, high: np.float32, size: int, cells: int
) -> tuple[int, int, np.ndarray]:
    """Return the pixels that a side of a box can cover, and the weights of its mask's cells."""
    first = int((np.floor(np.float64(low)) - 1).clip(0, size))
    after = max(first, int((np.ceil(np.float64(high)) + 1).clip(0, size)))
    extent = np.float64(high) - np.float64(low)
    if extent <= 0:
        return first, after, np.zeros((after - first, cells), np.float32)
    pixels = np.arange(first, after).astype(np.float32)
    position = (pixels + 0.5 - low) / np.float32(extent)
    return first, after, _tent(position * cells - 0.5, cells)


def whole_masks(masks: np.ndarray, frame: Frame, kind: str) -> np.ndarray:
    """Resize masks [K, h, w] over the network's whole input; return float32 [K, H, W]."""
    resized = np.zeros((len(masks), frame.original_h, frame.original_w), np.float32)
    rows, columns = (
        _whole_weights(cells, size, valid, original, kind)
        for cells, size, valid, original in (
            (masks.shape[1], frame.height, frame.valid_h, frame.original_h),
            (masks.shape[2], frame.width, frame.valid_w, frame.original_w),
        )
    )
    for mask, image in zip(masks, resized, strict=True):
        image[:] = rows @ mask @ columns.T
    return resized


def _whole_weights(cells: int, size: int, valid: int, original: int, kind: str) -> np.ndarray:
    if kind == "image":
        return _bilinear(original, cells)
    enlarged = cells * -(-size // cells) if kind == "segments" else size
    return np.ascontiguousarray(_bilinear(original, valid) @ _bilinear(enlarged, cells)[:valid])


def _bilinear(to: int, cells: int) -> np.ndarray:
    position = (np.arange(to, dtype=np.float32) + 0.5) * np.float32(cells / to) - 0.5
    return _tent(position.clip(0, cells - 1), cells)


def _tent(position: np.ndarray, cells: int) -> np.ndarray:
    """Bilinear weights [positions, cells] of cells at positions in units of cells."""
    distance = np.abs(position[:, None] - np.arange(cells, dtype=np.float32))
    weights: np.ndarray = np.maximum(0, 1 - distance)
    return weights


def _by_masks(
    whole: np.ndarray, boxes: np.ndarray, scores: np.ndarray, how: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of scores, and in it boxes, scores and masks of masks over the image.

    The box is the one around the mask, but for the kind `image`; of the kind `queries` the score
    counts times the mean probability inside the mask.
    """
    masks = whole > how["mask_threshold"]
    if how["mask_frame"] == "queries":
        means = [
            (1 / (1 + np.exp(-mask[inside].astype(np.float64)))).sum() / (inside.sum() + 1e-6)
            for mask, inside in zip(whole, masks, strict=True)
        ]
        scores = scores * np.array(means, np.float32)
    if how["mask_frame"] != "image":
        boxes = np.array([_around(mask) for mask in masks], np.float32).reshape(-1, 4)
    order = np.argsort(-scores, kind="stable")
    return order, boxes[order], scores[order], masks[order]


def _around(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# -------------------------------------------------------------------------- the command line


def check(folder: Path, allow_fallback: bool = False) -> list[str]:
    """Check files, versions and the boxes of the sample; return what was found, a line each.

    allow_fallback: an engine that does not fit this machine is no error if `model.onnx` gives the
    expected boxes in its place.

    Raises:
        BundleError: something differs.
    """
    bundle = read_bundle(folder)
    require_unchanged(folder, bundle)
    lines = [f"files: {len(bundle['files'])} as they were written"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = Detector(folder, fallback=True)
    engine = bundle["engine"]
    reason = misfit(engine)
    if reason is None and detector.runs != engine["file"]:
        reason = f"{engine['runtime']} cannot open it"
    if reason and not allow_fallback:
        raise BundleError(
            f"{engine['file']} cannot be used here: {reason}; with --allow-fallback"
            f" {bundle['onnx']['file']} is checked in its place"
        )
    runtime = engine["runtime"] if detector.runs == engine["file"] else runs_onnx(engine)
    lines.append(f"versions: {runtime} {version_here(runtime)}; runs {detector.runs}")
    if reason:
        lines.append(f"not the engine, since {reason}")
    sample = bundle["sample"]
    found = detector.detect(folder / sample["image"])
    box, score = compared(found, sample)
    lines.append(
        f"sample: {len(sample['scores'])} boxes as expected (at most {box:.2g} pixels and"
        f" {score:.2g} of score apart)"
    )
    return lines


def compared(found: Detections, sample: dict[str, Any]) -> tuple[float, float]:
    """Return the largest differences of boxes and scores from those of the sample.

    Boxes of a score of at least `min_score` are expected; each needs one of the same name within
    the limits, and there may be no other that scores more than that by the limit of scores.

    Raises:
        BundleError: a box is missing, another one is there, or one is too far away.
    """
    limits, rest = sample["limits"], list(range(len(found.scores)))
    most_box = most_score = 0.0
    for box, score, name in zip(sample["boxes"], sample["scores"], sample["names"], strict=True):
        same = [i for i in rest if found.names[i] == name]
        apart = {
            i: (float(np.abs(found.boxes[i] - box).max()), abs(float(found.scores[i]) - score))
            for i in same
        }
        near = [
            i for i in same if apart[i][0] <= limits["box_px"] and apart[i][1] <= limits["score"]
        ]
        if not near:
            raise BundleError(
                f"sample: {name} of score {score:.3f} at {[round(x, 1) for x in box]} is not found"
                f" within {limits['box_px']} pixels and {limits['score']} of score"
            )
        nearest = min(near, key=lambda i: apart[i])
        rest.remove(nearest)
        most_box, most_score = max(most_box, apart[nearest][0]), max(most_score, apart[nearest][1])
    for i in rest:
        if found.scores[i] >= limits["min_score"] + limits["score"]:
            raise BundleError(
                f"sample: {found.names[i]} of score {found.scores[i]:.3f} at"
                f" {found.boxes[i].round(1).tolist()} is not among the expected boxes"
            )
    return most_box, most_score


def main() -> int:
    """Run the command line; return the exit code: 0, or 1 where something differs."""
    parser = argparse.ArgumentParser(description="Run or check the detector of this folder.")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="print the boxes in it")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare files, versions and the sample's boxes; exit code 1 if they differ",
    )
    parser.add_argument(
        "--allow-fallback",
        action="store_true",
        help="with --check: an engine that does not fit this machine is no difference",
    )
    parser.add_argument(
        "--min-score", type=float, default=0.3, help="print boxes from this score on (default: 0.3)"
    )
    options = parser.parse_args()
    folder = Path(__file__).resolve().parent
    if not (options.check or options.images):
        parser.print_usage(sys.stderr)
        return 2
    try:
        if options.check:
            print("\n".join(check(folder, options.allow_fallback)))
        if options.images:
            detector = Detector(folder)
            for path in options.images:
                _print(path, detector.detect(path), options.min_score)
    except BundleError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _print(path: str, found: Detections, least: float) -> None:
    for box, score, name in zip(found.boxes, found.scores, found.names, strict=True):
        if score >= least:
            print(f"{path}: {name} {score:.3f} at {' '.join(f'{x:.1f}' for x in box)}")


if __name__ == "__main__":
    sys.exit(main())
