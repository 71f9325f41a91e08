"""The AWS IoT credentials provider, with real mutual TLS, for devices of the tests.

It takes only a certificate of its authority that is attached to the thing in the header, on the
exact path of its role alias, and answers as AWS does: 403, 404 and 400 with the words of AWS.
What it hands out is known to a ``StrictS3``, confined by ``READS`` to the thing that asked.

>>> with provider(authority, s3, folder) as roles:
...     roles.attach("press-07", issued)
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from simulators.pki import Authority, Issued
from simulators.serving import in_thread
from simulators.strict_s3 import Key, StrictS3

READS = (
    "{prefix}/image/*",
    "{prefix}/director/root/*",
    "{prefix}/director/devices/{thing}/*",
)
"""What the role's policy lets a device read: ``{thing}`` is ``${{credentials-iot:ThingName}}``."""
_numbers = itertools.count(1)


class Provider(ThreadingHTTPServer):
    """See the module. ``asked`` logs the things; ``before`` may answer in its place."""

    daemon_threads = True

    def __init__(self, authority: Authority, s3: StrictS3, prefix: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        own = authority.issue("credentials", server=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.certificate, own.key)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.ca)
        self.context = context
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.s3, self.prefix = s3, prefix
        self.alias = "ota-device"
        self.attached: dict[str, set[int]] = {}
        self.allowed = True
        self.life = timedelta(hours=1)
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.asked: list[str] = []
        self.before: Callable[[_Handler], bool] = lambda _handler: False

    @property
    def endpoint(self) -> str:
        """HOST:PORT."""
        return f"localhost:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the test."""

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands; who is not let in is told why before the connection ends."""
        try:
            request.do_handshake()
        except OSError:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_WR)
                request.settimeout(5)
                while request.recv(4096):
                    pass
        super().process_request_thread(request, client_address)

    def attach(self, thing: str, issued: Issued) -> None:
        """Attach a certificate to a thing."""
        self.attached.setdefault(thing, set()).add(issued.serial)

    def refuse_revoked(self, authority: Authority) -> None:
        """Read the list of the revoked, for new connections."""
        self.context.load_verify_locations(authority.crl)
        self.context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF

    def grant(self, thing: str) -> dict[str, str]:
        """New credentials of the role, for one thing."""
        number = next(_numbers)
        ends = (self.now() + self.life).replace(microsecond=0)
        reads = tuple(p.format(prefix=self.prefix, thing=thing) for p in READS)
        key = Key(f"ASIA{number:016}", f"secret/{number}+", f"token/{number}+==" * 40, ends, reads)
        self.s3.keys[key.id] = key
        return {
            "accessKeyId": key.id,
            "secretAccessKey": key.secret,
            "sessionToken": key.token,
            "expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
        }

    def revoke_sessions(self) -> None:
        """What ``AWSRevokeOlderSessions`` does: denied, all of them."""
        for name, key in self.s3.keys.items():
            if key.reads is not None:
                self.s3.keys[name] = Key(key.id, key.secret, key.token, key.expires, ())


class _Handler(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Be quiet."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The provider's own clock."""
        return format_datetime(self.server.now().replace(microsecond=0), usegmt=True)

    def do_GET(self) -> None:
        server = self.server
        thing = self.headers.get("x-amzn-iot-thingname", "")
        server.asked.append(thing)
        if server.before(self):
            return
        certificate: Any = self.connection.getpeercert()  # type: ignore[attr-defined]  # over TLS
        serial = int(certificate["serialNumber"], 16)
        if serial not in server.attached.get(thing, ()):
            self.say(403, {"message": "Invalid thing name passed"})
        elif not server.allowed:
            self.say(403, {"message": "Access Denied"})
        elif self.path != f"/role-aliases/{server.alias}/credentials":
            self.say(404, {"message": "Role alias does not exist"})
        else:
            self.say(200, {"credentials": server.grant(thing)})

    def say(self, status: int, body: Any) -> None:
        """Answer with JSON, or with bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def provider(authority: Authority, s3: StrictS3, prefix: str = "p") -> Iterator[Provider]:
    """Run it in a thread on a free loopback port."""
    with in_thread(Provider(authority, s3, prefix)) as server:
        yield server
