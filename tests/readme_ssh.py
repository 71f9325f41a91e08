"""What each key of the SSH inventory means, for the README; which keys there are is the code's."""

from __future__ import annotations

SSH = {
    "defaults": "any key of hops and hosts but `name`, `address` and `fingerprints`, for all that do not say otherwise",
    "limits.parallel": "connections in all",
    "limits.connect": "seconds, as all that follow: to connect, also from a hop to the next",
    "limits.banner": "until the server has introduced itself and agreed on keys",
    "limits.auth": "to authenticate",
    "limits.channel": "for a channel to open, and between two answers of a push",
    "limits.command": "one command over there",
    "limits.total": "one visit; then it is cut wherever it stands",
    "limits.push": "one `ota ssh push`",
    "limits.keepalive": "without traffic, until the other side is asked whether it lives",
    "limits.visit": "between two visits of a device whose order moves",
    "limits.visit_max": "the same while nothing moves; 15 times as long while it can not be reached",
    "sites.NAME.parallel": "connections to its hosts",
    "sites.NAME.via": "names of hops, nearest first, at most 5",
    "hops.NAME.address": "name or address of a jump host",
    "hops.NAME.port": "",
    "hops.NAME.user": "",
    "hops.NAME.key": "`file:PATH` (mode 0600), `agent`, or `agent:SHA256:...`",
    "hops.NAME.passphrase": "of an encrypted key file: `env:VARIABLE` or `file:PATH`",
    "hops.NAME.fingerprints": "of its host key, `SHA256:...`; several while it is replaced",
    "hops.NAME.legacy": "`aes-cbc`, `3des-cbc`, `hmac-sha1`",
    "hosts.DEVICE": "all keys of hops, and:",
    "hosts.DEVICE.site": "name of a site",
    "hosts.DEVICE.via": "hops of this host alone; its site's where it is left out",
    "hosts.DEVICE.command": 'what starts the agent there, such as `["sudo", "-n", "/opt/ota/bin/ota-agent"]`',
    "hosts.DEVICE.config": "its agent.toml; the agent's own default where it is left out",
    "hosts.DEVICE.look": "start one look where no agent runs",
    "hosts.DEVICE.mirror": "absolute; the folder that its agent reads in place of the store",
}
