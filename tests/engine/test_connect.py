"""Reaching a Ray cluster, and which of its nodes can run a step."""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from faults import Proxy
from object_stores import S3, use
from own_stage import step

pytest.importorskip("ray")

from farm.engine.cluster import connect, private_ray, ray_thread, reports
from farm.engine.cluster.reports import Node, node_of
from farm.errors import InputError
from farm.plan import Needs, Step
from farm.plan.machines.placement import Machine, step_unsupported
from farm.specs import Gpu, Target


def test_a_port_that_is_none_is_refused_whatever_listens_at_its_last_16_bits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1] + (1 << 16)}"
        with pytest.raises(InputError, match="is not from 1 to 65535; expected HOST:PORT"):
            connect.connect(address)


def test_every_port_may_be_named() -> None:
    assert [connect._port(one) for one in ("1", "65535")] == [1, 65535]


def test_an_address_where_something_listens_is_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect._require_listener(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "127.0.0.1:0", "ray://:x"])
def test_an_address_where_nothing_listens_is_an_input_error(address: str) -> None:
    with pytest.raises(InputError, match="expected HOST:PORT, as `ray start` prints it") as error:
        connect.connect(address)
    assert error.value.where == address


def test_messages_of_a_cluster_go_to_stderr_and_of_our_own_ray_nowhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with connect.off_stdout("host:1"):
        print("of a cluster")
    with connect.off_stdout(None):
        print("of our own")
    print("after")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("after\n", "of a cluster\n")


L4 = Gpu("NVIDIA L4", "8.9", "580.1")
NODE = Machine("n1", "a cpu", {"onnx": "1.16"}, (L4,), ("L4",), 1, 4)


def refuses(machine: Machine, step: Step) -> str | None:
    return step_unsupported(step, machine)


def test_a_node_says_why_it_cannot_run_a_step() -> None:
    on_gpu = step("1", Needs(accelerator="L4"))
    assert refuses(NODE, on_gpu) is None and refuses(NODE, step("2", Needs(cpus=4))) is None
    assert refuses(NODE, step("2", Needs(cpus=5))) == "node n1 has 4 CPUs"
    assert refuses(NODE, step("3", Needs(accelerator="H100"))) == "node n1 has L4"
    bare = replace(NODE, accelerators=(), gpus=())
    assert step_unsupported(on_gpu, bare) == "node n1 has no accelerator"
    assert refuses(replace(NODE, gpu_count=0.5), on_gpu) == (
        "node n1 gives Ray no GPU (`ray start --num-gpus`)"
    )
    assert refuses(replace(NODE, gpu_count=0), step("4")) is None
    assert refuses(replace(NODE, no_store="why"), step("5")) == (
        "node n1 does not see the store: why"
    )
    planned = step("6", toolchain=(("onnx", "1.17"),))
    assert "has onnx 1.16, the plan was made with 1.17" in str(refuses(NODE, planned))
    target = Target("gpu", "L4", "L4", "8.9", "570")
    assert "driver 580), and target gpu" in str(
        refuses(NODE, step("7", Needs(accelerator="L4"), target=target))
    )


def test_what_ray_says_of_a_node_is_read() -> None:
    found = {
        "NodeID": "id",
        "Resources": {"CPU": 4.0, "GPU": 1.0, "accelerator_type:L4": 1.0, "memory": 9.0},
    }
    told = ("n1", "a cpu", (L4,), (("onnx", "1.16"),), "")
    assert node_of(found, *told) == Node("id", replace(NODE, memory_bytes=9))
    head = node_of({"NodeID": "id", "Resources": {}}, *told).machine
    assert (head.cpus, head.gpu_count, head.accelerators) == (0, 0, ())


def test_a_node_sees_an_object_store_that_was_busy_and_none_that_stays_so(
    s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Proxy(s3_server.port)) as proxy:
        use(S3(proxy.port), tmp_path, monkeypatch)
        place = f"s3://{s3_server.bucket()}/results/store"
        proxy.rule = lambda method, path, before: "503" if before < 4 else ""
        assert reports._unseen(place) == ""
        assert sum(proxy.seen.values()) == 5
        monkeypatch.setattr(reports, "_BUSY_S", 0.0)
        proxy.rule = lambda method, path, before: "503"
        assert reports._unseen(place) == "the service answered 503 SlowDown"


def test_a_node_sees_a_folder_by_the_file_that_the_driver_has_put_there(tmp_path: Path) -> None:
    assert reports._unseen(str(tmp_path)) == ""
    assert reports._unseen(str(tmp_path / "nowhere")) == "it needs a shared file system"


def test_a_ray_of_its_own_is_ended_and_a_cluster_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[str]()
    monkeypatch.setattr(private_ray, "stop", lambda: done.append("stop"))
    monkeypatch.setattr(private_ray, "kill", lambda: done.append("kill"))
    monkeypatch.setattr(ray_thread, "call", lambda *_: done.append("leave"))
    monkeypatch.setattr(ray_thread, "abandon", lambda: done.append("abandon"))
    for address, answers in ((None, True), (None, False), ("h:1", True), ("h:1", False)):
        connect.disconnect(address, answers)
    assert done == ["stop", "kill", "leave", "abandon"]
