"""The command line as a tree, with plain words for what each option and argument takes.

typer names Python's types in its help (``<list[str]>``). Here an option says what a person types:
``--key NAME``, ``--soak DURATION``; an argument stands in capitals, in brackets when it may be
left out.

>>> command().get_help(context)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import typer
from typer.core import TyperArgument, TyperGroup, TyperOption

if TYPE_CHECKING:
    from typer._click import Context

_WORDS = {
    "DIR": ("workspace", "collect", "wheels"),
    "NAME": ("key", "keys", "sign", "approve"),
    "FILE": ("image", "approval"),
    "REPOSITORY": ("only",),
    "DURATION": (
        *("renew", "fail_within", "grace", "lasts", "time_limit", "interval", "max_age"),
        *("older_than", "lifetime", "soak", "deadline", "every"),
    ),
    "HARDWARE-ID": ("hardware",),
    "TIME": ("since",),
    "URI": ("uri",),
    "SELECTOR": ("select", "selector"),
    "KEY=VALUE": ("label", "labels"),
    "COMPONENT/FILE": ("path",),
    "WAVE": ("wave", "waves"),
    "N|N%": ("failed",),
    "DEVICE,...": ("limit",),
}
_HIDDEN = ("install_completion", "show_completion")
"""typer's own; `ota completion` says it more plainly."""
_BY_NAME = {name: word for word, names in _WORDS.items() for name in names}


def command(app: typer.Typer) -> TyperGroup:
    """The application's tree of commands, with these words."""
    top = cast("TyperGroup", typer.main.get_command(app))
    for param in _params(top):
        if param.name in _HIDDEN:
            param.hidden = True
        elif isinstance(param, TyperArgument):
            param.__class__ = _Argument
        elif isinstance(param, TyperOption) and param.metavar is None:
            param.metavar = _word(param)
    return top


def _params(found: Any) -> Iterator[Any]:
    yield from found.params
    for child in getattr(found, "commands", {}).values():
        yield from _params(child)


def _word(option: TyperOption) -> str | None:
    """What an option takes; None for choices, which are listed, and for flags."""
    kind = option.type_descriptor
    if option.is_flag or kind.is_choice:
        return None
    if kind.is_ranged or kind.annotation is int:
        return "N"
    name = str(option.name)
    return _BY_NAME.get(name, "FILE" if kind.is_path else name.replace("_", "-").upper())


class _Argument(TyperArgument):
    """``FILE`` in the usage, or ``[FILE]``, ``FILE...``; no type beside it."""

    def _usage_display_name(self) -> str:
        name = self._rich_display_name()
        return name if self.required else f"[{name}]"

    def _rich_display_name(self) -> str:
        name = self.display_name_raw
        name = name if self.metavar else name.upper()
        return name if self.nargs == 1 or name.endswith("...") else f"{name}..."

    def display_type_rich(self, ctx: Context) -> str | None:
        """The choices, where there are some; else nothing."""
        return self.display_type(ctx) if self.type_descriptor.is_choice else None
