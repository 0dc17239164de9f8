"""Say in one line why a service did not do what it was asked, without what its answer quotes.

Answers and addresses may hold an access key, a signed text or a signature; so only the status, the
service's own code for the error and the kind of a failed connection are taken from them.
"""

from __future__ import annotations

import re

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_NO_CREDENTIALS = (  # the last that is asked for some is the machine itself
    *("latest/api/token", "latest/meta-data", "computeMetadata", "token request"),
    *("Account must be specified", "credential", "AccessKeyId", "SecretAccessKey"),
    "service account",
)
_REGION = "the bucket is in another region; set AWS_REGION"
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


def is_missing_bucket(text: str) -> bool:
    """Return whether an error says that there is no such bucket, and not only no such object."""
    return any(one in text for one in _NO_BUCKET)


def is_passing(error: BaseException, url: str) -> bool:
    """Return whether another try may succeed: the service has refused nothing."""
    status = _STATUS.search(str(error))
    if status:
        return int(status[1]) >= 500
    return reason_of(error, url) not in (no_credentials(url), _REGION)


def no_credentials(url: str) -> str:
    """Return what is said where none are found."""
    return f"no credentials were found; set {_KEYS.get(url.partition(':')[0], 'them')}"


def reason_of(error: BaseException, url: str) -> str:
    """Return what an error of obstore's means for an address."""
    text = str(error)
    if is_missing_bucket(text):
        return f"there is no bucket {url.partition('://')[2].partition('/')[0]!r}"
    status, code = _STATUS.search(text), _CODE.search(text)
    if not (code and status) and any(one in text for one in _NO_CREDENTIALS):
        return no_credentials(url)
    if status:
        return _refused(int(status[1]), code[1] if code else "")
    if "redirect" in text:
        return _REGION
    if "timed out" in text or "TimedOut" in text:
        return "no answer in time"
    if "error sending request" in text or "Connect" in text or "dns" in text:
        return "no connection to the service"
    if "body" in text:
        return "the connection was cut"
    return f"the service cannot be used ({type(error).__name__})"


def _refused(status: int, code: str) -> str:
    what = f"{status} {code}".strip()
    if status in (401, 403):
        return f"no right to do this there ({what}): are the credentials those of this place?"
    if status in (301, 307):
        return f"the bucket is in another region ({what}); set AWS_REGION"
    return f"the service answered {what}"
