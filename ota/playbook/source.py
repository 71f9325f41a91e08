"""The YAML that people write, read strictly into the playbook that is signed.

Words that a file may leave out get their usual value here, once, and stand in what is signed::

    name: restart-service
    version: 1.0.0
    summary: Restart a service and see that it stays up
    platforms: [linux]              # or IDs of os-release: debian, amzn, rhel
    roads: [agent, native]          # the default
    parameters:
      unit: {type: string, pattern: "^[A-Za-z0-9@._-]{1,64}$", description: the service}
      settle: {type: integer, minimum: 1, maximum: 600, default: 5}
    steps:
      - name: restart
        service: {name: "${unit}", state: restarted}
        timeout: 2m                 # 60s unless it says so
        on_failure: stop            # the default; or continue, ignore
      - name: settled
        exec: {argv: [sleep, "${settle}"]}
        unless: [test, -e, /run/in-a-hurry]
    finally:
      name: look
      collect: {argv: [uptime]}

>>> read(Path("playbooks/restart-service.yaml").read_bytes(), "restart-service.yaml").name
'restart-service'
"""

from __future__ import annotations

from ota.errors import Malformed
from ota.yaml import strict as strict_yaml
from ota.yaml import typed as typed_yaml
from signing.playbooks import playbook as playbooks
from signing.playbooks.playbook import Playbook
from signing.playbooks.steps import Check, File, Package, Step

_DEFAULTS: typed_yaml.Defaults = {
    Playbook: {"schema": 1, "roads": ("agent", "native")},
    Step: {"timeout": 60, "on_failure": "stop"},
    File: {"mode": "0644", "format": "plain"},
    Package: {"state": "present"},
    Check: {"interval": 1},
}
_DURATIONS = frozenset({"timeout", "interval"})


def read(data: bytes, source: str = "playbook.yaml") -> Playbook:
    """A playbook from its YAML; ``Malformed`` names file, line, key and what was expected."""
    node = strict_yaml.read(data, source)
    found = typed_yaml.read(node, Playbook, durations=_DURATIONS, defaults=_DEFAULTS)
    try:
        playbooks.encode(found)
    except Malformed as e:
        raise Malformed(f"{source}: {e}", subject=source) from e
    return found
