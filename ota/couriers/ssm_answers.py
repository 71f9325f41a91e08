"""What nodes have answered to a command: read from Systems Manager, believed in nothing.

>>> dict(fetch(api, command))
{'mi-0a1b': Answer(agent='0.1.0', reports=[...]), 'mi-0c2d': Outage('press-09: DeliveryTimedOut')}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ota.aws.api import Api, Said
from ota.aws.errors import shown
from ota.couriers import relay_answer
from ota.couriers.relay_answer import Answer
from ota.couriers.ssm_commands import Command
from ota.errors import OtaError, Outage, Refusal

PAGE: Final = 50
_PAGES: Final = 10
"""A command has 50 nodes."""
_MOST: Final = 40
"""Pages of commands: 2,000 of them, as many as an hour has at full pace."""
_PENDING: Final = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})


def fetch(api: Api, command: Command) -> Iterator[tuple[str, Answer | OtaError]]:
    """(node, answer or why there is none) of nodes that have just come to an end.

    A node whose output is not there yet is left for the next look.
    """
    waiting = set(command.open())
    for row in _invocations(api, command):
        node = str(row.get("InstanceId"))
        if node not in waiting or row.get("Status") in _PENDING:
            continue
        try:
            said = api.call(
                "GetCommandInvocation",
                "*",
                expects=("InvocationDoesNotExist",),
                CommandId=command.id,
                InstanceId=node,
            )
        except Said:
            continue
        yield node, _answer(command.devices[node], row, said)


def silent(command: Command, node: str) -> Outage:
    """A node that did not answer before its command ended."""
    device = command.devices[node]
    return Outage(f"{node} did not answer {command.id}", code="ssm-silent", subject=device)


def sent(api: Api, document: str, since: str) -> Iterator[Mapping[str, Any]]:
    """Commands with this document since then, as far as AWS lists them yet."""
    words: dict[str, Any] = {
        "Filters": [
            {"key": "DocumentName", "value": document},
            {"key": "InvokedAfter", "value": since},
        ],
        "MaxResults": PAGE,
    }
    for _ in range(_MOST):
        page = api.call("ListCommands", "*", **words)
        yield from page.get("Commands", [])
        if not page.get("NextToken"):
            return
        words["NextToken"] = page["NextToken"]


def _invocations(api: Api, command: Command) -> Iterator[Mapping[str, Any]]:
    token: dict[str, str] = {}
    for _ in range(_PAGES):
        try:
            page = api.call(
                "ListCommandInvocations",
                "*",
                expects=("InvalidCommandId",),
                CommandId=command.id,
                MaxResults=PAGE,
                **token,
            )
        except Said:
            return  # not there yet, or not any more: its end decides
        yield from page.get("CommandInvocations", [])
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}


def _answer(device: str, row: Mapping[str, Any], said: Mapping[str, Any]) -> Answer | OtaError:
    out = str(said.get("StandardOutputContent", "")).encode()
    detail = str(row.get("StatusDetails") or row.get("Status", ""))
    if detail == "Success":
        try:
            return relay_answer.read(out, device, "ssm-output", f"ota fleet show {device}")
        except (Outage, Refusal) as e:
            return e
    last = shown(said.get("StandardErrorContent", "") or detail, 200)
    missing = said.get("ResponseCode") in {126, 127}
    other = Outage(
        f"{device}: {detail}: {last}",
        code="agent-missing" if missing else _code(detail),
        subject=device,
        remedy="aws ssm get-command-invocation; is the agent installed there?",
    )
    return relay_answer.failed(out, device, other)


def _code(detail: str) -> str:
    """``DeliveryTimedOut`` -> ``ssm-delivery-timed-out``."""
    words = "".join(f"-{c.lower()}" if c.isupper() else c for c in detail if c.isalpha())
    return f"ssm{words[:60]}" if words else "ssm-command"
