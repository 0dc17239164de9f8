"""From an ONNX file to an engine: parse, profile, memory, precision, build."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.errors import InputError, StepFailed, TransientFailure, nearest
from farm.runtimes.tensorrt import api, cuda, engine, networks
from farm.runtimes.tensorrt.api import Version, bits, logger, names, version
from farm.runtimes.tensorrt.options import TensorRtOptions, parse

if TYPE_CHECKING:
    from farm.specs import EngineOptions, Shape

log = logging.getLogger(__name__)


def build(library: Any, onnx: Path, folder: Path, options: EngineOptions) -> None:
    """Leave an engine in `folder`.

    library: the imported `tensorrt`, or the bindings of RTX.

    Raises:
        InputError: an option does not exist.
        StepFailed: the file or the options cannot be built.
        TransientFailure: the GPU here cannot be used, or memory ran out.
    """
    Build(library, options).run(onnx, folder)


class Build:
    """One build: its library, version, options and, unless it builds ahead of time, its GPU."""

    def __init__(self, library: Any, options: EngineOptions) -> None:
        self.library, self.options = library, options
        self.version: Version = version(names(library))
        self.own: TensorRtOptions = parse(options, self.version.ahead_of_time)
        self.gpu = None if self.version.ahead_of_time else cuda.gpus()[0]
        self.capability = _capability(self.version, options, self.gpu)
        self.log = logger(library)

    def run(self, onnx: Path, folder: Path) -> None:
        """Build and write the engine; without the timing cache where that spoils the build."""
        self.log.begin()
        if self.gpu:
            cuda.require_memory(self.gpu, self.options.workspace_bytes)
        api.load_plugins(self.library, self.version, self.log, tuple(self.own.plugins or ()))
        cache = self.timing_cache()
        plan = self.plan(onnx, cache)
        if plan is None and cache and engine.blames_timings(self.log.errors):
            log.info(f"no engine with the timing cache {cache}: build without it")
            self.log.begin()
            plan = self.plan(onnx, None)
        if plan is None:
            kind = TransientFailure if self.log.out_of_memory() else StepFailed
            lines = [f"{self.options.runtime} built no engine:", self.log.reason()]
            raise kind("\n".join([*lines, *networks.advice(self.log.reason())]))
        engine.write(folder, memoryview(plan), self.facts())

    def plan(self, onnx: Path, cache: Path | None) -> Any:
        """Return the engine's bytes; None where the build failed, with its errors in the log."""
        builder = self.builder()
        network = self.parsed(builder, onnx)
        config = self.config(builder, network)
        if cache:
            engine.load_timings(config, cache)
        plan = builder.build_serialized_network(network, config)
        if plan is not None and cache:
            engine.save_timings(config, cache)
        return plan

    def builder(self) -> Any:
        """Return the library's builder.

        Raises:
            TransientFailure: it cannot use the GPU here.
        """
        try:
            return self.library.Builder(self.log)
        except TypeError:  # "factory function returned nullptr"
            raise TransientFailure(
                f"{self.options.runtime} {self.library.__version__} cannot use the GPU here "
                f"({self.gpu}):\n{self.log.reason()}"
            ) from None

    def parsed(self, builder: Any, onnx: Path) -> Any:
        """Return the network of the file."""
        flags = self.version.network_flags
        if self.own.builder_flags:
            flags = _loose(self.options.runtime, self.library, self.version)
        creation = self.library.NetworkDefinitionCreationFlag
        network = builder.create_network(bits(creation, flags))
        networks.parse(self.library, self.version, network, onnx)
        return network

    def config(self, builder: Any, network: Any) -> Any:
        """Return the builder's settings by the options."""
        library, own = self.library, self.own
        config = builder.create_builder_config()
        # With TF32, on by default, fp32 convolutions keep 10 bits of their inputs' fractions, and
        # scores move by 1e-3: fp32 means fp32, in the parts of other precisions too.
        config.clear_flag(library.BuilderFlag.TF32)
        if self.options.workspace_bytes is not None:
            pool = library.MemoryPoolType.WORKSPACE
            config.set_memory_pool_limit(pool, self.options.workspace_bytes)
        if own.optimization_level is not None:
            config.builder_optimization_level = own.optimization_level
        if own.tactic_sources:
            sources = tuple(_tactic_source(library, name) for name in own.tactic_sources)
            config.set_tactic_sources(bits(library.TacticSource, sources))
        if own.version_compatible:
            config.set_flag(library.BuilderFlag.VERSION_COMPATIBLE)
        if own.hardware_compatible:
            level = library.HardwareCompatibilityLevel.AMPERE_PLUS
            config.hardware_compatibility_level = level
        if self.version.ahead_of_time:
            config.num_compute_capabilities = 1
            target = getattr(library.ComputeCapability, _sm(self.capability))
            config.set_compute_capability(target, 0)
        self._allow(network, config)
        if profile := profile_of(builder, network, self.options.shape):
            config.add_optimization_profile(profile)
        return config

    def _allow(self, network: Any, config: Any) -> None:
        """Allow a precision in a weakly typed network, and pin layers that must stay in fp32."""
        loose = self.own.builder_flags
        if self.version.strongly_typed and not loose:
            return  # the file defines all types
        wanted = self.options.precision
        flags = self.version.flags_for(wanted)
        if flags is None:
            raise StepFailed(
                f"{self.options.runtime} {self.library.__version__} has no {wanted}; it has fp32, "
                f"{', '.join(sorted(name.lower() for name in self.version.precision_flags))}"
            )
        if loose and wanted == "int8":
            raise StepFailed("int8 by the builder's flag needs a calibration")
        for name in flags:
            config.set_flag(getattr(self.library.BuilderFlag, name))
        # In a file with Q and DQ only what they enclose is int8.
        if not flags or wanted == "int8":
            return
        pin = networks.keep_decoding if loose else networks.keep_types
        pinned = pin(network, self.library)
        if self.version.constraint:
            config.set_flag(getattr(self.library.BuilderFlag, self.version.constraint))
        log.info(f"{wanted}: {pinned} of {network.num_layers} layers are kept in fp32")

    def timing_cache(self) -> Path | None:
        """Return the file of the timing cache, if one is used."""
        if self.gpu is None or self.own.timing_cache is None:
            return None
        name, number = self.library.__name__, self.library.__version__
        return engine.timing_file(self.own.timing_cache, name, number, self.gpu)

    def facts(self) -> engine.EngineFacts:
        """Return where the engine can run."""
        return engine.EngineFacts(
            library=self.options.runtime,
            version=self.library.__version__,
            compute_capability=self.capability,
            gpu=self.gpu.name if self.gpu else None,
            driver=self.gpu.branch if self.gpu else None,
            precision=self.options.precision,
            version_compatible=self.own.version_compatible,
            hardware_compatible=self.own.hardware_compatible,
            cuda=cuda.supported_version() if self.gpu else None,
        )


