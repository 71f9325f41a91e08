"""The generated sections of README.md: tables and diagrams that come from the code itself.

A section stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. What a key *means* is
written here by hand; which keys there are, and their defaults, come from the code, so a new key
without words here is an error.

    python tests/readme_sections.py            exit 1 when a section differs
    python tests/readme_sections.py --write    rewrite them
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from lens import LENS  # noqa: E402 - the same folder, on the path of scripts and of pytest
from readme_ssh import SSH  # noqa: E402 - the same folder, on the path of scripts and of pytest
from rules import RULES  # noqa: E402 - the same folder, on the path of scripts and of pytest
from threats import THIEVES, THREATS  # noqa: E402 - the same

from ota.agent import aws_options, aws_trouble, config, health  # noqa: E402 - the path is set just above
from ota.agent import states as agent_states  # noqa: E402 - the same
from ota.agent.download import DownloadLimits  # noqa: E402 - the same
from ota.agent.feeds import iot_trouble  # noqa: E402 - the same
from ota.agent.feeds import options as feed_options  # noqa: E402 - the same
from ota.agent.installers import dir_symlink, exec_, single_file  # noqa: E402 - the same
from ota.agent.runs import states as run_states  # noqa: E402 - the same
from ota.couriers import ssh_inventory  # noqa: E402 - the same
from ota.couriers.iot_calls import CALLS  # noqa: E402 - the same
from ota.infra import render, stacks, values  # noqa: E402 - the same
from ota.rollout import states as rollout_states  # noqa: E402 - the same
from ota.settings.couriers import IotJobsSettings  # noqa: E402 - the same
from signing import errors  # noqa: E402 - the same
from signing.refusals import REFUSALS  # noqa: E402 - the same

README = ROOT / "README.md"
_SECTION = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

CONFIG = {
    "device": "its id, of `[A-Za-z0-9:_-]`, at most 128",
    "state_dir": "absolute; the agent's own folder: identity, trust, journal, downloads",
    "store": "where it fetches: `https://`, `s3://BUCKET/PREFIX` with `[aws]`, loopback `http://`, or "
    "`file://`",
    "reboot": "argv that reboots, for installers that ask for it; without it somebody else does",
    "service_manager": "argv of a program that knows services; systemd or `service` without it",
    "package_manager": "argv of a program that knows packages; the system's own without it",
    "playbooks": "`false`: no playbook runs here, whoever signed and ordered it",
    "security_soak": "how long a security fix runs before a lower previous is dropped for ever",
    "identity.key": "of reports: a file that provisioning makes, or "
    "`hsm:ID?label=TOKEN&module=PATH`, made on the token by you",
    "identity.pin": "of the token: `file:/PATH` or `env:NAME`",
    "feed.kind": '`"spool"`, `"iot-jobs"` or `"none"`: without a feed it only polls, and keeps its reports',
    "feed.path": "`spool`: absolute; the device's own spool folder",
    "feed.endpoint": "`iot-jobs`, like all that follow: the broker's host name; on AWS `aws iot "
    "describe-endpoint --endpoint-type iot:Data-ATS`",
    "feed.certificate": "absolute; of this agent alone",
    "feed.key": "absolute, mode 0600; or `hsm:OBJECT?label=TOKEN&module=PATH` (extra `crt`)",
    "feed.ca": "absolute; who vouches for the broker. Empty: the system's own list",
    "feed.pin": "of the token: `file:/PATH` or `env:NAME`",
    "feed.port": "MQTT 5 over TLS; on 443 with AWS's ALPN name",
    "feed.thing": "the device's id where it is left out",
    "feed.client_id": "`THING-ota` where it is left out; two connections with one id evict each other",
    "feed.fallback": "what to try, in this order, where `port` does not work",
    "feed.https_port": "of the Jobs service over HTTPS; on 443 with AWS's ALPN name",
    "feed.poll": "between questions over HTTPS",
    "feed.timeout": "of one question to the broker, and of opening a connection, handshake and all",
    "feed.keepalive": "of the MQTT connection",
    "feed.start_jitter": "random share of it before the first connection of `run`",
    "aws.region": "`s3://` only, like all of `[aws]`: the bucket's region",
    "aws.credentials_endpoint": "`aws iot describe-endpoint --endpoint-type iot:CredentialProvider`",
    "aws.role_alias": "whose role may read the bucket",
    "aws.thing": "the device's id, or `feed.thing`, where it is left out",
    "aws.certificate": "absolute; `feed.certificate` where it is left out",
    "aws.key": "absolute, mode 0600; `feed.key` where it is left out and a file",
    "aws.ca": "absolute; who vouches for both endpoints; `feed.ca`, else the system's own list",
    "aws.s3_endpoint": "`https://HOST`, where S3 is reached another way than by its own name",
    "poll.interval": "between looks without a hint",
    "poll.jitter": "a random share of the interval, added to it",
    "limits.minimum_rate": "bytes per second over the window; slower is an outage",
    "limits.window": "of the rate",
    "limits.connect": "to the store",
    "limits.read": "between two pieces of an answer",
    "limits.metadata_total": "for one metadata file",
    "limits.image_total": "for one image",
    "limits.max_image": "bytes; larger images are left alone",
    "limits.spare_space": "bytes that must stay free",
    "may_install.argv": "the interlock: exit status 0 is yes",
    "may_install.timeout": "no answer in time is no",
    "components.NAME.hardware_id": "what images of it must be built for",
    "components.NAME.installer": "`dir-symlink`, `single-file` or `exec`",
    "components.NAME.options": "the installer's",
    "components.NAME.health": "the probe's",
    "components.NAME.factory.version": "of the image it left the factory with",
    "components.NAME.factory.release_counter": "its counter, the first floor",
    "components.NAME.factory.path": "its target path, where it is a listed release",
    "components.NAME.factory.length": "its length in bytes",
}
IOT_JOBS = {
    "queue": "URL of the queue that the rule fills; `ReportsUrl` of the stack `reports`",
    "refused": "URL of a second queue for what was refused; without it, `quarantine`",
    "account": "its 12 digits; without it one call of `sts:GetCallerIdentity`",
    "thing_label": "the label that holds the name of a device's thing; without it the device's id",
    "group_prefix": "begins the names of thing groups; the rollout role may touch no others",
    "order_size": "devices of one order at most, whatever the plan allows; above 100 it is a thing group, "
    "and costs twice the calls",
    "per_minute": "executions that AWS rolls out a minute, for each job: 1 to 1000",
    "retries": "of an execution that has timed out: 0 to 10. What failed or was refused is not tried again",
    "wait": "seconds that a poll of an empty queue waits: 0 to 20",
    "quarantine": "folder for what was no honest report",
    "packages": "name each release in the Software Package Catalog too",
    "unsafe_abort_percent": "let AWS cancel a job when so many executions say, unsigned, that they "
    "failed; 0 is never",
    "rates": "calls a second of single operations, such as `{ CreateJob = 20 }`",
}
INSTALLERS = {
    "path": "absolute; the folder (`dir-symlink`) or the file (`single-file`)",
    "restart": "argv, run after the switch, forward and back",
    "restart_timeout": "of `restart`",
    "strip": "leading path segments of archive members to drop",
    "max_unpacked": "bytes that an archive may unpack to",
    "max_ratio": "of unpacked bytes to the archive's length",
    "max_entries": "members of an archive",
    "mode": "of the installed file, octal",
    "argv": "the vendor's program",
    "timeout": "of one verb",
    "env": "names of environment variables passed on",
}
PROBES = {
    "start_delay": "before the first try",
    "interval": "between tries",
    "timeout": "of one try",
    "deadline": "of the whole probe",
    "successes": "in a row",
    "argv": "exit status 0 is healthy",
    "env": "names of environment variables passed on",
    "url": "`https://`, or `http://` to loopback; status 200 to 299 is healthy",
    "contains": "text to be found in the first 64 KiB",
    "host": "a connection that opens is healthy",
    "port": "of that host",
}
EXITS = {
    0: "done",
    1: "error: an outage, something expired, a device that went back",
    2: "usage: the words of a command, or of a file, are wrong",
    3: "verification refused: evidence of tampering",
    4: "not permitted: a key, a right or an approval is missing",
    5: "stopped by a gate",
    6: "waiting for a human: paused, held, unsigned",
    7: "another operator, publisher or agent holds it",
    8: "still running at the time limit",
    130: "interrupted",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def fields(kind: Any, skip: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """(name, default as it would stand in TOML) of a Struct or dataclass."""
    if dataclasses.is_dataclass(kind):
        pairs = [(f.name, f.default) for f in dataclasses.fields(kind)]
    else:
        pairs = [
            (f.name, f.default_factory() if callable(f.default_factory) else f.default)
            for f in msgspec.structs.fields(kind)
        ]
    for name, default in pairs:
        if name not in skip:
            yield name, _default(default)


def _default(value: Any) -> str:
    if value is msgspec.NODEFAULT:
        return "required"
    if value is None or value in ((), "") or isinstance(value, (dict, msgspec.Struct)):
        return ""
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return f"`{list(value)}`".replace("'", '"')
    return f"`{value:,}`".replace(",", "_")


def agent_toml() -> str:
    """Every key of agent.toml."""
    found: dict[str, str] = {}
    tables = ("components", "feed", "aws", "identity", "poll", "limits", "may_install")
    found.update(fields(config.Config, skip=tables))
    found["feed.kind"] = f'`"{config.NoFeedOptions().kind}"`'
    for name, kind in (
        ("identity", config.IdentityConfig),
        ("feed", feed_options.SpoolOptions),
        ("feed", feed_options.IotJobsOptions),
        ("aws", aws_options.AwsOptions),
        ("poll", config.Poll),
        ("limits", DownloadLimits),
        ("may_install", config.Hook),
    ):
        found.update({f"{name}.{key}": default for key, default in fields(kind)})
    found.update(_prefixed("components.NAME.", fields(config.ComponentConfig, skip=("factory",))))
    found.update(_prefixed("components.NAME.factory.", fields(config.Factory)))
    return _described(found, CONFIG)


def iot_jobs_toml() -> str:
    """Every key of [couriers.iot-jobs]."""
    return _described(dict(fields(IotJobsSettings)), IOT_JOBS)


def iot_jobs_calls() -> str:
    """Every call of the courier, its permission and pace."""
    rows = [
        (
            f"`{row.action or f'{row.service}:{name}'}`",
            row.resource or "-",
            row.use,
            f"{row.rate:g}",
        )
        for name, row in CALLS.items()
    ]
    return table(("permission", "on", "for", "calls a second"), rows)


def _prefixed(prefix: str, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {prefix + key: default for key, default in pairs}


def _described(found: Mapping[str, str], words: Mapping[str, str]) -> str:
    unknown = set(found) ^ set(words)
    if unknown:
        raise SystemExit(f"no words for, or no code behind: {', '.join(sorted(unknown))}")
    rows = [(f"`{key}`", found[key], text) for key, text in words.items()]
    return table(("key", "default", "meaning"), rows)


def installer_options() -> str:
    """Every option of every installer."""
    kinds = {"dir-symlink": dir_symlink, "single-file": single_file, "exec": exec_}
    rows = [
        (f"`{kind}`", f"`{name}`", default, INSTALLERS[name])
        for kind, module in kinds.items()
        for name, default in fields(module.Options)
    ]
    return table(("installer", "option", "default", "meaning"), rows)


def health_options() -> str:
    """Every option of every probe."""
    common = dict(fields(health.Common, skip=("kind",)))
    kinds = {
        "command": health.CommandOptions,
        "http": health.HttpOptions,
        "tcp": health.TcpOptions,
    }
    rows = [("all", f"`{name}`", default, PROBES[name]) for name, default in common.items()]
    for kind, options in kinds.items():
        own = fields(options, skip=("kind", *common))
        rows += [(f"`{kind}`", f"`{name}`", default, PROBES[name]) for name, default in own]
    return table(("probe", "option", "default", "meaning"), rows)


def exit_codes() -> str:
    """Exit codes, with the error codes that are always behind each."""
    by_exit: dict[int, list[str]] = {}
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.OtaError) and kind is not errors.Refusal:
            by_exit.setdefault(kind.exit_code, []).append(kind.code)
    missing = set(by_exit) - set(EXITS)
    if missing:
        raise SystemExit(f"no words for exit codes {missing}")
    rows = [
        (str(code), words, ", ".join(f"`{c}`" for c in sorted(set(by_exit.get(code, ())))))
        for code, words in EXITS.items()
    ]
    return table(("exit", "meaning", "usual codes"), rows)


def refusals() -> str:
    """The table of refusals."""
    rows = [(f"`{code}`", row.cause, row.remedy) for code, row in REFUSALS.items()]
    return table(("refusal", "cause", "what to do"), rows)


def aws_troubles() -> str:
    """What can be wrong between a device and AWS."""
    return _troubles(aws_trouble.TROUBLES)


def feed_troubles() -> str:
    """What can be wrong between a device and its broker."""
    return _troubles(iot_trouble.TROUBLES)


def _troubles(found: Mapping[str, Any]) -> str:
    rows = [(f"`{code}`", row.cause, row.remedy) for code, row in found.items()]
    return table(("code", "cause", "what to do"), rows)


def rollout_diagram() -> str:
    """The rollout's states."""
    return f"```mermaid\n{rollout_states.mermaid().rstrip()}\n```\n"


