"""The types within TUF metadata, which python-tuf's own reader takes on trust.

A key id that is a number or a hash that is a list parses there and fails much later, in the middle
of a sentence about it. Changes that people review and sign are checked against these shapes first.
Source: TUF specification 4.3 (root), 4.5 (targets), TAP 15 (succinct delegations).

>>> check("app", {"_type": "targets", "targets": {}})
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from signing.errors import Malformed

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Key(msgspec.Struct):
    keytype: str
    scheme: str
    keyval: dict[str, Any]


class _Role(msgspec.Struct):
    keyids: list[str]
    threshold: _Count


class _Delegated(_Role):
    name: str
    terminating: bool
    paths: list[str] | None = None
    path_hash_prefixes: list[str] | None = None


class _Succinct(_Role):
    bit_length: _Count
    name_prefix: str


class _Delegations(msgspec.Struct):
    keys: dict[str, _Key]
    roles: list[_Delegated] | None = None
    succinct_roles: _Succinct | None = None


class _Target(msgspec.Struct):
    length: _Count
    hashes: dict[str, str]


class _Signed(msgspec.Struct):
    version: _Count
    spec_version: str
    expires: str


class Root(_Signed):
    """The signed part of a root."""

    keys: dict[str, _Key]
    roles: dict[str, _Role]
    consistent_snapshot: bool | None = None


class Targets(_Signed):
    """The signed part of a targets role."""

    targets: dict[str, _Target]
    delegations: _Delegations | None = None


def check(role: str, signed: dict[str, Any]) -> None:
    """``Malformed`` names the role and the place where a type is another one."""
    try:
        msgspec.convert(signed, Root if role == "root" else Targets, strict=True)
    except msgspec.ValidationError as e:
        raise Malformed(f"pending change: {role!r:.80}: {e}", subject=role[:80]) from e