def profile_of(builder: Any, network: Any, shape: Shape) -> Any:
    """Return the optimisation profile of the network's free axes; None where it has none.

    Raises:
        StepFailed: the file has other fixed axes than the shape, or several inputs.
    """
    if network.num_inputs != 1:
        raise StepFailed(f"the model has {network.num_inputs} inputs; expected one, the images")
    image = network.get_input(0)
    input_shape = tuple(image.shape)
    bounds = [dims.as_tuple() for dims in (shape.min, shape.opt, shape.max)]
    for axis, *sizes in zip(input_shape, *bounds, strict=True):
        if axis != -1 and set(sizes) != {axis}:
            found = "x".join("?" if size == -1 else str(size) for size in input_shape)
            raise StepFailed(
                f"the file takes {found} (NxCxHxW), and shape {shape.name} asks for {shape.min} "
                f"to {shape.max}"
            )
    if -1 not in input_shape:
        return None
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, *bounds)
    return profile


def _capability(known: Version, options: EngineOptions, gpu: cuda.Gpu | None) -> str:
    """Return the compute capability to build for. Raises StepFailed for an unsupported one."""
    if gpu:
        return gpu.compute_capability
    wanted = options.compute_capability
    if wanted is None or _sm(wanted) not in known.compute_capabilities:
        has = ", ".join(sorted(known.compute_capabilities, key=lambda name: int(name[2:])))
        raise StepFailed(f"{options.runtime} builds for {has}, not for compute capability {wanted}")
    return wanted


def _sm(capability: str) -> str:
    return f"SM{capability.replace('.', '')}"


def _loose(runtime: str, library: Any, known: Version) -> tuple[str, ...]:
    if known.loose_network_flags is None:
        raise StepFailed(
            f"{runtime} {library.__version__} has no precision flags: its networks are always "
            "strongly typed. Leave out `builder_flags`; the precision is then in the ONNX file"
        )
    return known.loose_network_flags


def _tactic_source(library: Any, name: str) -> str:
    known = [one.lower() for one in library.TacticSource.__members__]
    if name.lower() not in known:
        raise InputError(f"there is no tactic source {name!r}{nearest(name.lower(), known)}")
    return name.upper()
