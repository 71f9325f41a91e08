"""``awskms:KEY``: a key in AWS KMS; ``KEY`` is a key id, an alias or an ARN.

Credentials, region and endpoint are boto3's own: its chain of environment, profile and role, with
``AWS_DEFAULT_REGION`` and ``AWS_ENDPOINT_URL_KMS`` where they are set; an ARN names its region.
The payload is hashed here and signed with ``MessageType=DIGEST``, because KMS takes 4,096 bytes
of a message and metadata is longer. ECDSA P-256 and P-384 and RSA-PSS; KMS signs Ed25519 over
short messages only, so such a key is refused.

The role needs ``kms:GetPublicKey`` and ``kms:Sign`` on the key. Calls are bounded: 5 s to connect,
15 s to answer, three attempts.

>>> KmsSource("alias/ota-snapshot").signer(public).sign(b"payload")
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from securesystemslib.signer import Signer, SSlibKey

from signing.aws import session
from signing.errors import Malformed, Misuse, NotFound, NotPermitted, OtaError, Outage
from signing.keys.source import (
    SourceSigner,
    digest,
    hash_name,
    read_public,
    require_same,
    shown,
)

_LONGEST = 2048
_STATES = ("DisabledException", "KMSInvalidStateException")
_UNFIT = ("InvalidKeyUsageException", "UnsupportedOperationException")
_EXPIRED = ("ExpiredTokenException", "ExpiredToken", "RequestExpired")
_SKEW = re.compile(r"Signature (expired|not yet current)")
"""How KMS says that this machine's clock is wrong; the code is that of a wrong key."""
_STRANGERS = (
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationTokenException",
)


