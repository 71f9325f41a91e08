"""All checks over all stacks: form, least privilege, duties, and cfn-lint.

>>> lint(render(folder, values), values, promise)
[]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ota.errors import Misuse
from ota.infra import calls, duties, narrow, promise, stacks
from ota.infra.narrow import Finding
from ota.infra.values import Values


def lint(texts: Mapping[str, str], values: Values, table: bytes) -> list[Finding]:
    """Everything wrong with rendered stacks, held against ``table`` (``duties.toml``).

    ``Misuse`` where the extra is not installed.
    """
    try:
        import cfnlint  # noqa: F401, PLC0415 - asks whether it is there
        import policy_sentry  # noqa: F401, PLC0415 - the same
    except ModuleNotFoundError as e:
        raise Misuse(
            f"linting needs {e.name}",
            code="missing-library",
            remedy="pip install 'ota-orchestrator[infra]'",
        ) from e
    parsed = stacks.parse(texts)
    policies = stacks.policies(parsed, values)
    return [*_cloudformation(texts, values), *judged(promise.read(table), policies, values)]


def judged(
    promised: promise.Promise, policies: list[stacks.Policy], values: Values
) -> list[Finding]:
    """All that is found without cfn-lint, which is slow."""
    return [
        *narrow.findings(policies),
        *_duties(promised, policies, values),
        *calls.findings(promised, policies, values),
    ]


def _duties(
    promised: promise.Promise, policies: list[stacks.Policy], values: Values
) -> Iterator[Finding]:
    for duty, decision in duties.broken(promised, policies, values):
        by = f", by {decision.by.sid or 'a statement'}" if decision.by else ""
        verb = "can not" if duty.may else "can"
        why = f" ({duty.why})" if duty.why else ""
        yield Finding(f"duty of {duty.who}", f"{verb} {duty.action} on {duty.resource}{by}{why}")


def _cloudformation(texts: Mapping[str, str], values: Values) -> Iterator[Finding]:
    from cfnlint.api import lint as check  # noqa: PLC0415 - the extra infra
    from cfnlint.config import ManualArgs  # noqa: PLC0415 - the same

    for name, text in texts.items():
        for match in check(text, config=ManualArgs(regions=[values.region])):
            yield Finding(f"{name}, line {match.linenumber}", f"{match.rule.id} {match.message}")
