"""Every AWS operation of the courier ``ssm`` and of what people do with it: permission, pace, use.

The rates are calls a second and lie below AWS's default quotas. Systems Manager's lists take no
narrower resource than ``*``.
"""

from __future__ import annotations

from typing import Final

from ota.aws.api import Row

ROLE: Final = "rollout"
_SLOW: Final = 2.0
_SEND: Final = 4.0
_READ: Final = 20.0
_DOCUMENT: Final = "document/PREFIX-*"

CALLS: Final[dict[str, Row]] = {
    "CreateDocument": Row("ssm", "create_document", _SLOW, _DOCUMENT, "the hint document, once"),
    "DescribeDocument": Row("ssm", "describe_document", _SLOW, _DOCUMENT, "its version and hash"),
    "GetDocument": Row("ssm", "get_document", _SLOW, _DOCUMENT, "compare it, once a process"),
    "SendCommand": Row(
        "ssm",
        "send_command",
        _SEND,
        f"{_DOCUMENT}, managed-instance/*, instance/*",
        "one for up to 50 nodes that are told the same",
    ),
    "CancelCommand": Row("ssm", "cancel_command", _SEND, "*", "withdraw an order"),
    "ListCommands": Row("ssm", "list_commands", _READ, "*", "find what was sent before a crash"),
    "ListCommandInvocations": Row(
        "ssm", "list_command_invocations", _READ, "*", "which nodes have answered, 50 a call"
    ),
    "GetCommandInvocation": Row(
        "ssm", "get_command_invocation", _READ, "*", "a node's answer, with its signed reports"
    ),
    "DescribeInstanceInformation": Row(
        "ssm", "describe_instance_information", _READ, "*", "which nodes are heard, 50 a call"
    ),
    "GetCalendarState": Row(
        "ssm", "get_calendar_state", _SLOW, "document/CALENDAR", "may anything be changed now"
    ),
    "CreateAssociation": Row(
        "ssm",
        "create_association",
        _SLOW,
        f"{_DOCUMENT}, managed-instance/*, instance/*",
        "`ota ssm associate`",
    ),
    "ListAssociations": Row("ssm", "list_associations", _SLOW, "*", "is it there already"),
    "PutComplianceItems": Row(
        "ssm",
        "put_compliance_items",
        _SEND,
        "managed-instance/*, instance/*",
        "`ota ssm compliance`",
    ),
}

ACTIVATION: Final[dict[str, Row]] = {
    "CreateActivation": Row("ssm", "create_activation", _SLOW, "*", "`ota device activate-ssm`"),
}
"""What the role ``enrol`` does, besides ``iam:PassRole`` of the nodes' role."""