class KmsSource:
    """One key of AWS KMS."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._made: Any = None
        if not key.isascii() or not key.isprintable() or " " in key or len(key) > _LONGEST:
            raise Malformed("awskms: URI is not awskms:KEY-ID, alias/NAME or ARN", subject="awskms")

    @property
    def _where(self) -> str:
        return f"KMS key {self._key}"

    def public(self) -> SSlibKey:
        """The public half, from ``GetPublicKey``."""
        with self._translated():
            answer = self._client().get_public_key(KeyId=self._key)
        der = answer.get("PublicKey")
        if answer.get("KeyUsage", "SIGN_VERIFY") != "SIGN_VERIFY":
            raise self._unfit()
        if not isinstance(der, bytes):
            raise self._strange("the answer holds no public key")
        try:
            found = read_public(der, self._where)
        except Malformed as e:
            raise self._strange("the answer is not a public key") from e
        hash_name(found)
        return found

    def check(self, public: SSlibKey) -> None:
        """KMS answers, knows the key, and it is this keyholder's."""
        require_same(self.public(), public, self._where)

    def signer(self, public: SSlibKey) -> Signer:
        """A signer; the key is looked up and compared now."""
        self.check(public)
        return SourceSigner(public, lambda payload: self._sign(public, payload))

    def _sign(self, public: SSlibKey, payload: bytes) -> bytes:
        hashed, bits = digest(public, payload), hash_name(public)[3:]
        with self._translated():
            answer = self._client().sign(
                KeyId=self._key,
                Message=hashed,
                MessageType="DIGEST",
                SigningAlgorithm=f"{'RSASSA_PSS' if public.keytype == 'rsa' else 'ECDSA'}_SHA_{bits}",
            )
        signature = answer.get("Signature")
        if not isinstance(signature, bytes):
            raise self._strange("the answer holds no signature")
        return signature

    def _client(self) -> Any:
        if self._made is None:
            from botocore.config import Config  # noqa: PLC0415 - an optional install

            config = Config(
                connect_timeout=5,
                read_timeout=15,
                retries={"total_max_attempts": 3, "mode": "standard"},
            )
            parts = self._key.split(":")
            region = parts[3] if len(parts) >= 6 and parts[0] == "arn" else None
            self._made = session().client("kms", region_name=region, config=config)
        return self._made

    # -- what went wrong --------------------------------------------------------------------------
    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            import boto3  # noqa: F401, PLC0415 - an optional install: see that it is there
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - the same
        except ImportError as e:
            raise _no_library() from e
        try:
            yield
        except ClientError as e:
            self._answered(e)
        except BotoCoreError as e:
            self._unanswered(e)
        except (ValueError, RecursionError, TypeError, AttributeError, KeyError) as e:
            if self._made is None:
                raise self._misset("kms-endpoint", f"endpoint or region: {shown(e)}") from e
            raise self._strange("the answer is not one of KMS") from e

    def _answered(self, error: Any) -> NoReturn:
        """KMS said no."""
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == "NotFoundException":
            found: OtaError = NotFound(
                f"{self._where}: there is none in this account and region",
                code="kms-key",
                subject=self._key,
                remedy="aws kms describe-key --key-id KEY; compare account and region",
            )
        elif code.startswith("AccessDenied"):
            found = NotPermitted(
                f"{self._where}: this role may not use it",
                code="kms-denied",
                subject=self._key,
                remedy="allow kms:GetPublicKey and kms:Sign; aws sts get-caller-identity",
            )
        elif code in _STATES:
            found = NotPermitted(
                f"{self._where}: it is disabled or about to be deleted",
                code="kms-state",
                subject=self._key,
                remedy="aws kms enable-key, or cancel-key-deletion",
            )
        elif code in _UNFIT:
            found = self._unfit()
        elif code in _EXPIRED:
            found = self._expired()
        elif _SKEW.search(str(error)):
            found = NotPermitted(
                f"{self._where}: this machine's clock is too wrong for AWS",
                code="kms-clock",
                subject=self._key,
                remedy="timedatectl; set the clock, then try again",
            )
        elif code in _STRANGERS:
            found = self._misset("kms-credentials", f"AWS does not take the credentials ({code})")
        else:
            found = self._strange(f"AWS says {shown(code, 60)}")
        raise found from error

    def _unanswered(self, error: Exception) -> NoReturn:
        """Nothing came back, or nothing was sent."""
        from botocore import exceptions as boto  # noqa: PLC0415 - an optional install

        if isinstance(error, boto.NoRegionError):
            raise self._misset("kms-region", "no region is set") from error
        if isinstance(error, (boto.HTTPClientError, boto.ConnectionError)):
            raise Outage(
                f"{self._where}: KMS does not answer: {shown(error)}",
                code="kms-unreachable",
                subject=self._key,
                remedy="look at network, region and AWS_ENDPOINT_URL_KMS; then try again",
            ) from error
        if isinstance(error, boto.ParamValidationError):
            raise Malformed(f"{self._where}: not a key id", subject=self._key) from error
        name = type(error).__name__
        if any(word in name for word in ("Credential", "Token", "Profile", "SSO", "Config")):
            raise self._misset("kms-credentials", f"no usable credentials ({name})") from error
        raise self._strange(f"{name}: {shown(error)}") from error

    def _misset(self, code: str, what: str) -> NotPermitted:
        return NotPermitted(
            f"{self._where}: {what}",
            code=code,
            subject=self._key,
            remedy="aws configure list; aws sts get-caller-identity",
        )

    def _expired(self) -> NotPermitted:
        return NotPermitted(
            f"{self._where}: the credentials have expired",
            code="kms-expired",
            subject=self._key,
            remedy="renew them (aws sso login, or a new session of the role), then try again",
        )

    def _unfit(self) -> NotPermitted:
        return NotPermitted(
            f"{self._where}: this kind of key can not sign that",
            code="key-scheme",
            subject=self._key,
            remedy="a key of ECC_NIST_P256 for SIGN_VERIFY",
        )

    def _strange(self, what: str) -> Outage:
        return Outage(f"{self._where}: {what}", code="kms", subject=self._key, remedy="try again")


def _no_library() -> Misuse:
    return Misuse(
        "awskms: keys need boto3",
        code="missing-library",
        subject="awskms:",
        remedy="pip install 'ota-orchestrator[ops]'",
    )
