"""Whether a service keeps conditions on puts, where it does not know them or refuses the trial."""

from __future__ import annotations

import pytest
from faults import Proxy
from object_stores import S3

from farm.store.objects import Objects, Unreachable
from farm.store.opening import open_objects
from farm.store.remote import opening


@pytest.fixture
def hurried(proxy: Proxy, s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """Objects behind the proxy, of which each request is made three times at most."""
    settings = opening._settings
    monkeypatch.setattr(opening, "_settings", lambda _: settings(hurried=True))
    return open_objects(f"s3://{s3_server.bucket()}/far")


@pytest.mark.parametrize("refused", [range(2, 5), range(3, 99), range(2, 99)])
def test_a_service_that_does_not_know_conditions_keeps_none(
    hurried: Objects, proxy: Proxy, refused: range
) -> None:
    """Of the puts of the trial the third is to create, and the next to replace what was there."""
    proxy.rule = lambda method, _, before: "501" if method == "PUT" and before in refused else ""
    assert not hurried.has_conditions("probe")
    asked = proxy.seen.total()
    assert not hurried.has_conditions("probe") and proxy.seen.total() == asked  # it is tried once
    assert [*hurried.listed("")] == []


def test_a_service_that_refuses_the_trial_says_nothing_of_conditions(
    hurried: Objects, proxy: Proxy
) -> None:
    proxy.rule = lambda method, _, before: "403" if method == "PUT" and before == 2 else ""
    with pytest.raises(Unreachable, match="no right to do this there"):
        hurried.has_conditions("probe")
