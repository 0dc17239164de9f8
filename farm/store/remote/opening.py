"""Open the objects of an address, as the environment says how."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from farm.errors import InputError, nearest
from farm.store.remote.reasons import no_credentials, reason_of
from farm.store.remote.service import ObstoreObjects

SCHEMES = ("s3", "gs", "az")

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_OWN_CREDENTIALS = (
    *("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)
_INSTALL = "object stores need the package obstore: pip install 'farm[remote]'"


def opened(url: str) -> ObstoreObjects:
    """Return the objects of an address, without asking the service anything.

    Raises:
        InputError: the address is wrong, a package is missing, or there are no credentials.
    """
    return _opened(url, endpoint(url))


@cache
def _opened(url: str, endpoint: str) -> ObstoreObjects:
    """The objects of an address, and their connections, once in a process."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        known = nearest(scheme, SCHEMES)
        raise InputError(f"no object store has addresses that begin with {scheme}://{known}", url)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[^?#]*)?", rest):
        raise InputError("expected BUCKET/PATH, without credentials", f"{scheme}://")
    options = {"endpoint": endpoint} if scheme == "s3" and endpoint else {}
    return ObstoreObjects(url.rstrip("/"), _opener(url, options | _credentials(scheme, url)))


def endpoint(url: str) -> str:
    """Return the address of the service where it is not the usual one; by it, too, places differ.

    Raises:
        InputError: it is no address.
    """
    if not url.startswith("s3://"):
        return os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "") if url.startswith("az") else ""
    name = next((one for one in _ENDPOINTS if os.environ.get(one)), None)
    if name is None:
        return ""
    found = os.environ[name]
    if not re.fullmatch(r"https?://[A-Za-z0-9._\[\]:-]+(/[^?#@\s]*)?", found):
        raise InputError("expected http://HOST:PORT or https://HOST", name)
    return found.rstrip("/")


def _credentials(scheme: str, url: str) -> dict[str, Any]:
    """Those that obstore does not take from the environment by itself."""
    if scheme != "s3" or any(os.environ.get(name) for name in _OWN_CREDENTIALS):
        return {}
    if _has_profile():
        return {"credential_provider": _profile(url)}
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise InputError(no_credentials(url), url)
    return {}  # it asks the machine, which may have a role


def _has_profile() -> bool:
    files = (
        Path(os.environ.get(name) or Path.home() / ".aws" / file)
        for name, file in (
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"),
        )
    )  # fmt: skip
    return bool(os.environ.get("AWS_PROFILE")) or any(path.is_file() for path in files)


def _profile(url: str) -> Any:
    """The credentials of AWS's own configuration files. Raises InputError."""
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        missing = "boto3" if error.name and error.name.startswith("boto") else "farm[remote]"
        reason = f"AWS_PROFILE and ~/.aws need the package {missing}: pip install '{missing}'"
        raise InputError(reason, url) from None
    try:
        return Boto3CredentialProvider()
    except Exception as error:  # of boto3: no such profile, a broken file
        raise InputError(
            f"AWS's configuration cannot be used: {type(error).__name__}", url
        ) from None


def _opener(url: str, options: dict[str, Any]) -> Callable[[bool], Any]:
    """What makes obstore's store of an address, hurried or not."""
    try:
        from obstore.store import from_url
    except ImportError:
        raise InputError(_INSTALL, url) from None

    def opened(hurried: bool) -> Any:
        found = _settings(hurried)
        if options.get("endpoint", "").startswith("http://") or "AWS_ALLOW_HTTP" in os.environ:
            found["client_options"]["allow_http"] = True
        try:
            return from_url(url, **options, **found)
        except Exception as error:  # obstore has no common class for wrong options
            raise InputError(reason_of(error, url), url) from None

    return opened


def _settings(hurried: bool) -> dict[str, Any]:
    """Return how long a request may take, and how often it is tried.

    hurried: for the first request, so that a wrong address is said in seconds.
    """
    retries, total, pause = (2, 6, 1) if hurried else (8, 120, 5)
    backoff = {
        "init_backoff": timedelta(seconds=0.1),
        "max_backoff": timedelta(seconds=pause),
        "base": 2,
    }
    return {
        "client_options": {
            "connect_timeout": timedelta(seconds=3 if hurried else 10),
            "read_timeout": timedelta(seconds=8 if hurried else 60),
            "timeout": timedelta(hours=6),  # of a whole download; a stalled one ends before
        },
        "retry_config": {
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=total),
            "backoff": backoff,
        },
    }
