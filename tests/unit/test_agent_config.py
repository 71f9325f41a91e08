"""``agent.toml`` is read strictly: every fault names the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from ota.agent import build, config
from ota.agent.feeds.options import IotJobsOptions
from signing.errors import Malformed, NotFound

GOOD = """device = "press-07"
state_dir = "/var/lib/ota-agent"
store = "https://updates.example"

[components.app]
hardware_id = "gw-rev-b"
installer = "single-file"
options = { path = "/opt/app/model.bin" }
health = { kind = "none" }

[feed]
kind = "none"
"""


def read(tmp_path: Path, text: str | bytes) -> config.Config:
    path = tmp_path / "agent.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.load(path)


def test_small_file_is_enough(tmp_path: Path) -> None:
    """Everything that has a safe default may be left out."""
    found = read(tmp_path, GOOD)
    assert found.poll.interval == 300
    assert found.may_install is None
    assert found.download_limits().minimum_rate == 1024
    assert found.components["app"].factory.release_counter == 0


def test_everything_can_be_said(tmp_path: Path) -> None:
    """Hooks, limits, soak and factory image are read."""
    text = (
        'security_soak = 5\nreboot = ["/sbin/reboot"]\n'
        + GOOD
        + (
            "[poll]\ninterval = 10\njitter = 0\n"
            "[limits]\nminimum_rate = 1\nimage_total = 9.5\nmax_image = 1000\n"
            '[may_install]\nargv = ["/usr/bin/press-is-open"]\ntimeout = 3\n'
        )
    )
    text = text.replace(
        "[feed]", 'factory = { version = "1.0", release_counter = 4, path = "app/a" }\n[feed]'
    )
    found = read(tmp_path, text)
    assert found.download_limits().max_image == 1000
    assert found.components["app"].factory.release_counter == 4
    assert found.may_install is not None
    assert found.security_soak == 5


IOT = GOOD.replace(
    '[feed]\nkind = "none"\n',
    """[feed]
kind = "iot-jobs"
endpoint = "a1-ats.iot.eu-west-1.amazonaws.com"
certificate = "/etc/ota-agent/iot.pem"
key = "/etc/ota-agent/iot.key"
""",
)
TOKEN = IOT.replace(
    'key = "/etc/ota-agent/iot.key"\n',
    'key = "hsm:tls?label=gw&module=/usr/lib/vendor.so"\nfallback = ["mqtt-443"]\n',
)


def test_iot_jobs_needs_an_endpoint_and_a_certificate(tmp_path: Path) -> None:
    """The rest has defaults: the ways that firewalls leave, and names that follow the device's."""
    found = read(tmp_path, IOT).feed
    assert isinstance(found, IotJobsOptions)
    assert (found.kind, found.port, found.fallback) == ("iot-jobs", 8883, ("mqtt-443", "https"))
    assert (found.thing, found.client_id, found.ca) == ("", "", "")
    assert found.at_once().start_jitter == 0
    assert found.patience > 3 * found.timeout


def test_keys_on_tokens_are_named_with_their_pins_by_reference(tmp_path: Path) -> None:
    """Both the connection's key and the one that signs reports."""
    text = TOKEN.replace("[feed]", '[identity]\nkey = "hsm:1"\npin = "env:PIN"\n[feed]')
    found = read(tmp_path, f'{text}pin = "file:/etc/ota-agent/pin"\n')
    assert isinstance(found.feed, IotJobsOptions)
    assert found.feed.on_token
    assert found.identity.key == "hsm:1"


BUCKET = (
    GOOD.replace("https://updates.example", "s3://updates/plant-7")
    + """
[aws]
region = "eu-west-1"
credentials_endpoint = "c1abc.credentials.iot.eu-west-1.amazonaws.com"
role_alias = "ota-device"
certificate = "/etc/ota-agent/tls.pem"
key = "/etc/ota-agent/tls.key"
"""
)


def test_a_bucket_needs_little(tmp_path: Path) -> None:
    """The thing is the device, where it is left out."""
    found = read(tmp_path, BUCKET).aws
    assert found is not None
    assert (found.thing, found.ca, found.s3_endpoint) == ("press-07", "", "")


