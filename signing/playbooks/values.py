r"""Parameters of a playbook: their types, what values they take, and where values go.

A value is text that fits a signed pattern, and it is substituted whole: as one element of an
argument list, as one path or name, or into a file's content, quoted as the file's format needs.
Nothing here builds a shell line, and nothing evaluates a value.

``${name}`` stands for a value; ``$${`` for the two characters themselves.

>>> argument("${unit}", {"unit": "nginx; reboot"})
'nginx; reboot'
>>> content('{"unit": ${unit}}', {"unit": 'a"b'}, {"unit": "string"}, "json")
'{"unit": "a\\"b"}'
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from signing import patterns
from signing.errors import Malformed

Type = Literal["string", "integer", "boolean", "choice", "path"]
Format = Literal["plain", "json", "shell"]
"""Formats of file contents: how a value of type string or choice is quoted in it."""

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
PATH: Final = r"^(/\.?[A-Za-z0-9_@+-][A-Za-z0-9._@:+-]{0,63}){1,16}$"
"""An absolute path without empty, ``.`` or ``..`` segments."""
MAX_VALUE: Final = 512
_INTEGER: Final = r"^-?(0|[1-9][0-9]{0,17})$"
_BOOLEAN: Final = r"^(true|false)$"
_TOKEN: Final = re.compile(r"\$\$\{|\$\{([^}]{0,40})\}?")


class Parameter(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One parameter. A ``string`` needs a ``pattern``, a ``choice`` its ``choices``.

    ``computed`` is a Jinja2 expression over the other parameters. Operators evaluate it; devices
    only check its result, like any other value, by type and pattern.
    """

    type: Type
    description: str = ""
    default: str | None = None
    pattern: str = ""
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    computed: str = ""

    def __post_init__(self) -> None:
        """Refuse a parameter that contradicts itself (``Malformed``)."""
        if self.pattern:
            patterns.check(self.pattern, "pattern")
        if (self.type == "string") != bool(self.pattern) and self.type != "path":
            raise Malformed("pattern: a string needs one, and no other type but path has one")
        if (self.type == "choice") != bool(self.choices):
            raise Malformed("choices: a choice needs some, and no other type has them")
        if len(set(self.choices)) != len(self.choices) or len(self.choices) > 64:
            raise Malformed("choices: at most 64, none of them twice")
        if self.type != "integer" and (self.minimum, self.maximum) != (None, None):
            raise Malformed("minimum and maximum are for integers")
        if len(self.description) > 400 or len(self.computed) > 400:
            raise Malformed("description or computed: longer than 400 characters")
        if self.computed and self.default is not None:
            raise Malformed("default: a computed parameter has none")
        for value in (*self.choices, *([] if self.default is None else [self.default])):
            self.check("default or choices", value)

    @property
    def expression(self) -> str:
        """The anchored pattern that its values fit; what a choice admits is in ``choices``."""
        by_type = {"integer": _INTEGER, "boolean": _BOOLEAN, "path": PATH, "choice": "^.{1,512}$"}
        return self.pattern or by_type[self.type]

    def check(self, name: str, value: str) -> str:
        """Return ``value`` if it may stand for this parameter, else ``Malformed``."""
        why = self._why_not(value)
        if why:
            raise Malformed(f"parameter {name}: {value!r:.80} {why}", subject=name)
        return value

    def _why_not(self, value: str) -> str:
        if len(value) > MAX_VALUE or not (value.isascii() and value.isprintable()):
            return f"is not printable ASCII of at most {MAX_VALUE} characters"
        if value.startswith("-") and self.type != "integer":
            return "begins with a dash: a program could take it for an option"
        if self.choices:
            return "" if value in self.choices else f"is none of {', '.join(self.choices)}"
        if not patterns.matches(self.expression, value):
            return f"does not match {self.expression}"
        return self._out_of_bounds(value)

    def _out_of_bounds(self, value: str) -> str:
        """What a pattern alone can not say."""
        if self.type == "path" and not patterns.matches(PATH, value):
            return "is not an absolute path without '..'"
        low, high = self.minimum, self.maximum
        if low is not None and int(value) < low:
            return f"is below {low}"
        return f"is above {high}" if high is not None and int(value) > high else ""


# -- where values go ------------------------------------------------------------------------------
class Reference(NamedTuple):
    """``${name}`` within a text."""

    name: str


def parts(text: str) -> Iterator[str | Reference]:
    """Literal pieces and references of a text, in order; ``Malformed`` for a broken ``${``."""
    at = 0
    for found in _TOKEN.finditer(text):
        if found.start() > at:
            yield text[at : found.start()]
        at = found.end()
        if found[0] == "$${":
            yield "${"
        elif found[1] is not None and NAME.fullmatch(found[1]) and found[0].endswith("}"):
            yield Reference(found[1])
        else:
            raise Malformed(f"{found[0]!r:.50} names no parameter; $${{ writes the characters")
    if at < len(text):
        yield text[at:]


def references(text: str) -> set[str]:
    """Names of the parameters that a text refers to."""
    return {part.name for part in parts(text) if isinstance(part, Reference)}


def whole(text: str) -> str:
    """The parameter that this element is, or "" for a literal; never a mixture (``Malformed``)."""
    found = list(parts(text))
    names = [part.name for part in found if isinstance(part, Reference)]
    if names and len(found) > 1:
        raise Malformed(
            f"{text!r:.80}: a value is a whole element; join it with text in a computed parameter"
        )
    return names[0] if names else ""


def argument(text: str, values: Mapping[str, str]) -> str:
    """One element with its value."""
    name = whole(text)
    return values[name] if name else "".join(p for p in parts(text) if isinstance(p, str))


def content(text: str, values: Mapping[str, str], types: Mapping[str, str], form: Format) -> str:
    """A file's content with its values, each quoted by its type for this format."""
    return "".join(
        part if isinstance(part, str) else quoted(values[part.name], types[part.name], form)
        for part in parts(text)
    )


def quoted(value: str, kind: str, form: Format) -> str:
    """A value as it stands in a file. Numbers and switches are never quoted."""
    return value if kind in {"integer", "boolean"} else _QUOTE[form](value)


def _json(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shell(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


_QUOTE: Final[dict[Format, Callable[[str], str]]] = {
    "plain": lambda value: value,
    "json": _json,
    "shell": _shell,
}
