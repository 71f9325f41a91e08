"""Where a person is: prompts, passphrases, confirmation, watching, interruption."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from ota.errors import Misuse, NotFound
from ota.settings import settings
from ota.wiring.wiring import Wiring
from tests.cli.conftest import START, Ota


def load(folder: Path, text: str, **env: str) -> settings.Settings:
    folder.mkdir(exist_ok=True)
    (folder / "ota.toml").write_text(text)
    return settings.load(folder, env)


def test_order_of_passphrases(tmp_path: Path) -> None:
    """The most particular source wins: own variable, own line, variable, default, prompt."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"from file\r\n")
    secret.chmod(0o600)
    text = "[passphrases]\ndefault = 'env:ELSE'\nroot-1 = 'file:secret'\n"
    everything = {"OTA_PASSPHRASE_ROOT_1": "own", "OTA_PASSPHRASE": "all", "ELSE": "default"}

    def answer(text: str, name: str, **env: str) -> bytes:
        return load(tmp_path, text, **env).passphrase(name, lambda prompt: f"<{prompt}>")

    assert answer(text, "root-1", **everything) == b"own"
    del everything["OTA_PASSPHRASE_ROOT_1"]
    assert answer(text, "root-1", **everything) == b"from file"
    assert answer(text, "root-2", **everything) == b"all"
    del everything["OTA_PASSPHRASE"]
    assert answer(text, "root-2", **everything) == b"default"
    assert answer("", "root-2") == b"<Passphrase of root-2>"


@pytest.mark.parametrize("reference", ["env:NOWHERE", "env:EMPTY", "file:nothing"])
def test_missing_secret_is_named(tmp_path: Path, reference: str) -> None:
    """A reference to nothing says which, and never falls through to another source."""
    found = load(tmp_path, f"[passphrases]\nroot-1 = '{reference}'\n", EMPTY="")
    with pytest.raises(NotFound, match=r"passphrases\.root-1"):
        found.passphrase("root-1", lambda _: "never asked")


def test_registry_password_is_put_in(tmp_path: Path) -> None:
    """The password comes from its reference, quoted, and SQLite paths count from the workspace."""
    text = "[registry]\nurl = 'postgresql+psycopg://ota@db:5432/ota'\npassword = 'env:DB'\n"
    found = load(tmp_path, text, DB="p@ss/word")
    assert found.registry_url == "postgresql+psycopg://ota:p%40ss%2Fword@db:5432/ota"
    assert load(tmp_path, "").registry_url == f"sqlite:///{tmp_path}/state/registry.db"


def test_new_passphrase_is_asked_twice(tmp_path: Path) -> None:
    """A typing mistake in a new passphrase is caught before the key is made."""
    answers = iter(["one", "one", "one", "two"])
    wiring = Wiring(load(tmp_path, ""), lambda _: next(answers), lambda: START)
    assert wiring.new_passphrase("root-1") == b"one"
    with pytest.raises(Misuse, match="differ"):
        wiring.new_passphrase("root-1")


def test_prompt_on_a_terminal(ota: Ota, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the passphrase is asked for without echo, once a key."""
    asked: list[str] = []
    monkeypatch.delenv("OTA_PASSPHRASE")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: asked.append(prompt) or "new secret")
    assert ota("key", "generate", "spare").code == 0
    assert asked == ["Passphrase of spare: ", "Passphrase of spare, again: "]


@pytest.mark.parametrize(("answer", "code"), [(True, 0), (False, 1)])
def test_confirmation_on_a_terminal(
    ota: Ota, monkeypatch: pytest.MonkeyPatch, answer: bool, code: int
) -> None:
    """A person says yes or no; no changes nothing and is not an accident."""

    def confirm(text: str, **_: object) -> bool:
        assert text == "gw-1: will be retired, without a receipt. Go on?"
        if not answer:
            raise typer.Abort
        return True

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", confirm)
    result = ota("fleet", "retire", "gw-1")
    assert result.code == code
    states = {row["id"]: row["state"] for row in ota.ok("fleet", "list", "-o", "json").json}
    assert states["gw-1"] == ("retired" if answer else "active")
    if not answer:
        assert result.err == (
            "error: not confirmed: nothing was done after the question\ncode: usage\n"
            "next: ota fleet retire again\n"
        )


@pytest.mark.parametrize("noun", ["repo", "release", "add"])
def test_a_signer_sees_what_it_says_and_is_asked_first(
    ota: Ota, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noun: str
) -> None:
    """Whichever command signs, it shows the change before; a no, and nothing is signed."""
    image = tmp_path / "new.bin"
    image.write_bytes(b"new")
    add = ["release", "add", image, "--component", "app", "--version", "9.0.0"]
    ota.ok(*add, "--hardware", "gw-rev-b")
    sign = [*add, "--hardware", "gw-rev-b", "--sign", "targets-1"]
    words = sign if noun == "add" else [noun, "sign", "--key", "targets-1"]

    def no(text: str, **_: object) -> bool:
        assert text == "sign this change of the image repository?"
        raise typer.Abort

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with monkeypatch.context() as asked:
        asked.setattr(typer, "confirm", no)
        refused = ota(*words)
    assert refused.code == 1
    assert "image: app: lists app/app-9.0.0.bin, version 9.0.0" in refused.err
    (waiting,) = ota.ok("repo", "status", "-o", "json").json["waiting"]
    assert waiting["signed"] == []


def test_watch_until_closed(
    ota: Ota, second: Path, answer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``status --watch`` looks again until the rollout is closed, then prints it whole."""
    plan = ota.folder.parent / "plan.json"
    ota.ok("rollout", "plan", second, "--out", plan)
    ota.ok("rollout", "approve", plan, "--key", "approver")
    ota.ok("rollout", "start", plan)
    rollout = ota.ok("rollout", "list", "-o", "json").json[0]["rollout"]

    def meanwhile(_: float) -> None:
        wiring = ota.wiring()
        wiring.campaign.abort(rollout, ota.now, "leave")
        wiring.close()

    monkeypatch.setattr(time, "sleep", meanwhile)
    result = ota("rollout", "status", "--watch", "-o", "json")
    assert (result.code, result.json["state"]) == (0, "ABORTED")
    assert result.err == "app-2-TOKEN RUNNING: canary 0/1 committed (never stepped)\n"


def test_interrupted(ota: Ota, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is exit 130 and no traceback."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Wiring, "store_application", interrupt)
    result = ota("store", "serve")
    assert (result.code, result.out) == (130, "")
    assert "Traceback" not in result.err