def test_a_key_on_a_token_goes_every_way(tmp_path: Path) -> None:
    """Over HTTPS, too."""
    text = TOKEN.replace('"mqtt-443"', '"mqtt-443", "https"') + 'pin = "env:PIN"\n'
    feed = read(tmp_path, text).feed
    assert isinstance(feed, IotJobsOptions)
    assert feed.fallback == ("mqtt-443", "https")


def test_a_bucket_takes_the_feeds_certificate(tmp_path: Path) -> None:
    """One certificate for both, unless the owner says otherwise; a key on a token does not serve."""
    kind = '[feed]\nkind = "none"\n'
    feed = IOT[IOT.index("[feed]") :]
    lines = ("certificate =", "key =")
    short = "".join(x for x in BUCKET.splitlines(True) if not x.startswith(lines))
    found = read(tmp_path, short.replace(kind, feed)).aws
    assert found is not None
    assert (found.certificate, found.key) == ("/etc/ota-agent/iot.pem", "/etc/ota-agent/iot.key")
    own = read(tmp_path, BUCKET.replace(kind, feed)).aws
    assert own is not None
    assert own.certificate == "/etc/ota-agent/tls.pem"
    token = TOKEN[TOKEN.index("[feed]") :] + 'pin = "env:PIN"\n'
    with pytest.raises(Malformed, match=r"aws: key"):
        read(tmp_path, short.replace(kind, token))


