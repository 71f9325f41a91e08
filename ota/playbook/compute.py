"""From what an operator gives to one value for each parameter: defaults, and computed values.

A computed value is a Jinja2 expression over the other parameters, evaluated here and never on a
device, in a sandbox without loops, methods, attributes or globals; an undefined name is an error.
Its result is a value like any other: it must fit the parameter's signed type and pattern.

>>> bind(playbook, {"port": "8443"})
{'address': '127.0.0.1:8443', 'port': '8443'}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ota.errors import Malformed
from signing.playbooks.playbook import Playbook

_FILTERS: Final = ("lower", "upper", "trim", "replace", "int", "length")
_SAFE: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Filter,
    nodes.CondExpr, nodes.Concat, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
    nodes.Add, nodes.Sub,
)  # fmt: skip
"""What an expression may be made of: nothing here can loop, call, index or grow without end."""


def bind(playbook: Playbook, given: Mapping[str, str]) -> dict[str, str]:
    """One good value for each parameter; ``Malformed`` names the parameter and what it takes."""
    found: dict[str, str] = {}
    for name in sorted(given):
        parameter = playbook.parameters.get(name)
        if parameter is None:
            known = ", ".join(playbook.parameters) or "none"
            raise _bad(playbook, name, f"is not one of this playbook; known are {known}")
        if parameter.computed:
            raise _bad(playbook, name, "is computed and can not be given")
        found[name] = given[name]
    for name, parameter in playbook.parameters.items():
        if name in found or parameter.computed:
            continue
        if parameter.default is None:
            raise _bad(playbook, name, f"has no value: --param {name}=VALUE")
        found[name] = parameter.default
    for name, parameter in playbook.parameters.items():
        if name in found:
            parameter.check(name, found[name])
    return playbook.check_values(found | _computed(playbook, found))


def check(playbook: Playbook) -> None:
    """Every computed parameter can be evaluated from those that are not; ``Malformed``."""
    known = {name for name, p in playbook.parameters.items() if not p.computed}
    for name, parameter in playbook.parameters.items():
        if parameter.computed:
            unknown = meta.find_undeclared_variables(_parsed(playbook, name)) - known
            if unknown:
                raise _bad(playbook, name, f"is computed from {min(unknown)!r}, which is not given")


def _computed(playbook: Playbook, values: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, parameter in playbook.parameters.items():
        if parameter.computed:
            _parsed(playbook, name)
            try:
                found[name] = _ENVIRONMENT.from_string(parameter.computed).render(values)
            except (TemplateError, TypeError, ValueError, ArithmeticError) as e:
                raise _bad(playbook, name, f"can not be computed: {e}") from e
    return found


def _parsed(playbook: Playbook, name: str) -> nodes.Template:
    try:
        tree = _ENVIRONMENT.parse(playbook.parameters[name].computed)
    except (TemplateError, RecursionError) as e:
        raise _bad(playbook, name, f"is not an expression: {e}") from e
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _SAFE):
            word = type(node).__name__.lower()
            raise _bad(playbook, name, f"uses {word}, which an expression here can not")
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            raise _bad(playbook, name, f"knows only the filters {', '.join(_FILTERS)}")
    return tree


def _bad(playbook: Playbook, name: str, why: str) -> Malformed:
    return Malformed(
        f"{playbook.name}@{playbook.version}: parameter {name:.40} {why}",
        subject=name[:80],
        remedy=f"ota playbook show {playbook.name}@{playbook.version}",
    )


def _environment() -> ImmutableSandboxedEnvironment:
    made: Any = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    made.filters = {name: made.filters[name] for name in _FILTERS}
    made.tests, made.globals = {}, {}
    sandbox: ImmutableSandboxedEnvironment = made
    return sandbox


_ENVIRONMENT = _environment()
