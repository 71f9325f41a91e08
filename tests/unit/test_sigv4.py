"""Our signer says what AWS's own documentation and botocore say, for any key and moment."""

from __future__ import annotations

from datetime import UTC, datetime

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from ota.agent.sigv4 import Asked, Keys, Scope, path_of, signed

ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NAMES = st.text("abzAZ019:_%+~-./", min_size=1, max_size=60)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1))  # noqa: DTZ001 - made aware below


def test_the_example_of_the_documentation() -> None:
    """Amazon S3 API reference, "Signature calculations for the Authorization header", GET Object."""
    asked = Asked("GET", "examplebucket.s3.amazonaws.com", "/test.txt", {"range": "bytes=0-9"})
    moment = datetime(2013, 5, 24, tzinfo=UTC)
    found = signed(asked, Keys(ID, SECRET, ""), Scope("us-east-1"), moment)
    assert found["Authorization"] == (
        f"AWS4-HMAC-SHA256 Credential={ID}/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def theirs(url: str, method: str, keys: Keys, moment: datetime, more: dict[str, str]) -> str:
    """What botocore puts into ``Authorization``."""
    auth = S3SigV4Auth(Credentials(keys.id, keys.secret, keys.token or None), "s3", "eu-west-1")
    request = AWSRequest(method, url, headers=more)
    request.context["timestamp"] = f"{moment:%Y%m%dT%H%M%SZ}"
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    request.headers["X-Amz-Content-SHA256"] = (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    if keys.token:
        request.headers["X-Amz-Security-Token"] = keys.token
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    names = auth.signed_headers(auth.headers_to_sign(request))
    return (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, SignedHeaders={names}, "
        f"Signature={signature}"
    )


@given(
    NAMES,
    MOMENTS,
    st.sampled_from(["GET", "HEAD"]),
    st.text("abc/+=", min_size=1, max_size=80),
    st.text("xyz/+=", max_size=400),
    st.sampled_from(["updates.s3.eu-west-1.amazonaws.com", "127.0.0.1:9000", "localhost"]),
    st.integers(0, 2**40),
)
def test_botocore_agrees(
    key: str, naive: datetime, method: str, secret: str, token: str, host: str, offset: int
) -> None:
    """For every name of a store and much more, with and without a session's token and a range."""
    moment = naive.replace(tzinfo=UTC, microsecond=0)
    keys, path = Keys(ID, secret, token), path_of(key)
    more = {"range": f"bytes={offset}-", "if-match": '"a-5"'} if offset % 2 else {}
    found = signed(Asked(method, host, path, more), keys, Scope("eu-west-1"), moment)
    assert found["Authorization"] == theirs(f"https://{host}{path}", method, keys, moment, more)
    assert found.get("x-amz-security-token", "") == token


def test_secrets_are_not_shown() -> None:
    """A traceback or a log shows the id alone."""
    shown = repr(Keys(ID, SECRET, "a token"))
    assert ID in shown
    assert SECRET not in shown
    assert "a token" not in shown
