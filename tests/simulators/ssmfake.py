"""AWS Systems Manager on loopback: strict about documents, hashes, patterns and limits.

``portal`` is what something else answers to every call; nodes in ``gone`` are listed as online and can
not be sent to; commands in ``hidden`` are in no list yet; ``endless`` pages always have a next one.

boto3's real client talks to it, so requests are validated and signed by botocore. It refuses what
AWS refuses: an unknown document, another hash or version, a parameter outside its pattern, 51
instances, an instance that is not managed. Commands run on nodes (``ssm_node.py``) at once, or when
:meth:`FakeSsm.deliver` says so; nodes that are offline let a delivery time out.

>>> with FakeSsm(tmp_path) as ssm:
...     ssm.join("press-07")
...     ssm.throttle("SendCommand", 2)
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pytest
from simulators.serving import in_thread
from simulators.ssm_node import Node, Ran

from signing import strict

OUTPUT = 24_000
"""Characters of a node's output that GetCommandInvocation gives."""
_JSON = "application/x-amz-json-1.1"


class SaidNo(Exception):
    """An error answer of AWS."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


class FakeSsm:
    """See the module. ``nodes`` by id; ``sent`` are the requests of SendCommand, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: dict[str, Node] = {}
        self.documents: dict[str, str] = {}
        self.commands: dict[str, dict[str, Any]] = {}
        self.associations: list[dict[str, Any]] = []
        self.activations: list[dict[str, Any]] = []
        self.compliance: list[dict[str, Any]] = []
        self.calls: Counter[str] = Counter()
        self.sent: list[dict[str, Any]] = []
        self.calendar = "OPEN"
        self.held = False
        self.portal: bytes | None = None
        self.gone: set[str] = set()
        self.hidden: set[str] = set()
        self.endless = False
        self.forge: Callable[[str, Ran], Ran] = lambda _node, ran: ran
        self._failing: dict[str, tuple[str, int]] = {}
        self._open = contextlib.ExitStack()
        self._server: http.server.ThreadingHTTPServer | None = None

    # -- the server ------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server = self._open.enter_context(in_thread(server))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make it this process's Systems Manager."""
        for name, value in {
            "AWS_ENDPOINT_URL_SSM": self.url,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "throw-away",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }.items():
            monkeypatch.setenv(name, value)

    # -- the world -------------------------------------------------------------------------------
    def join(self, device: str) -> Node:
        """A managed node whose agent has a spool."""
        node_id = f"mi-{strict.digest(device.encode())[:17]}"
        home = self.folder / "nodes" / quote(device, safe="")
        home.mkdir(parents=True, exist_ok=True)
        (home / "agent.toml").write_text(
            f'device = "{device}"\nstate_dir = "{home}/state"\n'
            f'[feed]\nkind = "spool"\npath = "{home}/spool"\n'
        )
        node = self.nodes[node_id] = Node(node_id, home, device)
        return node

    def node(self, device: str) -> Node:
        return next(n for n in self.nodes.values() if n.device == device)

    def node_ids(self, devices: Any) -> Mapping[str, str]:
        """What an operator's labels say."""
        return {n.device: n.id for n in self.nodes.values() if n.device in devices}

    def fail(self, operation: str, code: str, times: int = 1) -> None:
        """The next calls of an operation end with this code."""
        self._failing[operation] = (code, times)

    # -- operations --------------------------------------------------------------------------------
    def answer(self, operation: str, words: dict[str, Any]) -> dict[str, Any]:
        self.calls[operation] += 1
        code, times = self._failing.get(operation, ("", 0))
        if times:
            self._failing[operation] = (code, times - 1)
            raise SaidNo(code)
        found: dict[str, Any] = getattr(self, f"do_{operation}")(words)
        return found

    def do_CreateDocument(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's names
        if words["Name"] in self.documents:
            raise SaidNo("DocumentAlreadyExists")
        if len(words["Content"]) > 65_536:
            raise SaidNo("MaxDocumentSizeExceeded")
        document = json.loads(words["Content"])
        if document["schemaVersion"] != "2.2" or not document["mainSteps"]:
            raise SaidNo("InvalidDocumentContent")
        for parameter in document["parameters"].values():
            re.compile(parameter["allowedPattern"])
        self.documents[words["Name"]] = words["Content"]
        return {"DocumentDescription": self._described(words["Name"])}

    def do_DescribeDocument(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        return {"Document": self._described(words["Name"])}

    def do_GetDocument(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        self._described(words["Name"])
        return {"Name": words["Name"], "Content": self.documents[words["Name"]]}

    def _described(self, name: str) -> dict[str, Any]:
        if name not in self.documents:
            raise SaidNo("InvalidDocument")
        digest = strict.digest(self.documents[name].encode())
        return {"Name": name, "DocumentVersion": "1", "Hash": digest, "HashType": "Sha256"}

    def do_SendCommand(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        found = self._described(words["DocumentName"])
        if words["DocumentVersion"] != "1":
            raise SaidNo("InvalidDocumentVersion")
        if (words["DocumentHashType"], words["DocumentHash"]) != ("Sha256", found["Hash"]):
            raise SaidNo("InvalidDocument", "the hash does not match")
        if not 1 <= len(words["InstanceIds"]) <= 50:
            raise SaidNo("ValidationException", "1 to 50 instance ids")
        if len(words.get("Comment", "")) > 100:
            raise SaidNo("ValidationException", "a comment of 100 characters")
        if any(node not in self.nodes or node in self.gone for node in words["InstanceIds"]):
            raise SaidNo("InvalidInstanceId")
        document = json.loads(self.documents[words["DocumentName"]])
        for name, (value,) in words["Parameters"].items():
            if name not in document["parameters"] or not re.fullmatch(
                document["parameters"][name]["allowedPattern"], value
            ):
                raise SaidNo("InvalidParameters", name)
        command = f"{len(self.commands) + 1:08}-0000-4000-8000-000000000000"
        self.commands[command] = {
            "request": words,
            "document": document,
            "ran": {},
            "status": dict.fromkeys(words["InstanceIds"], "Pending"),
        }
        self.sent.append(words)
        if not self.held:
            self.deliver(command)
        return {"Command": {"CommandId": command, "Status": "Pending"}}

    def deliver(self, command: str) -> None:
        """Run a command where it has not run: at once, unless the world is ``held``."""
        known = self.commands[command]
        parameters = {k: v for k, (v,) in known["request"]["Parameters"].items()}
        for node, status in known["status"].items():
            if status == "Pending" and self.nodes[node].ping == "Online":
                ran = self.forge(node, self.nodes[node].run(known["document"], parameters))
                known["ran"][node] = ran
                known["status"][node] = "Failed" if ran.status else "Success"

    def time_out(self, command: str) -> None:
        """What was not delivered is not delivered any more."""
        status = self.commands[command]["status"]
        status |= {n: "DeliveryTimedOut" for n, s in status.items() if s == "Pending"}

    def do_CancelCommand(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        status = self._command(words)["status"]
        status |= {n: "Cancelled" for n, s in status.items() if s == "Pending"}
        return {}

    def do_ListCommandInvocations(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        rows = [
            {"CommandId": words["CommandId"], "InstanceId": n} | _status(s)
            for n, s in self._command(words)["status"].items()
        ]
        start = int(words.get("NextToken", 0))
        size = min(words.get("MaxResults", 50), 50)
        more = {"NextToken": str(start + size)} if start + size < len(rows) or self.endless else {}
        return {"CommandInvocations": rows[start : start + size], **more}

    def do_GetCommandInvocation(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        known = self._command(words)
        ran = known["ran"].get(words["InstanceId"], Ran(-1, "", ""))
        return {
            "CommandId": words["CommandId"],
            "InstanceId": words["InstanceId"],
            "ResponseCode": ran.status,
            "StandardOutputContent": ran.out[:OUTPUT],
            "StandardErrorContent": ran.err[:8000],
        } | _status(known["status"][words["InstanceId"]])

    def do_ListCommands(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        wanted = {f["key"]: f["value"] for f in words["Filters"]}
        assert set(wanted) <= {"DocumentName", "InvokedAfter", "InvokedBefore", "Status"}
        found = [
            {
                "CommandId": name,
                "Comment": known["request"].get("Comment", ""),
                "InstanceIds": known["request"]["InstanceIds"],
            }
            for name, known in self.commands.items()
            if known["request"]["DocumentName"] == wanted["DocumentName"]
            and name not in self.hidden
        ]
        start, size = int(words.get("NextToken", 0)), min(words.get("MaxResults", 50), 50)
        more = {"NextToken": str(start + size)} if start + size < len(found) else {}
        return {"Commands": found[start : start + size], **more}

    def do_DescribeInstanceInformation(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        wanted = {f["Key"]: f["Values"] for f in words.get("Filters", [])}
        ids = wanted.get("InstanceIds", list(self.nodes))
        if any(not re.fullmatch(r"(i-(\w{8}|\w{17})|mi-\w{17})", node) for node in ids):
            raise SaidNo("InvalidInstanceId", "an instance id that is none")
        found = [n for n in map(self.nodes.get, ids) if n is not None]
        return {
            "InstanceInformationList": [
                {"InstanceId": n.id, "PingStatus": n.ping, "Name": n.device} for n in found
            ]
        }

    def do_GetCalendarState(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        return {"State": self.calendar, "AtTime": words["AtTime"]}

    def do_CreateAssociation(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        if words["Name"] != "AWS-GatherSoftwareInventory":
            self._described(words["Name"])
        if any(a["AssociationName"] == words["AssociationName"] for a in self.associations):
            raise SaidNo("AssociationAlreadyExists")
        self.associations.append(words)
        return {"AssociationDescription": {"AssociationId": f"a-{len(self.associations)}"}}

    def do_ListAssociations(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        (only,) = words["AssociationFilterList"]
        assert only["key"] == "AssociationName"
        return {
            "Associations": [
                {"AssociationName": a["AssociationName"], "Name": a["Name"]}
                for a in self.associations
                if a["AssociationName"] == only["value"]
            ]
        }

    def do_PutComplianceItems(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        if not re.fullmatch(r"Custom:\w+", words["ComplianceType"]):
            raise SaidNo("InvalidComplianceType")
        self.compliance.append(words)
        return {}

    def do_CreateActivation(self, words: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the same
        self.activations.append(words)
        return {"ActivationId": "0" * 36, "ActivationCode": "s3cr3t-activation-code"}

    def _command(self, words: dict[str, Any]) -> dict[str, Any]:
        if words["CommandId"] not in self.commands:
            raise SaidNo("InvalidCommandId")
        found: dict[str, Any] = self.commands[words["CommandId"]]
        return found


def _status(detail: str) -> dict[str, str]:
    """AWS's status is coarser than its detail."""
    plain = {"DeliveryTimedOut": "TimedOut"}.get(detail, detail)
    return {"Status": plain, "StatusDetails": detail}


def _handler(fake: FakeSsm) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].removeprefix("AmazonSSM.")
            words = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                status, body = 200, fake.answer(operation, words)
            except SaidNo as e:
                status, body = 400, {"__type": e.code, "message": str(e)}
            data = json.dumps(body).encode() if fake.portal is None else fake.portal
            self.send_response(status if fake.portal is None else 200)
            self.send_header("Content-Type", _JSON)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base's name
            """Nothing."""

    return Handler
