"""DSSE envelopes of every kind: the signed payload comes out, or ``Refusal``, and nothing else."""

from __future__ import annotations

import base64
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner, Signer
from simulators.mutations import budget, damaged, dumps, mutated

from signing import statement
from signing.errors import Refusal
from signing.statement import Kind, Statement

KINDS: tuple[Kind, ...] = get_args(Kind)
SIGNERS: tuple[Signer, ...] = (CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa())
KEYS = [signer.public_key for signer in SIGNERS]
BODY = {"schema": 1, "device": "gw-1", "detail": "naïve\nlines", "rows": [["a", 0], {"x": True}]}
ENVELOPES: dict[Kind, bytes] = {kind: statement.sign(kind, BODY, *SIGNERS) for kind in KINDS}
CODES = {"statement-malformed", "statement-signature"}


def judged(kind: Kind, data: bytes, threshold: int = 1) -> Statement | None:
    """The verified statement; None when it was refused by one of the two codes."""
    try:
        return statement.verify(kind, data, KEYS, threshold)
    except Refusal as refusal:
        assert refusal.code in CODES
        return None


def payload_of(body: bytes, kind: Kind) -> bytes:
    """An envelope of any bytes, honestly signed."""
    return statement.sign(kind, body, *SIGNERS)


@budget(1)
@given(st.sampled_from(KINDS), st.data())
def test_damaged_bytes(kind: Kind, data: st.DataObject) -> None:
    """Whatever happens to an envelope's bytes, what verifies is what was signed."""
    found = judged(kind, data.draw(damaged(ENVELOPES[kind], others=ENVELOPES["plan"])))
    assert found is None or found.body == BODY


@budget(2)
@given(st.sampled_from(KINDS), st.data())
def test_mutated_envelope(kind: Kind, data: st.DataObject) -> None:
    """The same for its structure: signatures, their ids, type and payload."""
    changed = dumps(data.draw(mutated(json.loads(ENVELOPES[kind]))))
    for threshold in (1, 2):
        found = judged(kind, changed, threshold)
        assert found is None or (found.body == BODY and len(found.signers) >= threshold)


@budget(1)
@given(st.sampled_from(KINDS), mutated(BODY))
def test_signed_nonsense(kind: Kind, body: Any) -> None:
    """A signer who signs nonsense: strict JSON comes out as it was written, or it is refused."""
    written = dumps(body)
    found = judged(kind, payload_of(written, kind))
    assert found is None or (found.payload == written and found.body == json.loads(written))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_no_kind_stands_for_another(kind: Kind, other: Kind) -> None:
    """Every kind under every other payload type, re-labelled or not, is refused."""
    assert (judged(other, ENVELOPES[kind]) is None) is (kind != other)
    renamed = json.loads(ENVELOPES[kind]) | {"payloadType": statement.payload_type(other)}
    assert (judged(other, json.dumps(renamed).encode()) is None) is (kind != other)


def test_text_that_no_file_can_hold() -> None:
    r"""Half a surrogate pair (``"\ud800"``) is JSON and is not text: refused, not passed on."""
    body = rb'{"device":"\ud800"}'
    with pytest.raises(Refusal) as caught:
        statement.verify("report", payload_of(body, "report"), KEYS)
    assert caught.value.code == "statement-malformed"
    outer = json.loads(ENVELOPES["report"])
    outer["signatures"][0]["keyid"] = "\ud800"
    outer["payload"] = base64.b64encode(b"{}").decode()
    with pytest.raises(Refusal):
        statement.peek("report", json.dumps(outer).encode())
