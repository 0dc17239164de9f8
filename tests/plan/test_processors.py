"""Kinds of processors, from texts of /proc/cpuinfo of machines of many makers and clouds."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from farm.plan.machines.processors import kind_of

TEXTS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "cpuinfo.yaml").read_text())
BY_NAME = {one["name"]: one for one in TEXTS}
X86 = [one for one in TEXTS if "vendor_id" in one["text"]]


@pytest.mark.parametrize("one", TEXTS, ids=list(BY_NAME))
def test_a_processor_is_known_by_its_system(one: dict[str, Any]) -> None:
    assert kind_of(one["text"]) == one["kind"]


def test_no_two_machines_are_of_one_kind_but_those_that_linux_cannot_tell_apart() -> None:
    seen = Counter(kind_of(one["text"]) for one in TEXTS)
    twice = {kind for kind, count in seen.items() if count > 1}
    assert twice == {BY_NAME["Graviton 2"]["kind"]} == {BY_NAME["Ampere Altra"]["kind"]}


@pytest.mark.parametrize("name", ["unknown", None])
def test_a_hypervisor_that_hides_the_model_name_hides_no_microarchitecture(
    name: str | None,
) -> None:
    kinds = set()
    for one in X86:
        line = f"model name\t: {name}\n" if name else ""
        kinds.add(kind_of(re.sub(r"model name.*\n", line, one["text"])))
    makers = ("Intel", "AMD")
    assert all(str(kind).startswith(makers) and "unknown" not in str(kind) for kind in kinds)
    assert {"AMD Zen 3 (avx2)", "Intel Ice Lake (avx2 avx512f)"} <= kinds
    assert len(kinds) == len(X86) - 2  # the two Milans differ by their names alone; so the Genoas


@pytest.mark.parametrize(
    ("stepping", "which"),
    [
        ("0", "Skylake"),
        ("4", "Skylake"),
        ("5", "Cascade Lake"),
        ("9", "Cascade Lake"),
        ("10", "Cooper Lake"),
        ("unknown", "family 6 model 85"),
    ],
)
def test_the_three_servers_of_one_model_number_are_told_apart_by_stepping(
    stepping: str, which: str
) -> None:
    text = re.sub(r"stepping.*", f"stepping\t: {stepping}", BY_NAME["Skylake, KVM"]["text"])
    assert kind_of(text) == f"Intel Xeon, {which} (avx2 avx512f)"


def test_a_processor_that_is_newer_than_the_tables_has_its_numbers_as_its_name() -> None:
    for text, kind in (
        (
            BY_NAME["Genoa"]["text"].replace("\t: 25", "\t: 99"),
            "AMD EPYC 9654, family 99 model 17 (",
        ),
        (BY_NAME["Graviton 3"]["text"].replace("0xd40", "0xfff"), "Arm part 0xfff ("),
    ):
        assert str(kind_of(text)).startswith(kind)


def test_what_one_core_lacks_is_not_of_the_kind() -> None:
    text = BY_NAME["RK3588, cores of two kinds"]["text"]
    less = text.replace("asimddp", "", 1)
    assert kind_of(less) == "Arm Cortex-A55 + Arm Cortex-A76 (asimd fp16)"


def test_a_processor_without_any_of_the_instruction_sets_says_so() -> None:
    text = BY_NAME["Milan, Azure"]["text"].replace("avx2", "")
    assert kind_of(text) == "AMD EPYC 7763, Zen 3 (no avx2)"


@pytest.mark.parametrize("text", ["", "\n\n", "processor : 0\ncpu : POWER9, altivec supported\n"])
def test_a_text_of_neither_x86_nor_arm_has_no_kind(text: str) -> None:
    assert kind_of(text) is None
