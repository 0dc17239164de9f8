"""What an error of a service means, in one line, and whether another try may succeed."""

from __future__ import annotations

import pytest

from farm.store.remote.reasons import is_passing, reason_of

NO_CREDENTIALS = (
    "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
)
REGION = "the bucket is in another region; set AWS_REGION"


def answer(status: int, code: str = "") -> str:
    body = f"<Error><Code>{code}</Code><Resource>/b?X-Signature=hunter2</Resource>" if code else ""
    return f"Server returned non-2xx status code: {status}: {body}"


@pytest.mark.parametrize(
    ("text", "reason", "passing"),
    [
        (answer(404, "NoSuchBucket"), "there is no bucket 'b'", False),
        (answer(403, "AccessDenied"), "no right to do this there (403 AccessDenied): are the "
         "credentials those of this place?", False),
        (answer(403, "InvalidAccessKeyId"), "no right to do this there (403 InvalidAccessKeyId): "
         "are the credentials those of this place?", False),
        (answer(401), "no right to do this there (401): are the credentials those of this place?",
         False),
        (answer(301, "PermanentRedirect"), "the bucket is in another region (301 "
         "PermanentRedirect); set AWS_REGION", False),
        (answer(307), "the bucket is in another region (307); set AWS_REGION", False),
        (answer(499), "the service answered 499", False),
        (answer(500), "the service answered 500", True),
        (answer(503, "SlowDown"), "the service answered 503 SlowDown", True),
        ("missing AccessKeyId", NO_CREDENTIALS, False),
        (f"http://169.254.169.254/latest/api/token: {answer(404)}", NO_CREDENTIALS, False),
        ("Received redirect without LOCATION", REGION, False),
        ("operation timed out", "no answer in time", True),
        ("kind: TimedOut", "no answer in time", True),
        ("error sending request", "no connection to the service", True),
        ("Connect", "no connection to the service", True),
        ("dns error", "no connection to the service", True),
        ("error decoding response body", "the connection was cut", True),
        ("hunter2", "the service cannot be used (OSError)", True),
    ],
)  # fmt: skip
def test_the_reason_of_an_error(text: str, reason: str, passing: bool) -> None:
    error = OSError(text)
    assert reason_of(error, "s3://b/x") == reason
    assert is_passing(error, "s3://b/x") is passing


def test_the_variables_of_each_service_are_named() -> None:
    for url, name in (("gs://b", "GOOGLE_APPLICATION_CREDENTIALS"), ("az://b", "AZURE_STORAGE")):
        assert f"; set {name}" in reason_of(OSError("missing credential"), url)
