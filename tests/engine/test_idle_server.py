"""A fork server sleeps between steps: a measurement runs beside it."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
from own_stage import step

from farm.engine.workers.limits import Limit
from farm.engine.workers.supervise import Supervisor
from farm.plan import Needs
from farm.store import Store


def test_a_server_whose_child_has_ended_uses_no_processor(tmp_path: Path) -> None:
    store, supervisor = Store(tmp_path / "store"), Supervisor()
    own = step("import os; figures['server'] = os.getppid()", Needs(own_process=True))
    supervisor.run(own, str(store.root), Limit(60))
    record = store.record(own.ref)
    assert record is not None
    server = psutil.Process(int(record.figures["server"]))
    before = sum(server.cpu_times()[:2])
    time.sleep(0.5)
    assert sum(server.cpu_times()[:2]) - before < 0.1
    supervisor.close()
