"""What a sweep without a shared folder costs, beside Ray tasks that put the same objects."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import null_sweep
import psutil
from planning import Figure
from simulated_nodes import S3Server, SimulatedNodes

from farm.store.opening import open_objects

MODELS_STEPS = 16
"""The steps of the null sweep that are not of a cell: four of each model."""


def store_figures(
    nodes: SimulatedNodes, server: S3Server, count: int, slots: int
) -> Iterator[Figure]:
    """Run a sweep of so many steps, then the bare tasks. slots: how many run at a time."""
    matrix = null_sweep.write_matrix(nodes.folder / "matrix", (count - MODELS_STEPS) // 4)
    place = f"s3://{server.bucket}/results"
    server.requests()  # those before
    used, driver, began = server.cpu_seconds(), _of_ended(), time.perf_counter()
    busy = _busy_seconds()
    null_sweep.run(matrix, place, "--address", nodes.address, "--no-mlflow")
    passed, used = time.perf_counter() - began, server.cpu_seconds() - used
    driver, busy = _of_ended() - driver, _busy_seconds() - busy
    asked = server.requests()
    names = list(open_objects(f"{place}/store").listed(""))
    steps = sum(entry.name.endswith("record.json") for entry in names)
    each, size = round(len(names) / steps), sum(entry.size for entry in names) // len(names)
    bare_used, bare_busy, began = server.cpu_seconds(), _busy_seconds(), time.perf_counter()
    words = [nodes.address, f"s3://{server.bucket}/bare", *map(str, (steps, slots, each, size))]
    bare = [sys.executable, __file__, *words]
    done = subprocess.run(bare, check=True, capture_output=True, text=True)
    whole, bare_used = time.perf_counter() - began, server.cpu_seconds() - bare_used
    bare_busy = _busy_seconds() - bare_busy
    print(
        f"  {steps} steps in {passed:.1f} s, {each} objects of {size} bytes each; CPU of the "
        f"driver {driver:.1f} s, of the server {used:.1f} s, of all programs {busy:.1f} s\n  bare "
        f"tasks {float(done.stdout):.1f} s, {whole:.1f} s with Ray's start; CPU of the server "
        f"{bare_used:.1f} s, of all programs {bare_busy:.1f} s: {busy / bare_busy:.2f} times"
    )
    print(f"  {sum(asked.values()) / steps:.2f} requests a step: {_kinds(asked, steps)}")
    yield Figure(f"{steps} steps on S3 over bare Ray tasks", passed / whole, 1.3)


def _kinds(asked: Mapping[str, int], steps: int) -> str:
    """How many requests a step has made of each kind: by method, and the end of the name."""
    kinds = Counter[str]()
    for name, count in asked.items():
        method, _, path = name.partition(" ")
        last = path.rpartition("/")[2]
        what = "claims" if "/claims/" in path else last if "." in last else "listings"
        kinds[f"{method} {what}"] += count
    return ", ".join(f"{name} {count / steps:.2f}" for name, count in kinds.most_common())


def _busy_seconds() -> float:
    """The CPU that all programs on this machine have used, in seconds.

    What the nodes' processes have used is nowhere else: Ray kills its workers with the driver, and
    with them goes what they know of their own children.
    """
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _of_ended() -> float:
    """The CPU of the processes that this one has started and waited for, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def bare_tasks(address: str, url: str, count: int, slots: int, each: int, size: int) -> None:
    """Print the seconds that so many Ray tasks take which put so many objects each."""
    import ray

    ray.init(address=address, log_to_driver=False)

    @ray.remote(max_retries=0)
    def put(number: int) -> int:
        for part in range(each):
            open_objects(url).put(f"{number}/{part}", b"x" * size)
        return number

    began, number, running = time.perf_counter(), 0, list[Any]()
    while number < count or running:
        while number < count and len(running) < slots + 2:
            running.append(put.remote(number))
            number += 1
        done, running = ray.wait(running, num_returns=1)
        ray.get(done[0])
    print(time.perf_counter() - began)
    ray.shutdown()


if __name__ == "__main__":
    bare_tasks(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