def agent_diagram() -> str:
    """The agent's states."""
    return f"```mermaid\n{agent_states.diagram().rstrip()}\n```\n"


def run_diagram() -> str:
    """The states of a playbook's run."""
    return f"```mermaid\n{run_states.diagram().rstrip()}\n```\n"


def rules() -> str:
    """The rules, each with the tests that hold it."""
    rows = [
        (str(number), f"**{rule.title}.** {rule.text}", "<br>".join(map(_test, rule.tests)))
        for number, rule in RULES.items()
    ]
    return table(("", "rule", "held by"), rows)


def lens() -> str:
    """The principles of the IoT Lens, what is done about each, and its tests."""
    rows = [(name, p.answer, "<br>".join(map(_test, p.tests))) for name, p in LENS.items()]
    return table(("principle", "here", "shown by"), rows)


def thieves() -> str:
    """What each thief can do, what not, and the tests that assert both halves."""
    rows = [
        (who, thief.can, thief.can_not, "<br>".join(map(_attack, thief.files)))
        for who, thief in THIEVES.items()
    ]
    return table(("who has", "can", "can not", "shown by"), rows)


def threats() -> str:
    """Every threat, what is said of it, and its test."""
    rows = [
        (name, threat.answer, "<br>".join(map(_attack, threat.files)))
        for name, threat in THREATS.items()
    ]
    return table(("threat", "answer", "shown by"), rows)


