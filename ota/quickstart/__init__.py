"""``ota quickstart``: the whole road on one machine, with real processes and real attacks.

program.py   the small real program that the demo's releases contain, and its service script
devices.py   24 devices: folders, configuration, provisioning, agent processes
stage.py     a workspace with keys, both repositories, a store served on loopback, a registry
attacks.py   what a courier, a thief of the director key and a forger do, from outside
demo.py      the story: three releases, six attacks, one honest update at the end
own.py       the same road with a person's own files
"""
