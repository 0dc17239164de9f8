"""The files in cluster/: what Ray, KubeRay, a shell and Docker would refuse of them, as far as that
can be told without a cloud."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PROJECT
from packaging.requirements import Requirement
from packaging.version import Version

from farm.plan.machines.placement import COMPUTE_CAPABILITIES
from farm.run import add_command

CLUSTER = PROJECT / "cluster"
FILES = ("aws.yaml", "gcp.yaml", "rayjob.yaml")
SCRIPTS = sorted(path.name for path in CLUSTER.glob("*.sh"))
TOKENS = Version("2.52")
"""The first version of Ray that has them."""


def read(name: str) -> dict[str, Any]:
    found = yaml.safe_load((CLUSTER / name).read_text())
    assert isinstance(found, dict)
    return found


JOB = read("rayjob.yaml")
CONSTRAINTS = dict(
    re.findall(r"^([\w.-]+)==([\w.]+)", (PROJECT / "constraints.txt").read_text(), re.M)
)


def workers(name: str) -> dict[str, dict[str, Any]]:
    """The groups of workers of a file as Ray's autoscaler sees them."""
    if name == "rayjob.yaml":
        config = pytest.importorskip("ray.autoscaler._private.kuberay.autoscaling_config")
        metadata = {"name": "farm", "namespace": "default"}
        cluster = {"metadata": metadata, "spec": JOB["spec"]["rayClusterSpec"]}
        found = config._derive_autoscaling_config_from_ray_cr(cluster)
    else:
        found = read(name)
    types = dict(found["available_node_types"])
    del types[found["head_node_type"]]
    return types


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_ray_up_takes_the_file(name: str) -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    util.validate_config(util.fillout_defaults(read(name)))
    with pytest.raises(Exception, match="max_wrokers"):  # its schema is closed
        util.validate_config(util.fillout_defaults(read(name) | {"max_wrokers": 1}))


def test_kuberay_takes_the_job() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = yaml.safe_load((Path(__file__).parent / "rayjob_schema.yaml").read_text())
    jsonschema.validate(JOB, schema)
    wrong = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())
    wrong["spec"]["rayClusterSpec"]["authOptions"]["mode"] = "tokens"
    with pytest.raises(jsonschema.ValidationError, match="tokens"):
        jsonschema.validate(wrong, schema)


def test_the_job_keeps_the_rules_of_kuberay_that_are_in_no_schema() -> None:
    # Of ray-operator/controllers/ray/utils/validation.go, and of the schema's CEL rules.
    spec = JOB["spec"]
    assert "shutdownAfterJobFinishes" not in spec and "ttlSecondsAfterFinished" not in spec
    rules = spec["deletionStrategy"]["deletionRules"]
    statuses = [
        frozenset(rule["condition"].items()) - {("ttlSeconds", rule["condition"]["ttlSeconds"])}
        for rule in rules
    ]
    assert all(len(one) == 1 for one in statuses) and len(set(statuses)) == len(rules)
    # Workers are the autoscaler's to remove.
    assert {rule["policy"] for rule in rules} == {"DeleteCluster"}
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == CONSTRAINTS["ray"] and Version(cluster["rayVersion"]) >= TOKENS
    for group in cluster["workerGroupSpecs"]:
        given = {"num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"])
        assert not given  # `resources` of the group has them