def _attack(file: str) -> str:
    return f"[`{file}`](tests/attacks/{file}.py)"


def _test(node: str) -> str:
    """``unit/test_x::test_y`` -> a link named ``test_y``."""
    module, _, name = node.partition("::")
    return f"[`{name}`](tests/{module}.py)"


def aws_permissions() -> str:
    """What each role, device and rule may do, from the stacks as rendered with the example."""
    folder = ROOT / "playbooks" / "aws"
    found = values.read((folder / "infra.toml").read_bytes(), "infra.toml")
    policies = stacks.policies(stacks.parse(render.render(folder, found)), found)
    rows = [
        (
            f"`{policy.owner}`",
            ("" if statement.allows else "never ") + _listed(statement.actions),
            _listed(_ends(statement.resources)),
        )
        for policy in policies
        if policy.kind in {"identity", "iot"}
        for statement in policy.statements
    ]
    return table(("who", "may", "on"), rows)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _ends(arns: Iterable[str]) -> Iterator[str]:
    """The ends of ARNs, which say what they are: ``job/ota-*``."""
    for arn in arns:
        yield arn.split(":", 5)[-1] if arn.startswith("arn:") else arn


def ssh_toml() -> str:
    """Every key of the SSH inventory."""
    found = {"defaults": "", "hosts.DEVICE": ""}
    found |= _prefixed("limits.", fields(ssh_inventory.Limits))
    found |= _prefixed("sites.NAME.", fields(ssh_inventory.Site))
    found |= _prefixed("hops.NAME.", fields(ssh_inventory.Hop, skip=("name",)))
    own = [f.name for f in msgspec.structs.fields(ssh_inventory.Hop)]
    found |= _prefixed("hosts.DEVICE.", fields(ssh_inventory.Host, skip=own))
    return _described(found, SSH)


