"""A strict S3 whose caller has one of the rendered roles: every request is judged by its policies.

As S3 judges: of a missing object it says 404 to whoever may list it and 403 to others; the
conditions of writes (``s3:if-match``, ``s3:if-none-match``) are those of the request's headers; what
makes an object is told from parts of uploads.

>>> with strict_s3() as s3:
...     roles = Roles(s3)
...     roles.who = "gc"
"""

from __future__ import annotations

from simulators.strict_s3 import Reply, Request, StrictS3

from ota import shipped
from ota.infra import duties, evaluate, render, stacks, values
from ota.stores.s3_errors import ACTIONS

PREFIX = "plant"
_MAKES = {"PutObject", "CompleteMultipartUpload"}
_SNAKE = {name.replace("_", ""): action for name, action in ACTIONS.items()}


class Roles:
    """``who`` asks, from now on, without the actions in ``lacking``.

    ``refused`` is what was not allowed, as (who, action, key).
    """

    def __init__(self, s3: StrictS3) -> None:
        folder = shipped.folder("playbooks") / "aws"
        text = (folder / "infra.toml").read_text()
        for old, new in (("example-ota-store", s3.bucket), ('"press-"', '"gw-"')):
            assert old in text
            text = text.replace(old, new)
        self.values = values.read(text.encode(), "infra.toml")
        self._policies = stacks.policies(
            stacks.parse(render.render(folder, self.values)), self.values
        )
        self._s3 = s3
        self.who = ""
        self.lacking: set[str] = set()
        self.refused: list[tuple[str, str, str]] = []
        s3.before = self._before

    def may(self, action: str, key: str, context: dict[str, str]) -> bool:
        """One question about an object, or about listing a prefix."""
        if action in self.lacking:
            return False
        arn = f"arn:aws:s3:::{self._s3.bucket}"
        if action == "s3:ListBucket":
            context = context | {"s3:prefix": key}
        else:
            arn = f"{arn}/{key}"
        request = evaluate.Request(action, arn, context)
        return duties.ask(self._policies, self.values, self.who, request).allowed

    def _before(self, request: Request) -> Reply | None:
        if not self.who:  # the test itself
            return None
        action = _SNAKE[request.operation.lower()]
        key = request.key or request.query.get("prefix", "")
        context = {f"s3:{h}": request.headers[h] for h in _CONDITIONS if h in request.headers}
        context["s3:ObjectCreationOperation"] = str(request.operation in _MAKES).lower()
        allowed = self.may(action, key, context)
        if allowed and action == "s3:GetObject" and request.key not in self._s3.objects:
            allowed, action = self.may("s3:ListBucket", key, {}), "s3:ListBucket"
        if allowed:
            return None
        self.refused.append((self.who, action, key))
        return self._s3.fault(403, "AccessDenied", "Access Denied")


_CONDITIONS = ("if-match", "if-none-match")
