"""``agent.toml``: the device owner's word on what this device is and where it looks.

>>> config = load(Path("/etc/ota-agent/agent.toml"))
>>> config.components["app"].hardware_id
'gw-rev-b'
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from ota.agent import aws_options, options, secret
from ota.agent.aws_options import AwsOptions
from ota.agent.download import DownloadLimits, check_url
from ota.agent.feeds.options import ON_TOKEN, IotJobsOptions, NoFeedOptions, Options
from ota.agent.options import Argv, Seconds
from signing import strict
from signing.errors import Malformed, OtaError
from signing.layout import PLAYBOOKS
from signing.release import split_path


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every table refuses keys that it does not know."""


class Factory(Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The image the device left the factory with; its counter is the first floor (rule 4).

    With the ``path`` of a listed release it may be a way back; without one it is unmanaged.
    """

    version: str = ""
    release_counter: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    path: str = ""
    length: Annotated[int, msgspec.Meta(ge=0, le=2**50)] = 0


class ComponentConfig(Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[components.NAME]``; ``options`` are the installer's, ``health`` the probe's."""

    hardware_id: str
    installer: str
    health: dict[str, Any]
    options: dict[str, Any] = {}
    factory: Factory = Factory()


class IdentityConfig(Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[identity]``: the key that signs reports.

    ``key`` "" is a file that provisioning makes; ``hsm:ID?label=TOKEN&module=PATH`` is on a
    token, made there by the owner, with its ``pin`` by reference.
    """

    key: str = ""
    pin: str = ""

    def check(self) -> None:
        """``Malformed`` names the key."""
        if self.key:
            if not self.key.startswith(ON_TOKEN):
                raise Malformed("identity.key: not hsm:[ID][?label=TOKEN][&module=PATH]")
            secret.check(self.pin, "identity.pin")
        elif self.pin:
            raise Malformed("identity.pin: only a key on a token has one")


class Poll(Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[poll]``: seconds between looks without a hint, and the share that is random."""

    interval: Seconds = 300.0
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2


class Hook(Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[may_install]``: the plant's interlock; exit status 0 means "now is a good time"."""

    argv: Argv
    timeout: Seconds = 10.0


class Config(Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    ``security_soak``: seconds that a security fix runs before its lower previous is dropped.
    """

    device: str
    state_dir: str
    store: str
    components: dict[str, ComponentConfig]
    feed: Options = NoFeedOptions()
    identity: IdentityConfig = IdentityConfig()
    aws: AwsOptions | None = None
    poll: Poll = Poll()
    limits: dict[str, int | float] = {}
    may_install: Hook | None = None
    reboot: Argv | None = None
    service_manager: Argv | None = None
    package_manager: Argv | None = None
    playbooks: bool = True
    security_soak: Annotated[float, msgspec.Meta(ge=0, le=3660 * 86_400)] = 86_400.0

    @property
    def state(self) -> Path:
        """The agent's own folder."""
        return Path(self.state_dir)

    def download_limits(self) -> DownloadLimits:
        """``[limits]``; unknown names and wrong types are ``Malformed``."""
        try:
            return msgspec.convert(self.limits, DownloadLimits, strict=True)
        except msgspec.ValidationError as e:
            raise Malformed(f"limits: {e}", subject="limits") from e


def load(path: Path) -> Config:
    """Read and check the file; ``Malformed`` names the file and the key."""
    found = options.load(path, Config)
    try:
        config = _completed(found)
        _check(config)
    except Malformed as e:
        raise Malformed(f"{path}: {e}", subject=e.subject, remedy=f"correct {path}") from e
    return config


def _completed(config: Config) -> Config:
    """With what ``[aws]`` leaves out: the device is the thing, and has one certificate for both."""
    if config.aws is None:
        return config
    feed, aws = config.feed, config.aws
    known = {"thing": config.device}
    if isinstance(feed, IotJobsOptions):
        known |= {"certificate": feed.certificate, "ca": feed.ca}
        known |= {"thing": feed.thing or config.device, "key": "" if feed.on_token else feed.key}
    lacking = {name: value for name, value in known.items() if not getattr(aws, name)}
    aws = msgspec.structs.replace(aws, **lacking)
    return msgspec.structs.replace(config, aws=aws)


def _check_store(config: Config) -> None:
    if not config.store.startswith("s3://"):
        check_url(config.store)
        if config.aws is not None:
            raise Malformed("aws: only a store of s3:// needs it")
        return
    aws_options.check_bucket(config.store)
    if config.aws is None:
        raise Malformed("aws: a store of s3:// needs this table")
    config.aws.check()


def _check(config: Config) -> None:
    strict.identifier(config.device, "device")
    _check_store(config)
    if not config.state_dir.startswith("/"):
        raise Malformed(f"state_dir: {config.state_dir!r:.120} is not an absolute path")
    if not config.components:
        raise Malformed("components: there is none")
    for name, component in config.components.items():
        strict.identifier(name, "components")
        if name == PLAYBOOKS:
            raise Malformed(f"components: {PLAYBOOKS} is what playbooks are called")
        strict.identifier(component.hardware_id, f"components.{name}.hardware_id")
        if component.factory.version:
            strict.version_text(component.factory.version, f"components.{name}.factory.version")
        if component.factory.path:
            split_path(component.factory.path, name)
    config.feed.check()
    config.identity.check()
    try:
        unknown = set(config.limits) - set(DownloadLimits.__dataclass_fields__)
        if unknown:
            raise Malformed(f"limits: unknown {', '.join(sorted(unknown))}")
        config.download_limits()
    except OtaError as e:
        raise Malformed(str(e)) from e
