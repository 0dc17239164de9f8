"""With what an object store is opened: the address of its service, credentials, and patience."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from object_stores import S3, use

from farm.errors import InputError
from farm.files import cache_folder
from farm.store import Store
from farm.store.opening import CachedStore, open_objects, open_store, own_folder


def opened(url: str) -> Any:
    """obstore's own store, of which nothing is asked."""
    return open_objects(url)._store  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(S3(9), tmp_path, monkeypatch)
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_service_of_ones_own_is_that_of_s3_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "farm")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert opened("s3://b/x").config["endpoint"] == "http://127.0.0.1:9"
    assert opened("az://b/x").config == {"container_name": "b"}
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert "endpoint" not in opened("s3://b/x").config


def test_no_secret_goes_unencrypted_unless_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert opened("s3://b/http").client_options["allow_http"] == "true"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://host:9")
    assert "allow_http" not in opened("s3://b/https").client_options
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert opened("s3://b/either").client_options["allow_http"] == "true"


def test_the_first_request_is_made_in_a_hurry() -> None:
    objects: Any = open_objects("s3://b/x")
    hurried, patient = objects._hurried, objects._store
    for name in ("max_retries", "retry_timeout"):
        assert hurried.retry_config[name] < patient.retry_config[name]
    assert (
        hurried.retry_config["backoff"]["max_backoff"]
        < (patient.retry_config["backoff"]["max_backoff"])
    )
    for name, limits in (("connect_timeout", ("3s", "10s")), ("read_timeout", ("8s", "1m"))):
        assert (hurried.client_options[name], patient.client_options[name]) == limits


def test_what_a_machine_has_of_a_service_lies_in_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = own_folder("s3://b/x").name
    assert own_folder("s3://b/x") == tmp_path / "cache" / name and len(name) == 16
    monkeypatch.setenv("FARM_CACHE", "~/of the farm")
    assert own_folder("s3://b/x") == tmp_path / "home" / "of the farm" / name
    monkeypatch.delenv("FARM_CACHE")
    assert own_folder("s3://b/x") == cache_folder().resolve() / "remote" / name
    store: Any = open_store("s3://b/x")
    assert store.root == own_folder("s3://b/x") / "store" and store._with_inputs
    assert not open_store("s3://b/x", cached=True)._with_inputs  # type: ignore[attr-defined]
    assert type(open_store(tmp_path)) is Store
    assert type(open_store(tmp_path, cached=True)) is CachedStore


def test_what_a_machine_has_of_two_services_is_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def folders() -> list[Path]:
        return [own_folder(f"{scheme}://b/x") for scheme in ("s3", "az", "gs")]

    first = folders()
    assert len(set(first)) == 3 and folders() == first
    assert own_folder("s3://b/x/") == first[0] and own_folder("s3://b/y") != first[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://host:9/")
    second = folders()
    assert [one == other for one, other in zip(first, second, strict=True)] == [False, True, True]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://host:9")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "farm")
    third = folders()
    assert [one == other for one, other in zip(second, third, strict=True)] == [True, False, True]


def test_where_credentials_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile where there is one, else the role of the machine, if it may be asked for one."""

    def has_profile(bucket: str) -> bool:
        return opened(f"s3://{bucket}/x").credential_provider is not None

    assert not has_profile("keys")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert not has_profile("role")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "TRUE")
    with pytest.raises(InputError, match="no credentials were found"):
        opened("s3://none/x")
    file = tmp_path / "own-credentials"
    file.write_text("[default]\naws_access_key_id = farm\naws_secret_access_key = hunter2\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert has_profile("profile")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert not has_profile("public")


def test_what_is_wrong_with_aws_stops_no_other_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(S3(9), tmp_path, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "absent")
    assert open_objects("gs://none/x").url == "gs://none/x"
    with pytest.raises(InputError, match="AWS's configuration cannot be used: ProfileNotFound"):
        open_objects("s3://none/x")


@pytest.mark.parametrize(
    ("absent", "package"), [("boto3", "boto3"), ("obstore.auth.boto3", "farm[remote]")]
)
def test_a_package_that_profiles_need_is_named(
    absent: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(S3(9), tmp_path, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "any")
    monkeypatch.delitem(sys.modules, "obstore.auth.boto3", raising=False)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(InputError) as error:
        open_objects("s3://none/x")
    assert error.value.message == (
        f"AWS_PROFILE and ~/.aws need the package {package}: pip install '{package}'"
    )
