"""The house's walls: who imports whom, how long files grow, and that every test asserts.

Read from the syntax tree, so that an import inside a function counts too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 400

SOURCES = sorted([*(ROOT / "signing").rglob("*.py"), *(ROOT / "ota").rglob("*.py")])
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

# Rooms, first match wins: the prefix of a module's name -> its room.
ROOMS = {
    "signing": "signing",
    "ota.errors": "errors",
    "ota.ports_device": "device-ports",
    "ota.ports": "ports",
    "ota.settings": "settings",
    "ota.shipped": "shipped",
    "ota.wiring": "wiring",
    "ota.cli": "cli",
    "ota.__main__": "cli",
    "ota.quickstart": "quickstart",
    "ota.agent": "agent",
    "ota.stores": "stores",
    "ota.couriers": "couriers",
    "ota.aws": "aws",
    "ota.fleet.selectors": "pure",
    "ota.fleet.entries": "pure",
    "ota.fleet": "fleet",
    "ota.yaml": "pure",
    "ota.rollout.journal": "journal",
    "ota.rollout": "rollout",
    "ota.workspace": "workspace",
    "ota": "use-case",
}
_DOMAIN = {"signing", "errors", "ports", "pure"}
# What each room may import besides itself. Use cases and adapters stand side by side.
MAY = {
    "signing": set(),
    "errors": {"signing"},
    "ports": {"signing", "errors"},
    "device-ports": {"signing"},
    "pure": {"signing", "errors", "ports"},
    "shipped": {"errors"},
    "settings": {"signing", "errors"},
    "aws": {"signing", "errors"},
    "stores": _DOMAIN | {"aws"},
    "couriers": _DOMAIN | {"aws"},
    "fleet": _DOMAIN | {"aws"},
    "rollout": _DOMAIN,
    "journal": _DOMAIN,
    "use-case": _DOMAIN,
    "workspace": {"signing", "errors", "settings", "shipped"},
    "agent": {"signing", "errors", "device-ports"},
    "wiring": set(ROOMS.values()) - {"cli", "agent", "quickstart"},
    "cli": set(ROOMS.values()) - {"agent", "stores", "couriers", "journal", "aws"},
    "quickstart": set(ROOMS.values()) - {"agent", "stores", "couriers", "journal", "aws"},
}
# Libraries that only some modules may know.
ONLY_IN = {
    "boto3": ("ota.aws.", "signing.aws.", "signing.keys.kms"),
    "botocore": ("ota.aws.", "ota.stores.", "ota.fleet.aws", "signing.aws.", "signing.keys.kms"),
    "paramiko": ("ota.couriers.ssh",),
    "paho": ("ota.agent.feeds.wire_paho",),
    "awscrt": ("ota.agent.feeds.wire_crt",),
    "typer": ("ota.cli.",),
    "rich": ("ota.cli.", "ota.quickstart"),
    "sqlalchemy": ("ota.fleet.", "ota.rollout.journal"),
    "yaml": ("ota.yaml.strict", "ota.infra.stacks"),
    "starlette": ("ota.stores.",),
    "uvicorn": ("ota.stores.", "ota.cli.store", "ota.quickstart."),
    "jinja2": ("ota.playbook", "ota.infra.render"),
    "cfnlint": ("ota.infra.lint",),
    "policy_sentry": ("ota.infra.lint", "ota.infra.narrow"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    for prefix, name in ROOMS.items():
        if module == prefix or module.startswith((f"{prefix}.", f"{prefix}_")):
            return name
    raise AssertionError(f"{module} is in no room")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def modules() -> frozenset[str]:
    return frozenset(map(module_name, SOURCES))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, wherever it stands; ``from a import b`` may be ``a.b``."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in modules() else base


def test_there_is_something_to_check() -> None:
    """The walks below find the product's files."""
    assert len(SOURCES) > 40
    assert len(TESTS) > 10


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_go_down(path: Path) -> None:
    """Cli -> wiring -> use cases and adapters -> ports -> pure domain -> signing, never up."""
    mine = room(module_name(path))
    for line, module in imports(path):
        if module.partition(".")[0] not in {"ota", "signing"} or module == "ota":
            continue
        theirs = room(module)
        assert theirs in MAY[mine] | {mine}, f"{path}:{line}: {mine} imports {module} ({theirs})"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_heavy_libraries_stay_where_they_belong(path: Path) -> None:
    """boto3, paramiko, typer, rich, SQLAlchemy, YAML and servers are known to few modules."""
    name = module_name(path)
    for line, module in imports(path):
        allowed = ONLY_IN.get(module.partition(".")[0])
        if allowed is not None:
            assert f"{name}.".startswith(allowed), f"{path}:{line}: {name} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_private_parts_of_tuf_are_touched_in_one_place(path: Path) -> None:
    """Only signing/client/workflow.py reaches into python-tuf's internals."""
    for line, module in imports(path):
        private = module.startswith(("tuf.", "securesystemslib.")) and "._" in module
        assert not private or module_name(path) == "signing.client.workflow", (
            f"{path}:{line}: {module}"
        )


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_errors_are_caught_by_name(path: Path) -> None:
    """No handler swallows everything; one that undoes and raises again may catch it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            last = node.body[-1]
            if isinstance(last, ast.Raise) and last.exc is None:
                continue
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in {"everything", "Exception", "BaseException"}, (
                f"{path}:{node.lineno}: catches {caught}"
            )


def test_private_part_exists() -> None:
    """The one internal class we build on is where this version of python-tuf keeps it."""
    from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet  # noqa: PLC0415 - the claim

    assert {"update_root", "update_timestamp", "update_snapshot"} <= set(dir(TrustedMetadataSet))


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    """No file is longer than 400 lines; tables of attacks in tests may take half as many more."""
    length = len(path.read_text().splitlines())
    longest = LONGEST if path in SOURCES else LONGEST * 3 // 2
    assert length <= longest, f"{path}: {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_modules_say_what_they_are(path: Path) -> None:
    """Every module that holds code begins with a docstring."""
    parsed = tree(path)
    assert ast.get_docstring(parsed) or not parsed.body, f"{path}: no docstring"


@pytest.mark.parametrize("path", TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_tests_claim_and_assert(path: Path) -> None:
    """Every test states its claim, and every test file asserts or expects an error."""
    parsed = tree(path)
    tests = [
        node
        for node in ast.walk(parsed)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert tests, f"{path}: no tests"
    for node in tests:
        assert ast.get_docstring(node), f"{path}:{node.lineno}: {node.name} has no claim"
    words = ast.unparse(parsed)
    asserting = ("assert ", "pytest.raises", "with threat(")  # simulators/threats.py asserts
    assert any(word in words for word in asserting), f"{path}: asserts nothing"


def test_only_the_trust_room_has_the_seal() -> None:
    """Nobody but ``ota/agent/trust.py`` can make the proof that installers take."""
    users = [p for p in SOURCES if "SEAL" in p.read_text()]
    assert [str(p.relative_to(ROOT)) for p in users] == ["ota/agent/proof.py", "ota/agent/trust.py"]


def test_no_test_is_skipped() -> None:
    """Nothing is skipped or expected to fail."""
    for path in TESTS:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail"}:
                raise AssertionError(f"{path}:{node.lineno}: {node.attr}")


def test_names_of_test_files_are_unique() -> None:
    """One name, one file: reports stay unambiguous."""
    names = [path.name for path in TESTS]
    assert len(names) == len(set(names))
