"""What AWS IoT knows of things: by fleet indexing, or by listing where there is no index.

Source: AWS IoT API reference, SearchIndex (index ``AWS_Things``, at most 100 a page) and
ListThings (at most 250 a page, no groups). Every text is foreign and bounded.

>>> next(IndexedThings(iot, "thingName:press-*").things()).attributes
{'site': 'lyon'}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ota.aws.errors import Call, asking
from ota.errors import Misuse, NotFound, Outage
from ota.ports_aws import Thing

ROLE: Final = "rollout"
INDEX: Final = "AWS_Things"
_SEARCHED: Final = 100
_LISTED: Final = 250
_MOST: Final = 2_000_000
"""Things of one account that are read at most."""


class IndexedThings:
    """Implements ``ports_aws.Inventory`` by fleet indexing; ``query`` in its own language."""

    def __init__(self, iot: Any, query: str = "thingName:*") -> None:
        self._iot = iot
        self._query = query

    def things(self) -> Iterator[Thing]:
        """Every thing that the query finds; ``Misuse`` (``aws-no-index``) without an index."""
        token: str | None = None
        for _ in range(_MOST // _SEARCHED):
            answer = self._page(token)
            for row in answer["things"]:
                yield _indexed(row)
            token = answer.get("nextToken")
            if not token:
                return
        raise Outage(f"more than {_MOST} things", code="aws-limit", subject=INDEX)

    def _page(self, token: str | None) -> Any:
        more = {"nextToken": token} if token else {}
        try:
            with _call(self._iot, "SearchIndex", f"index/{INDEX}"):
                answer = self._iot.search_index(
                    indexName=INDEX, queryString=self._query, maxResults=_SEARCHED, **more
                )
                return {"things": _things(answer), "nextToken": answer.get("nextToken")}
        except NotFound as e:
            raise Misuse(
                f"fleet indexing is off: {e}",
                code="aws-no-index",
                subject=INDEX,
                remedy="turn it on, or: ota fleet sync aws --list",
            ) from e


class ListedThings:
    """Implements ``ports_aws.Inventory`` by listing: attributes and types, no groups."""

    def __init__(self, iot: Any) -> None:
        self._iot = iot

    def things(self) -> Iterator[Thing]:
        """Every thing of the account."""
        with _call(self._iot, "ListThings", "*"):
            pages = self._iot.get_paginator("list_things").paginate(
                PaginationConfig={"PageSize": _LISTED, "MaxItems": _MOST}
            )
            for page in pages:
                for row in _things(page):
                    yield Thing(
                        str(row.get("thingName", "")),
                        str(row.get("thingTypeName") or ""),
                        _attributes(row),
                    )


def _indexed(row: Any) -> Thing:
    return Thing(
        str(row.get("thingName", "")),
        str(row.get("thingTypeName") or ""),
        _attributes(row),
        tuple(sorted(map(str, row.get("thingGroupNames") or ()))),
    )


def _attributes(row: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in (row.get("attributes") or {}).items()}


def _things(answer: Any) -> Any:
    """Its rows; ``KeyError`` for an answer that is not one of AWS, which would look like no things."""
    if "RequestId" in answer["ResponseMetadata"]:
        return answer.get("things") or ()
    return answer["things"]


def _call(iot: Any, action: str, resource: str) -> Any:
    return asking(Call(f"iot:{action}", resource, ROLE), str(iot.meta.region_name))