SECTIONS: dict[str, Callable[[], str]] = {
    "aws-permissions": aws_permissions,
    "agent-toml": agent_toml,
    "iot-jobs-toml": iot_jobs_toml,
    "iot-jobs-calls": iot_jobs_calls,
    "ssh-toml": ssh_toml,
    "installer-options": installer_options,
    "health-options": health_options,
    "exit-codes": exit_codes,
    "refusals": refusals,
    "aws-troubles": aws_troubles,
    "feed-troubles": feed_troubles,
    "rules": rules,
    "lens": lens,
    "thieves": thieves,
    "threats": threats,
    "rollout-states": rollout_diagram,
    "agent-states": agent_diagram,
    "run-states": run_diagram,
}


def rendered(text: str) -> str:
    """The README with every section as the code says it now."""
    return _SECTION.sub(lambda m: f"{m[1]}{SECTIONS[m[2]]()}{m[3]}", text)


def names(text: str) -> list[str]:
    """The sections that a text has."""
    return [m[2] for m in _SECTION.finditer(text)]


def main(arguments: Sequence[str]) -> int:
    """Check, or with ``--write`` rewrite."""
    before = README.read_text()
    after = rendered(before)
    if arguments == ["--write"] and after != before:
        README.write_text(after)
    elif after != before:
        sys.stderr.write("README.md: generated sections differ: readme_sections.py --write\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
