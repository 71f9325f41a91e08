"""ota.toml: settings, or an error that names the file; and no secret is ever in a message."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged, mutated, toml

from ota.errors import Malformed, NotFound, NotPermitted, OtaError
from ota.settings import settings
from ota.settings.settings import Settings

DOCUMENT: dict[str, Any] = {
    "store": {"url": "file:store"},
    "registry": {
        "url": "postgresql+psycopg://ota@db/ota",
        "password": "env:OTA_DB_PASSWORD",
    },
    "couriers": {"spool": {"path": "spool"}},
    "keys": {"root-1": "file:/media/usb/root-1.pem", "root-2": "hsm:1?label=plant"},
    "passphrases": {"default": "prompt", "root-1": "file:keys/passphrase"},
}
TEXT = toml(DOCUMENT)
SECRET = "s3cr3t-of-the-database"
ENV = {"OTA_DB_PASSWORD": SECRET, "OTA_PASSPHRASE_ROOT_2": SECRET}


def read(data: bytes) -> Settings | None:
    """The settings and everything that is asked of them; None when refused by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ota.toml"
        path.write_bytes(data)
        try:
            found = settings.load(Path(folder), ENV)
        except Malformed as error:
            assert "ota.toml" in str(error)
            return None
        assert [p.name for p in Path(folder).iterdir()] == ["ota.toml"]
        used(found)
    return found


def used(found: Settings) -> None:
    """Paths lie somewhere; references are followed or named."""
    assert found.store.is_absolute()
    assert found.spool is None or found.spool.is_absolute()
    for name in ("root-1", "root-2", "root-3"):
        assert found.key_uri(name)
        try:
            assert found.passphrase(name, lambda _prompt: "asked")
        except (NotFound, NotPermitted) as error:
            assert SECRET not in f"{error} {error.remedy} {error.subject}"
    try:
        assert found.registry_url
    except OtaError as error:
        assert SECRET not in f"{error} {error.remedy} {error.subject}"


def test_the_example_is_read() -> None:
    """What the examples begin with is complete, and the password is where it belongs."""
    found = read(TEXT)
    assert found is not None
    assert found.registry_url == f"postgresql+psycopg://ota:{SECRET}@db/ota"


@budget(2)
@given(mutated(DOCUMENT))
def test_mutated(document: Any) -> None:
    """Keys and values of every kind, in every place."""
    read(toml(document))


@budget(1)
@given(damaged(TEXT) | st.binary(max_size=200))
def test_damaged_bytes(data: bytes) -> None:
    """A file that was cut, edited by accident, or is another one."""
    read(data)