WRONG = {
    "not toml": ("device = ", "agent.toml"),
    "not text": (b"\xff\xfe", "agent.toml"),
    "unknown key": (GOOD.replace("[feed]", "colour = 1\n[feed]"), "colour"),
    "unknown table": (GOOD + "[food]\nx = 1\n", "food"),
    "missing device": (GOOD.replace("device", "devise", 1), "devise"),
    "device with slash": (GOOD.replace("press-07", "../press", 1), "device"),
    "relative state": (GOOD.replace("/var/lib", "var/lib"), "state_dir"),
    "http far away": (GOOD.replace("https", "http"), "store"),
    "ftp": (GOOD.replace("https", "ftp"), "store"),
    "no component": (GOOD[: GOOD.index("[components")] + "[components]\n", "components"),
    "component name": (GOOD.replace("components.app", 'components."a/b"'), "components"),
    "hardware": (GOOD.replace("gw-rev-b", "gw rev b"), "components.app.hardware_id"),
    "no health": (GOOD.replace('health = { kind = "none" }\n', ""), "health"),
    "counter": (GOOD.replace("[feed]", "factory = { release_counter = -1 }\n[feed]"), "factory"),
    "factory path": (GOOD.replace("[feed]", 'factory = { path = "os/x" }\n[feed]'), "os/x"),
    "feed kind": (
        GOOD.replace('kind = "none"\n\n', "").replace(
            '[feed]\nkind = "none"', '[feed]\nkind = "pigeon"'
        ),
        "feed.kind",
    ),
    "spool path": (
        GOOD.replace('[feed]\nkind = "none"', '[feed]\nkind = "spool"\npath = "x"'),
        "feed.path",
    ),
    "feed without kind": (GOOD.replace('[feed]\nkind = "none"', '[feed]\npath = "/x"'), "kind"),
    "spool with a port": (
        GOOD.replace('[feed]\nkind = "none"', '[feed]\nkind = "spool"\npath = "/x"\nport = 1'),
        "port",
    ),
    "endpoint with a scheme": (IOT.replace("a1-ats", "https://a1-ats"), "feed.endpoint"),
    "endpoint with a port": (IOT.replace(".com", ".com:8883"), "feed.endpoint"),
    "no certificate": (IOT.replace("certificate", "certificat"), "certificat"),
    "relative certificate": (IOT.replace("/etc/ota-agent/iot.pem", "iot.pem"), "certificate"),
    "relative key": (IOT.replace("/etc/ota-agent/iot.key", "iot.key"), "key"),
    "relative ca": (f'{IOT}ca = "ca.pem"\n', "ca"),
    "feed port": (f"{IOT}port = 0\n", "feed.port"),
    "thing": (f'{IOT}thing = "a/b"\n', "feed.thing"),
    "client id": (f'{IOT}client_id = "+"\n', "feed.client_id"),
    "fallback": (f'{IOT}fallback = ["pigeon"]\n', "feed.fallback"),
    "keepalive": (f"{IOT}keepalive = 0\n", "feed.keepalive"),
    "pin without token": (f'{IOT}pin = "env:PIN"\n', "feed.pin"),
    "token without pin": (TOKEN, "feed.pin"),
    "pin by value": (f'{TOKEN}pin = "1234"\n', "feed.pin"),
    "identity uri": (f'{IOT}[identity]\nkey = "pkcs11:x"\n', "identity.key"),
    "identity pin": (f'{IOT}[identity]\nkey = "hsm:1"\npin = "1234"\n', "identity.pin"),
    "identity pin alone": (f'{IOT}[identity]\npin = "env:PIN"\n', "identity.pin"),
    "interval": (GOOD + "[poll]\ninterval = 0\n", "poll.interval"),
    "jitter": (GOOD + "[poll]\njitter = 2\n", "poll.jitter"),
    "limit name": (GOOD + "[limits]\nspeed = 1\n", "speed"),
    "limit type": (GOOD + '[limits]\nmax_image = "1"\n', "limits"),
    "hook": (GOOD + "[may_install]\nargv = []\n", "may_install.argv"),
    "shell string": (GOOD + '[may_install]\nargv = "true"\n', "may_install.argv"),
    "soak": ("security_soak = -1\n" + GOOD, "security_soak"),
    "soak for ever": ("security_soak = inf\n" + GOOD, "security_soak"),
    "port": (GOOD.replace("updates.example", "updates.example:99999"), "store"),
    "no host": (GOOD.replace("updates.example", ""), "store"),
    "half an address": (GOOD.replace("updates.example", "[::1"), "store"),
    "no window": (GOOD + "[limits]\nwindow = 0\n", "limits"),
    "no number": (GOOD + "[limits]\nread = nan\n", "limits"),
    "negative rate": (GOOD + "[limits]\nminimum_rate = -1\n", "limits"),
    "bucket without aws": (BUCKET[: BUCKET.index("[aws]")], "aws"),
    "aws without bucket": (BUCKET.replace("s3://updates", "https://updates"), "aws"),
    "bucket": (BUCKET.replace("s3://updates", "s3://Up"), "store"),
    "prefix": (BUCKET.replace("plant-7", "../plant-7"), "store"),
    "region": (BUCKET.replace('"eu-west-1"', '"Dublin"'), "aws.region"),
    "provider": (BUCKET.replace("c1abc.", "https://c1abc."), "aws.credentials_endpoint"),
    "alias": (BUCKET.replace("ota-device", "ota/device"), "aws.role_alias"),
    "thing of aws": (f'{BUCKET}thing = "a b"\n', "aws.thing"),
    "relative file": (BUCKET.replace("/etc/ota-agent/tls.key", "tls.key"), "aws: key"),
    "relative list": (f'{BUCKET}ca = "ca.pem"\n', "aws: ca"),
    "clear text": (f'{BUCKET}s3_endpoint = "http://s3.example"\n', "aws.s3_endpoint"),
    "endpoint path": (f'{BUCKET}s3_endpoint = "https://s3.example/x"\n', "aws.s3_endpoint"),
    "secret": (f'{BUCKET}secret_key = "x"\n', "secret_key"),
    "deep": ("device = " + "[" * 100_000, "agent.toml"),
    "huge": (GOOD + "#" * 300_000, "agent.toml"),
}


@pytest.mark.parametrize("name", WRONG)
def test_faults_are_named(tmp_path: Path, name: str) -> None:
    """The message says which file and which key."""
    text, key = WRONG[name]
    with pytest.raises(Malformed) as caught:
        read(tmp_path, text)
    assert key in str(caught.value)
    assert str(tmp_path / "agent.toml") in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_fault_of_a_probe_names_its_component(tmp_path: Path) -> None:
    """With several components, the message says whose health table is wrong."""
    found = read(tmp_path, GOOD.replace('kind = "none"', 'kind = "http"', 1))
    with pytest.raises(Malformed, match=r"component app: health: .*url"):
        build.components(found)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """No file: what to give instead."""
    with pytest.raises(NotFound, match=r"agent\.toml"):
        config.load(tmp_path / "agent.toml")
