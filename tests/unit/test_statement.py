"""DSSE statements: exact types, thresholds of distinct keys, and hostile envelopes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from signing import statement
from signing.errors import Refusal
from signing.statement import Kind

A, B, C = (CryptoSigner.generate_ed25519() for _ in range(3))
BODY = {"schema": 1, "text": "line\nline"}
DATA = statement.sign("report", BODY, A, B)


def test_a_statement_is_read_back_with_its_signers() -> None:
    """Body, exact payload bytes, and who signed."""
    seen = statement.verify("report", DATA, [A.public_key, B.public_key], 2)
    assert seen.body == BODY
    assert set(seen.signers) == {A.public_key.keyid, B.public_key.keyid}
    assert json.loads(seen.payload) == BODY
    assert statement.peek("report", DATA).signers == ()
    assert statement.peek("report", DATA).digest == seen.digest


@pytest.mark.parametrize("scheme", ["ecdsa", "rsa"])
def test_other_schemes_sign_statements(scheme: str) -> None:
    """Device keys are ECDSA; KMS keys are RSA or ECDSA."""
    signer = CryptoSigner.generate_ecdsa() if scheme == "ecdsa" else CryptoSigner.generate_rsa()
    data = statement.sign("enrolment", BODY, signer)
    assert statement.verify("enrolment", data, [signer.public_key]).body == BODY


KINDS: tuple[Kind, ...] = ("report", "plan", "approval", "enrolment", "receipt")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", KINDS)
def test_no_statement_stands_for_another(kind: Kind, asked: Kind) -> None:
    """The payload type is part of what is signed, and compared exactly."""
    data = statement.sign(kind, BODY, A)
    if kind == asked:
        assert statement.verify(asked, data, [A.public_key]).body == BODY
        return
    with pytest.raises(Refusal) as caught:
        statement.verify(asked, data, [A.public_key])
    assert caught.value.code == "statement-malformed"
    relabelled = data.replace(f".{kind}.".encode(), f".{asked}.".encode())
    with pytest.raises(Refusal) as caught:
        statement.verify(asked, relabelled, [A.public_key])
    assert caught.value.code == "statement-signature"


def test_one_key_twice_does_not_reach_two() -> None:
    """A threshold counts distinct keys."""
    envelope = json.loads(statement.sign("plan", BODY, A))
    envelope["signatures"] *= 2
    data = json.dumps(envelope).encode()
    with pytest.raises(Refusal):
        statement.verify("plan", data, [A.public_key, B.public_key], 2)
    with pytest.raises(Refusal):
        statement.verify("plan", data, [A.public_key, A.public_key], 2)


@pytest.mark.parametrize("keys", [[], [C.public_key]])
def test_without_the_right_key_there_is_no_statement(keys: list[Any]) -> None:
    """No key, or another one."""
    with pytest.raises(Refusal) as caught:
        statement.verify("report", DATA, keys)
    assert caught.value.code == "statement-signature"


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    envelope = json.loads(DATA)
    result = change(envelope)
    return json.dumps(envelope if result is None or isinstance(result, str) else result).encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "not json": b"\xff",
    "a list": b"[]",
    "no payload": edited(lambda e: e.pop("payload")),
    "another field": edited(lambda e: e.update(x=1)),
    "type missing": edited(lambda e: e.pop("payloadType")),
    "type in capitals": edited(lambda e: e.update(payloadType=e["payloadType"].upper())),
    "type is a number": edited(lambda e: e.update(payloadType=1)),
    "payload is a number": edited(lambda e: e.update(payload=1)),
    "payload is no base64": edited(lambda e: e.update(payload="*")),
    "payload is empty": edited(lambda e: e.update(payload="")),
    "payload has duplicate keys": edited(lambda e: e.update(payload=b64(b'{"a":1,"a":2}'))),
    "payload has a float": edited(lambda e: e.update(payload=b64(b'{"a":1.5}'))),
    "payload is deep": edited(lambda e: e.update(payload=b64(b"[" * 9999))),
    "signatures are no list": edited(lambda e: e.update(signatures={})),
    "signatures are numbers": edited(lambda e: e.update(signatures=[1])),
    "signature without id": edited(lambda e: e.update(signatures=[{"sig": "aa"}])),
    "signature is a number": edited(lambda e: e.update(signatures=[{"keyid": "a", "sig": 1}])),
    "33 signatures": edited(lambda e: e.update(signatures=e["signatures"] * 17)),
    "truncated": DATA[:-10],
    "followed": DATA + b"x",
    "duplicate field": DATA[:-1] + b',"payload":""}',
    "oversize": b'{"payload":"' + b"A" * (2 * statement.LIMITS["report"]) + b'"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_envelope_is_refused_by_name(name: str) -> None:
    """Never an exception of another library, never a half-read statement."""
    for call in (
        lambda: statement.peek("report", HOSTILE[name]),
        lambda: statement.verify("report", HOSTILE[name], [A.public_key]),
    ):
        with pytest.raises(Refusal) as caught:
            call()
        assert caught.value.code == "statement-malformed"


def test_every_flipped_bit_of_the_payload_is_refused() -> None:
    """Each bit of the signed bytes counts."""
    envelope = json.loads(DATA)
    payload = base64.b64decode(envelope["payload"])
    for position in range(len(payload)):
        data = bytearray(payload)
        data[position] ^= 1
        envelope["payload"] = b64(bytes(data))
        with pytest.raises(Refusal):
            statement.verify("report", json.dumps(envelope).encode(), [A.public_key])
