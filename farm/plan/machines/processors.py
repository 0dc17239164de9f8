"""Which processor a text of /proc/cpuinfo is of: its microarchitecture and instruction sets.

The model name alone is not enough: a hypervisor shortens it (`AMD EPYC`, `Intel(R) Xeon(R)
Processor`) or hides instruction sets, and Linux gives none for ARM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

# Of Intel by family, microarchitecture and models: Linux, arch/x86/include/asm/intel-family.h.
_INTEL: Mapping[int, Mapping[str, tuple[int, ...]]] = {
    6: {
        "Nehalem": (0x1A, 0x1E, 0x1F, 0x2E),
        "Westmere": (0x25, 0x2C, 0x2F),
        "Sandy Bridge": (0x2A, 0x2D),
        "Ivy Bridge": (0x3A, 0x3E),
        "Haswell": (0x3C, 0x3F, 0x45, 0x46),
        "Broadwell": (0x3D, 0x47, 0x4F, 0x56),
        "Skylake": (0x4E, 0x55, 0x5E),
        "Kaby Lake": (0x8E, 0x9E),
        "Comet Lake": (0xA5, 0xA6),
        "Cannon Lake": (0x66,),
        "Ice Lake": (0x6A, 0x6C, 0x7D, 0x7E, 0x9D),
        "Tiger Lake": (0x8C, 0x8D),
        "Rocket Lake": (0xA7,),
        "Alder Lake": (0x97, 0x9A),
        "Raptor Lake": (0xB7, 0xBA, 0xBF),
        "Meteor Lake": (0xAA, 0xAC),
        "Arrow Lake": (0xB5, 0xC5, 0xC6),
        "Lunar Lake": (0xBD,),
        "Panther Lake": (0xCC,),
        "Sapphire Rapids": (0x8F,),
        "Emerald Rapids": (0xCF,),
        "Granite Rapids": (0xAD, 0xAE),
        "Silvermont": (0x37, 0x4A, 0x4D),
        "Goldmont": (0x5C, 0x5F),
        "Goldmont Plus": (0x7A,),
        "Tremont": (0x86, 0x96, 0x9C),
        "Gracemont": (0xBE,),
        "Sierra Forest": (0xAF,),
        "Clearwater Forest": (0xDD,),
        "Knights Landing": (0x57,),
        "Knights Mill": (0x85,),
    },
    19: {"Diamond Rapids": (0x01,)},
}

# Model 0x55 was made three times; the stepping shows which.
_SKYLAKE_SERVER, _STEPPINGS = 0x55, ((10, "Cooper Lake"), (5, "Cascade Lake"), (0, "Skylake"))

# Of AMD by family and first and last model: Linux, arch/x86/kernel/cpu/amd.c. The dense servers
# (Bergamo, Turin Dense), which have less cache, are kinds of their own.
_AMD: Mapping[int, tuple[tuple[int, int, str], ...]] = {
    0x17: (
        (0x00, 0x2F, "Zen"), (0x50, 0x5F, "Zen"),
        (0x30, 0x4F, "Zen 2"), (0x60, 0x7F, "Zen 2"), (0x90, 0x91, "Zen 2"), (0xA0, 0xAF, "Zen 2"),
    ),
    0x19: (
        (0x00, 0x0F, "Zen 3"), (0x20, 0x5F, "Zen 3"),
        (0xA0, 0xAF, "Zen 4c"), (0x10, 0x1F, "Zen 4"), (0x60, 0x9F, "Zen 4"),
    ),
    0x1A: (
        (0x10, 0x1F, "Zen 5c"), (0x00, 0x0F, "Zen 5"), (0x20, 0x2F, "Zen 5"),
        (0x40, 0x4F, "Zen 5"), (0x60, 0x7F, "Zen 5"),
        (0x50, 0x5F, "Zen 6"), (0x80, 0xAF, "Zen 6"), (0xC0, 0xEF, "Zen 6"),
    ),
}  # fmt: skip

_X86_MAKERS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD", "HygonGenuine": "Hygon"}

# Of ARM by implementer and part: util-linux, sys-utils/lscpu-arm.c.
_ARM: Mapping[int, tuple[str, Mapping[int, str]]] = {
    0x41: ("Arm", {
        0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9", 0xC0D: "Cortex-A12",
        0xC0E: "Cortex-A17", 0xC0F: "Cortex-A15", 0xB76: "ARM1176",
        0xD01: "Cortex-A32", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55",
        0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75",
        0xD0B: "Cortex-A76", 0xD0D: "Cortex-A77", 0xD0E: "Cortex-A76AE", 0xD41: "Cortex-A78",
        0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
        0xD48: "Cortex-X2", 0xD4B: "Cortex-A78C", 0xD4C: "Cortex-X1C", 0xD4D: "Cortex-A715",
        0xD4E: "Cortex-X3", 0xD80: "Cortex-A520", 0xD81: "Cortex-A720", 0xD82: "Cortex-X4",
        0xD0C: "Neoverse N1", 0xD49: "Neoverse N2", 0xD8E: "Neoverse N3",
        0xD40: "Neoverse V1", 0xD4F: "Neoverse V2", 0xD84: "Neoverse V3", 0xD83: "Neoverse V3AE",
        0xD4A: "Neoverse E1",
    }),
    0x43: ("Cavium", {0x0A1: "ThunderX", 0x0AF: "ThunderX2", 0x0B8: "ThunderX3"}),
    0x46: ("Fujitsu", {0x001: "A64FX"}),
    0x48: ("HiSilicon", {0xD01: "Kunpeng 920", 0xD02: "Kunpeng 920B"}),
    0x4E: ("NVIDIA", {0x003: "Denver 2", 0x004: "Carmel", 0x010: "Olympus"}),
    0x51: ("Qualcomm", {0x001: "Oryon", 0xC00: "Falkor"}),
    0x61: ("Apple", {
        0x022: "M1 Icestorm", 0x023: "M1 Firestorm", 0x024: "M1 Pro Icestorm",
        0x025: "M1 Pro Firestorm", 0x028: "M1 Max Icestorm", 0x029: "M1 Max Firestorm",
        0x032: "M2 Blizzard", 0x033: "M2 Avalanche", 0x034: "M2 Pro Blizzard",
        0x035: "M2 Pro Avalanche", 0x038: "M2 Max Blizzard", 0x039: "M2 Max Avalanche",
    }),
    0x70: ("Phytium", {0x662: "FTC662", 0x663: "FTC663"}),
    0xC0: ("Ampere", {0xAC3: "One", 0xAC4: "One A"}),
}  # fmt: skip

# The instruction sets by which runtimes choose their kernels, as Linux names them and as they are
# shown; the first is what a kind without any of them is said to lack.
_X86_SETS = (
    ("avx2", "avx2"), ("avx512f", "avx512f"), ("avx512_vnni", "avx512_vnni"),
    ("avx512_bf16", "avx512_bf16"), ("avx512_fp16", "avx512_fp16"), ("avx_vnni", "avx_vnni"),
    ("amx_int8", "amx_int8"), ("amx_bf16", "amx_bf16"), ("amx_fp16", "amx_fp16"),
)  # fmt: skip
_ARM_SETS = (
    ("asimd", "asimd"), ("neon", "neon"), ("asimdhp", "fp16"), ("asimddp", "dotprod"),
    ("i8mm", "i8mm"), ("bf16", "bf16"), ("sve", "sve"), ("sve2", "sve2"), ("sme", "sme"),
)  # fmt: skip

_NOISE = re.compile(
    r"\((?:R|TM)\)|\([^)]*\)|\b(?:CPU|Processor)\b|\b[\w-]+-Core\b|@", re.IGNORECASE
)
"""What a model name has beside the model: trade marks, a hypervisor's notes, the cores."""

