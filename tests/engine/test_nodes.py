"""The nodes of a cluster whose Ray is simulated: so they die, stay silent or fail at will."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import wait_for
from own_stage import step

pytest.importorskip("ray")

from ray import exceptions

from farm.engine.cluster import nodes as module
from farm.engine.cluster.nodes import Nodes
from farm.errors import ClusterLost
from farm.specs import Environment
from farm.store import Store

NUMPY, ONNX = (("numpy", "2.0"),), (("onnx", "1.16"),)


@dataclass
class Simulated:
    """In place of Ray. alive: the nodes. asked: of which it was, and for which packages. failing:
    those whose next report fails. mute: those that do not report. hangs: while it is not set."""

    alive: list[str] = field(default_factory=lambda: ["a", "b"])
    asked: list[tuple[str, list[str]]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)
    answers: threading.Event = field(default_factory=threading.Event)
    exceptions: Any = exceptions

    def is_initialized(self) -> bool:
        return True

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "b")

    def nodes(self) -> list[dict[str, Any]]:
        self.answers.wait()
        found = {"Resources": {"CPU": 4.0}}
        return [
            {"NodeID": one, "Alive": one in self.alive, "NodeManagerHostname": f"host {one}"}
            | found
            for one in "abc"
        ]

    def report(self, node: str, packages: list[str], token: str) -> str:
        self.asked.append((node, packages))
        return node

    def wait(self, refs: list[str], timeout: float, num_returns: int = 1) -> Any:
        ready = [one for one in refs if one not in self.mute][:num_returns]
        if not ready:
            time.sleep(timeout)
        return ready, [one for one in refs if one not in ready]

    def get(self, ref: str, timeout: float) -> Any:
        if ref in self.failing:
            self.failing.remove(ref)
            raise exceptions.RayError("lost")
        return f"host {ref}", "a cpu", (), (), ""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    found = Simulated()
    found.answers.set()
    monkeypatch.setattr(module, "ray", found)
    monkeypatch.setattr(module, "request_report", found.report)
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    yield found
    found.answers.set()


@pytest.fixture
def nodes(cluster: Simulated, tmp_path: Path) -> Iterator[Nodes]:
    found = Nodes(Store(tmp_path / "store"))
    yield found
    cluster.answers.set()
    found.close()


def names(nodes: Nodes) -> list[str]:
    return sorted(one.id for one in nodes.known)


def test_a_node_reports_once_and_again_where_other_packages_matter(
    nodes: Nodes, cluster: Simulated
) -> None:
    nodes.learn_for([step("1", toolchain=NUMPY)])
    assert sorted(cluster.asked) == [("a", ["numpy"]), ("b", ["numpy"])]
    assert all(one.daemon for one in threading.enumerate() if one.name == "nodes")
    known = nodes.known
    assert [*nodes] == [*known]
    assert {one.id: one.machine.host for one in nodes} == {"a": "host a", "b": "host b"}
    nodes.learn_for([step("2", toolchain=NUMPY)])
    assert nodes.known is known and len(cluster.asked) == 2
    environment = Environment("openvino@x", interpreter="/x")
    nodes.learn_for([replace(step("3", toolchain=ONNX), environment=environment)])
    assert nodes.known is known and len(cluster.asked) == 2
    nodes.learn_for([step("4", toolchain=ONNX)])
    assert sorted(cluster.asked[2:]) == [(one, ["numpy", "onnx"]) for one in "ab"]
    assert nodes.known is not known and names(nodes) == ["a", "b"]


def test_a_node_that_joins_reports_and_one_that_dies_is_gone_a_while_later(
    nodes: Nodes, cluster: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.learn_for([step()])
    cluster.alive = ["b", "c"]
    wait_for(lambda: names(nodes) == ["b", "c"])
    assert sorted(cluster.asked) == [("a", []), ("b", []), ("c", [])]
    monkeypatch.setattr(module, "_GONE_S", 600.0)
    assert nodes.are_gone({"a", "b"}) == set()
    monkeypatch.setattr(module, "_GONE_S", 0.0)
    assert nodes.are_gone({"a", "b"}) == {"a"}


def test_a_node_in_doubt_reports_anew(nodes: Nodes, cluster: Simulated) -> None:
    nodes.learn_for([step()])
    for doubted, anew in (("a", ["a"]), (None, ["a", "b"])):
        cluster.asked.clear()
        nodes.doubt(doubted)
        assert not nodes.settled
        nodes.settle(60)
        assert sorted(one for one, _ in cluster.asked) == anew
        assert names(nodes) == ["a", "b"]


def test_an_answer_that_was_asked_for_before_the_doubt_does_not_count(
    nodes: Nodes, cluster: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REPORT_S", 0.05)
    cluster.mute = {"b"}
    nodes.learn_for([step()])
    cluster.asked.clear()
    for doubted, number in (("b", 1), ("a", 2), (None, 4)):
        nodes.doubt(doubted)
        wait_for(lambda number=number: len(cluster.asked) >= number, 10)  # type: ignore[misc]
    assert [one for one, _ in cluster.asked[:2]] == ["b", "a"]
    assert {one for one, _ in cluster.asked[2:]} == {"a", "b"}
    assert len(cluster.asked) == 4


def test_a_node_whose_report_is_lost_is_asked_again(nodes: Nodes, cluster: Simulated) -> None:
    cluster.failing = {"b"}
    nodes.learn_for([step()])
    wait_for(lambda: len(nodes.known) == 2)
    assert sorted(one for one, _ in cluster.asked) == ["a", "b", "b"]


def test_nodes_that_do_not_report_are_named_and_waited_for_no_longer(
    nodes: Nodes,
    cluster: Simulated,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "_REPORT_S", 0.2)
    monkeypatch.setattr(module, "_GONE_S", 600.0)
    cluster.mute = {"b"}
    nodes.learn_for([step()])
    assert names(nodes) == ["a"] and not nodes.settled
    cluster.alive = []
    nodes.settle(0.2)
    assert capsys.readouterr().err.splitlines() == [
        "No answer from host b; going on without.",
        "No answer from any node; going on without.",
    ]


def test_a_cluster_that_does_not_answer_is_lost_and_its_thread_left_behind(
    nodes: Nodes, cluster: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent_s = module._SILENT_S
    monkeypatch.setattr(module, "_SILENT_S", -1.0)
    nodes.require_cluster()  # it has not been asked anything
    monkeypatch.setattr(module, "_SILENT_S", silent_s)
    nodes.learn_for([step()])
    nodes.require_cluster()
    cluster.answers.clear()
    monkeypatch.setattr(module, "_SILENT_S", 0.1)
    monkeypatch.setattr(module, "_END_S", 0.05)
    with pytest.raises(ClusterLost):
        nodes.settle(60)
    assert not nodes.close()


@pytest.mark.parametrize("before", [True, False])
def test_a_cluster_is_lost_with_the_node_of_this_process(
    nodes: Nodes, cluster: Simulated, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GONE_S", 600.0)
    if before:
        cluster.alive = ["a"]
    nodes.learn_for([step()])
    cluster.alive = ["a"]
    wait_for(lambda: names(nodes) == ["a"])
    nodes.require_cluster()
    monkeypatch.setattr(module, "_GONE_S", 0.0)
    with pytest.raises(ClusterLost):
        nodes.require_cluster()


def test_what_has_ended_or_never_begun_is_at_its_end(
    nodes: Nodes, cluster: Simulated, tmp_path: Path
) -> None:
    assert nodes.close()
    other = Nodes(Store(tmp_path / "store"))
    other.learn_for([step()])
    assert list((tmp_path / "store" / "claims").glob("token*"))
    assert other.close() and not list((tmp_path / "store" / "claims").glob("token*"))