@pytest.mark.parametrize("name", FILES)
def test_steps_run_on_workers_alone_and_groups_scale_to_zero(name: str) -> None:
    found = workers(name)
    kinds = {group: _accelerators(found[group]["resources"]) for group in found}
    assert kinds.pop("cpu") == []
    for group, kind in kinds.items():
        assert [one.lower() for one in kind] == [group] and kind[0] in COMPUTE_CAPABILITIES
        assert found[group]["resources"]["GPU"] >= 1
    assert len(kinds) >= 3
    for group in found.values():
        assert group["min_workers"] == 0 < group["max_workers"]
    if name == "rayjob.yaml":
        head = JOB["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]
        assert head["num-cpus"] == "0"
    else:
        head = read(name)["available_node_types"]["head"]
        assert head["resources"] == {"CPU": 0} and head["max_workers"] == 0


def _accelerators(resources: dict[str, Any]) -> list[str]:
    prefix = "accelerator_type:"
    return [name.removeprefix(prefix) for name in resources if name.startswith(prefix)]


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_every_node_of_ray_up_has_the_token_and_a_private_folder(name: str) -> None:
    config = read(name)
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "chmod 700 ~/.ray && chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    assert "mkdir -p -m 700 ~/ray" in config["setup_commands"]
    for start in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        (command,) = (one for one in start if "ray start" in one)
        assert "export RAY_AUTH_MODE=token RAY_TMPDIR=$HOME/ray;" in command
    (head,) = (one for one in config["head_start_ray_commands"] if "--head" in one)
    assert "--dashboard-host 127.0.0.1" in head


@pytest.mark.parametrize("name", [*SCRIPTS, "aws.yaml", "gcp.yaml", "rayjob.yaml"])
def test_commands_of_the_farm_have_options_that_it_has(name: str) -> None:
    parser = argparse.ArgumentParser()
    add_command(parser)
    text = re.sub(r"\\\n#?", " ", (CLUSTER / name).read_text()).replace("\n#", "\n")
    lines = [
        re.sub(r"^\s*(entrypoint: |ray job submit .*-- +)", "", line) for line in text.splitlines()
    ]
    commands = [
        line.strip() for line in lines if re.match(r"(farm |python -m farm\.)run ", line.strip())
    ]
    assert commands
    for command in commands:
        words = shlex.split(command.replace('"$@"', "matrices/demo.yaml"))
        after = words.index("farm.run" if "farm.run" in words else "run") + 1
        options = parser.parse_args(words[after:])
        assert (PROJECT / options.matrix).is_file()
        assert not options.results or options.results.startswith(("/", "$PWD"))


def test_scripts_are_ones() -> None:
    assert SCRIPTS == ["local.sh", "slurm.sh"]
    for name in SCRIPTS:
        path = CLUSTER / name
        assert os.access(path, os.X_OK)
        assert "\nset -euo pipefail\numask 077\n" in path.read_text()
        checks = [["bash", "-n"], *([["shellcheck"]] if shutil.which("shellcheck") else [])]
        for check in checks:
            done = subprocess.run([*check, str(path)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


# The image --------------------------------------------------------------------------------------

KNOWN = {"ARG", "FROM", "RUN", "ENV", "COPY", "WORKDIR", "USER"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their words, without comments, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (CLUSTER / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def test_the_image_is_made_of_stages_and_files_that_are_there() -> None:
    stages: list[str] = []
    for name, words in instructions():
        assert name in KNOWN
        if name == "FROM":
            base, _, stage = words.partition(" AS ")
            assert base in stages or base == "python:${PYTHON}-slim-bookworm"
            assert stage not in stages
            stages.append(stage)
        elif name == "COPY":
            options = [word for word in words.split() if word.startswith("--")]
            *sources, target = (word for word in words.split() if not word.startswith("--"))
            assert len(sources) == 1 or target.endswith("/")
            if origin := [one.removeprefix("--from=") for one in options if "--from=" in one]:
                assert origin[0] in stages
            else:
                assert all((PROJECT / source).exists() for source in sources)
                assert all(not _is_ignored(source) for source in sources)
    assert {"cpu", "cuda"} <= set(stages)
    assert instructions()[-1] == ("USER", "farm")  # nothing runs as root


def _is_ignored(source: str) -> bool:
    lines = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines
    return f"!{source}" not in lines


def test_the_image_has_what_its_setup_needs() -> None:
    # tools/setup.py reads these, and installs the project as it lies there.
    copied = " ".join(words for name, words in instructions() if name == "COPY")
    from_setup = re.findall(r'"(\S+\.(?:py|toml|txt))"', _assignment("tools/setup.py", "RECIPE"))
    readme = re.search(r'^readme = "(.*)"', (PROJECT / "pyproject.toml").read_text(), re.M)
    assert readme is not None and from_setup
    for needed in (*from_setup, readme[1], "LICENSE", "farm"):
        assert needed in copied.split()


def _assignment(path: str, name: str) -> str:
    found = re.search(rf"^{name} = (.*)$", (PROJECT / path).read_text(), re.M)
    assert found is not None
    return found[1]


def test_every_package_of_the_image_has_a_version_that_fits() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    pinned = {name.lower().replace("_", "-"): version for name, version in CONSTRAINTS.items()}
    images = [words.split("=", 1)[1] for _, words in instructions() if words.startswith("EXTRAS=")]
    assert len(images) == 2
    for extras in images:
        wanted = [*project["dependencies"]]
        for extra in extras.split(","):
            wanted += project["optional-dependencies"][extra]
        for requirement in map(Requirement, wanted):
            name = requirement.name.lower().replace("_", "-")
            assert pinned[name] in requirement.specifier, requirement