Fields = Mapping[str, str]
"""What /proc/cpuinfo says of one core."""


def kind_of(cpuinfo: str) -> str | None:
    """Return the kind of the processor: model, microarchitecture and instruction sets.

    `Intel Xeon Platinum 8370C 2.80GHz, Ice Lake (avx2 avx512f)`, `Arm Neoverse V1 (asimd fp16
    dotprod i8mm bf16 sve)`. Where cores differ, all kinds of cores and what all of them have.

    Args:
        cpuinfo: The text of /proc/cpuinfo on x86 or ARM.

    Returns:
        The kind; None where the text is of neither.
    """
    cores = list(_cores(cpuinfo))
    if any("vendor_id" in core and "flags" in core for core in cores):
        return f"{_x86(cores[0])} ({_sets(cores, 'flags', _X86_SETS)})"
    if arm := [core for core in cores if "CPU part" in core]:
        names = sorted({_arm(core) for core in arm})
        return f"{' + '.join(names)} ({_sets(arm, 'Features', _ARM_SETS)})"
    return None


def _cores(cpuinfo: str) -> Iterator[Fields]:
    """What is said of each core; what is said of the whole board is left out."""
    for block in re.split(r"\n\s*\n", cpuinfo.strip()):
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        if "processor" in fields:
            yield fields


def _x86(core: Fields) -> str:
    name = " ".join(_NOISE.sub(" ", core.get("model name", "")).split())
    numbers = (_number(core.get(one, "")) for one in ("cpu family", "model", "stepping"))
    family, model, stepping = numbers
    which = _x86_microarchitecture(core["vendor_id"], family, model, stepping)
    which = which or f"family {core.get('cpu family')} model {core.get('model')}"
    if not name or name == "unknown":
        return f"{_X86_MAKERS.get(core['vendor_id'], core['vendor_id'])} {which}"
    return f"{name}, {which}"


def _x86_microarchitecture(vendor: str, family: int, model: int, stepping: int) -> str | None:
    if vendor == "AuthenticAMD":
        rows = _AMD.get(family, ())
        return next((name for first, last, name in rows if first <= model <= last), None)
    if vendor != "GenuineIntel":
        return None
    if (family, model) == (6, _SKYLAKE_SERVER):
        return next((name for first, name in _STEPPINGS if stepping >= first), None)
    known = _INTEL.get(family, {}).items()
    return next((name for name, models in known if model in models), None)


def _arm(core: Fields) -> str:
    implementer, part = core.get("CPU implementer", ""), core["CPU part"]
    maker, parts = _ARM.get(_number(implementer), (f"ARM of implementer {implementer}", {}))
    return f"{maker} {parts.get(_number(part), f'part {part}')}"


def _sets(cores: Iterable[Fields], field: str, shown: Sequence[tuple[str, str]]) -> str:
    """The instruction sets that all cores have."""
    common = set.intersection(*(set(core.get(field, "").split()) for core in cores))
    names = [name for flag, name in shown if flag in common]
    return " ".join(names) or f"no {shown[0][1]}"


def _number(text: str) -> int:
    """A number in decimal or with 0x; -1 for another text (`unknown`, in a sandbox)."""
    try:
        return int(text, 0)
    except ValueError:
        return -1
