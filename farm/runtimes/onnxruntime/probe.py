"""ONNX Runtime, of which only one of two packages can be installed, and its providers."""

from __future__ import annotations

from importlib.metadata import version

from farm.errors import TransientFailure
from farm.runtimes.base import Finding, install_extra, installed
from farm.runtimes.tensorrt.cuda import has_gpu

PACKAGES = ("onnxruntime", "onnxruntime-gpu")
ON_GPUS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


def probe() -> Finding:
    """Report the version and providers, and try those for GPUs where there is one."""
    if all(installed(package) for package in PACKAGES):
        return conflict()
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    names = ", ".join(_short(name) for name in providers)
    found = f"{onnxruntime.__version__}; providers: {names}"
    usable = [name for name in ON_GPUS if name in providers]
    if not has_gpu():
        return Finding("onnxruntime", "ok", found + ("; no GPU for them" if usable else ""))
    if not usable:
        return Finding("onnxruntime", "warning", f"{found}; none for the GPU here", mend(True))
    if lacking := [reason for name in usable if (reason := _lacks(name))]:
        return Finding("onnxruntime", "warning", f"{found}. {' '.join(lacking)}", _LIBRARIES)
    return Finding("onnxruntime", "ok", found)


_LIBRARIES = (
    f"{install_extra('gpu')} (and for TensorRT: pip install tensorrt, of the version it asks for)"
)


def conflict() -> Finding:
    """Report that both packages are installed, without importing either: their files are mixed."""
    both = " and ".join(f"{package} {version(package)}" for package in PACKAGES)
    found = (
        f"{both} are both installed. They are the same files, and each has overwritten some of "
        "the other's: what runs, and on what, is chance"
    )
    return Finding("onnxruntime", "missing", found, mend(has_gpu()))


def mend(gpu: bool) -> str:
    """Return the command that removes both first, since removing one breaks the other."""
    one = install_extra("gpu" if gpu else "onnxruntime")
    return f"pip uninstall -y {' '.join(PACKAGES)} && {one}"


def _lacks(provider: str) -> str | None:
    """Say why a provider of this build does not run here; None where it does."""
    from farm.runtimes.onnxruntime import providers

    try:
        providers.load_libraries()
        providers.try_provider(provider)
    except TransientFailure as error:
        return f"{_short(provider)} does not run: {error}."
    return None


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")
