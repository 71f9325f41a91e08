"""The hint document at Systems Manager: one fixed text, named by its own hash, sent pinned.

It runs ``ota-agent relay`` and nothing else. Parameters reach it as environment variables
(``interpolationType: ENV_VAR``), each held to a pattern by Systems Manager and again, strictly, by
the relay, so none is ever part of a shell's text. Its name carries the hash of its content, so one
name has one content for ever; what lies under that name is compared before the first use of a
process, and every command is sent with version and hash. A document that somebody changed is
evidence, and nothing is sent. And if it were sent all the same: on the device it is a hint.

Source: Systems Manager, SSM document schema 2.2; SendCommand ``DocumentHash``.

>>> ensure(api, "ota").name
'ota-relay-5f1c0a9d8b7e'
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final, NamedTuple

from ota.aws.api import Api, Said
from ota.errors import Malformed, Refusal
from signing import strict

ACKS: Final = 100
"""Reports acknowledged by one command."""
WAIT: Final = 20
"""Seconds that a visit waits for a report where one is expected."""
LIMIT: Final = 20_000
"""Bytes of an answer: GetCommandInvocation's output stops at 24,000 characters."""
_ORDER: Final = "ota-[A-Za-z0-9_-]{1,60}"
_REPORT: Final = r"[0-9]{10}-[0-9a-f]{8}\.json"
_SCRIPT: Final = (
    "set -efu",
    'export PATH="$PATH:/opt/ota/bin"',
    f'set -- --device "$SSM_Device" --max-bytes {LIMIT} --wait "$SSM_Wait"',
    'if [ "$SSM_Device" = "-" ]; then shift 2; fi',
    'if [ -n "$SSM_Config" ]; then set -- "$@" --config "$SSM_Config"; fi',
    'if [ -n "$SSM_Order" ]; then set -- "$@" --order "$SSM_Order" --rollout "$SSM_Rollout"; fi',
    'for name in $SSM_Acks; do set -- "$@" --ack "$name"; done',
    'for name in $SSM_Cancels; do set -- "$@" --cancel "$name"; done',
    'if [ "$SSM_Look" = yes ]; then set -- "$@" --look; fi',
    'exec timeout -k 10 90 ota-agent relay "$@"',
)


def _list(item: str) -> str:
    return f"^({item}( {item}){{0,{ACKS - 1}}})?$"


def _parameter(pattern: str, default: str, description: str) -> dict[str, str]:
    return {
        "type": "String",
        "default": default,
        "description": description,
        "allowedPattern": pattern,
        "interpolationType": "ENV_VAR",
    }


def content() -> bytes:
    """The document's exact bytes."""
    document = {
        "schemaVersion": "2.2",
        "description": "ota: wake the agent and take its signed reports along. Trusted with nothing.",
        "parameters": {
            "Order": _parameter(f"^({_ORDER})?$", "", "The order to look for."),
            "Rollout": _parameter("^[A-Za-z0-9:_-]{0,128}$", "", "Its rollout."),
            "Acks": _parameter(_list(_REPORT), "", "Reports that are safe here."),
            "Cancels": _parameter(_list(_ORDER), "", "Orders that are withdrawn."),
            "Device": _parameter("^(-|[A-Za-z0-9:_-]{1,128})$", "-", "The device that is meant."),
            "Wait": _parameter("^[0-9]{1,2}$", "0", "Seconds to wait for a report."),
            "Look": _parameter("^(yes|no)$", "yes", "Look at once where no agent runs."),
            "Config": _parameter("^(/[A-Za-z0-9._/-]{1,200})?$", "", "Its agent.toml."),
        },
        "mainSteps": [
            {
                "action": "aws:runShellScript",
                "name": "relay",
                "precondition": {"StringEquals": ["platformType", "Linux"]},
                "inputs": {"timeoutSeconds": "120", "runCommand": list(_SCRIPT)},
            }
        ],
    }
    return json.dumps(document, indent=1, sort_keys=True).encode()


class Pinned(NamedTuple):
    """A document as commands name it."""

    name: str
    version: str
    sha256: str


def name(prefix: str) -> str:
    """``PREFIX-relay-`` and the first twelve hex digits of the content's SHA-256."""
    return f"{prefix}-relay-{strict.digest(content())[:12]}"


def ensure(api: Api, prefix: str) -> Pinned:
    """Create the document unless it is there; ``Refusal("ssm-document")`` when it differs."""
    wanted = name(prefix)
    found = _described(api, wanted)
    if found is None:
        with contextlib.suppress(Said):  # another operator was first: it is compared all the same
            api.call(
                "CreateDocument",
                f"document/{wanted}",
                expects=("DocumentAlreadyExists",),
                Name=wanted,
                Content=content().decode(),
                DocumentType="Command",
                DocumentFormat="JSON",
                TargetType="/",
            )
        found = _described(api, wanted) or {}
    text = api.get("Content", "GetDocument", f"document/{wanted}", Name=wanted, DocumentVersion="1")
    if not _same(text) or str(found.get("DocumentVersion")) != "1":
        raise Refusal(
            "ssm-document",
            f"{wanted} at Systems Manager is not what this program made",
            subject=wanted,
        )
    return Pinned(wanted, "1", str(found.get("Hash", "")))


def _described(api: Api, wanted: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = api.get(
            "Document",
            "DescribeDocument",
            f"document/{wanted}",
            expects=("InvalidDocument",),
            Name=wanted,
        )
    except Said:
        return None
    return found


def _same(text: str) -> bool:
    """Systems Manager may format JSON anew; what it means must be the same."""
    try:
        return bool(
            strict.loads(text.encode(), limit=65_536, what="document") == json.loads(content())
        )
    except Malformed:
        return False
