"""The words of ``ota-agent``: its verbs, their switches, and what ``--help`` says of each."""

from __future__ import annotations

import argparse
from typing import Any

EPILOG = """examples:
  ota-agent provision --director-root director.json --image-root image.json
  ota-agent once --config gw-1/agent.toml
  ota-agent status -o json

ota-agent VERB --help says more, with an example.
"""


def parser() -> argparse.ArgumentParser:
    """All of them; ``verb`` is None where none was given."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", default="/etc/ota-agent/agent.toml", metavar="FILE", help="default: %(default)s"
    )
    common.add_argument(
        *("-o", "--output"),
        choices=("table", "json"),
        default="table",
        help="form of the data on stdout; default: %(default)s",
    )
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    top = argparse.ArgumentParser(
        prog="ota-agent",
        description="Verify and install signed updates on this device.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    _add_provision(verbs, common)
    _add_looks(verbs, common)
    _add_answers(verbs, common)
    _add_playbook(verbs, common)
    _add_relay(verbs, common)
    _add_tuf(verbs)
    return top


def _add_provision(verbs: Any, common: argparse.ArgumentParser) -> None:
    made = verbs.add_parser(
        "provision",
        parents=[common],
        help="make the identity, take the roots",
        description="Once, on a new device: make its key, and take the two files (roots) that say "
        "whose signatures it believes. Prints the file that ota fleet register takes.",
        epilog="example: ota-agent provision --director-root director.json --image-root image.json",
    )
    made.add_argument(
        "--director-root", required=True, metavar="FILE", help="first root: what devices shall run"
    )
    made.add_argument(
        "--image-root", required=True, metavar="FILE", help="first root: what may run"
    )
    made.add_argument(
        "--director-root-sha256", metavar="HEX", help="its fingerprint, as ota repo roots prints it"
    )
    made.add_argument("--image-root-sha256", metavar="HEX", help="the same of the other")
    made.add_argument(
        "--root-sha256",
        metavar="HEX",
        action="append",
        default=[],
        help="fingerprint of either root; give it twice",
    )
    made.add_argument("--yes", action="store_true", help="accept the fingerprints as shown")


def _add_looks(verbs: Any, common: argparse.ArgumentParser) -> None:
    once = verbs.add_parser(
        "once",
        parents=[common],
        help="look now, install what is assigned, report, exit",
        description="One look: verify, install what is assigned to this device, probe its health, "
        "commit or go back, report. Prints one line for each update; nothing when there is none.",
        epilog="example: ota-agent once --config gw-1/agent.toml --time-limit 600",
    )
    once.add_argument(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="then stop, to go on at the next look; default: none",
    )
    verbs.add_parser(
        "run",
        parents=[common],
        help="stay: look at every hint and every few minutes, until SIGTERM",
        description="Stay, and look whenever a courier leaves a hint, and by the timer of [poll].",
        epilog="example: ota-agent run    (as a service; README, Running unattended)",
    )


def _add_answers(verbs: Any, common: argparse.ArgumentParser) -> None:
    verbs.add_parser(
        "status",
        parents=[common],
        help="what is installed, and how it stands",
        description="What is installed, floors (the oldest that may still be installed), running "
        "updates, what is trusted, and the last trouble. Exit 6 when a person must look.",
        epilog="example: ota-agent status -o json",
    )
    verbs.add_parser(
        "verify",
        parents=[common],
        help="check this device without the network",
        description="Check trust, slots and journal without the network. Prints what is wrong, or "
        '"sound"; exit 3 when something is wrong.',
        epilog="example: ota-agent verify",
    )


def _add_playbook(verbs: Any, common: argparse.ArgumentParser) -> None:
    made = verbs.add_parser(
        "playbook",
        parents=[common],
        help="run the playbook that the director orders here",
        description="Run a playbook now, if the director orders exactly this one here.",
        epilog="example: ota-agent playbook run restart-service@1.0.0 --param service=nginx",
    )
    made.add_argument("action", choices=("run",))
    made.add_argument("name", metavar="NAME@VERSION")
    made.add_argument(
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="must be what was ordered; may be left out",
    )
    made.add_argument(
        "--wait",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="for an agent that is working; default: %(default)g",
    )


def _add_relay(verbs: Any, common: argparse.ArgumentParser) -> None:
    made = verbs.add_parser(
        "relay",
        parents=[common],
        help="for couriers that can only run a command: leave a hint, take reports along",
        description="Leave a hint in this device's spool and print the reports that lie there.",
        epilog="example: ota-agent relay --device press-07 --order ORDER --rollout ROLLOUT --look",
    )
    made.add_argument("--device", metavar="ID", help="refuse, unless this is that device")
    made.add_argument("--order", metavar="ORDER", help="leave a hint for it, once")
    made.add_argument("--rollout", metavar="ROLLOUT", help="of that order")
    several = {"action": "append", "default": []}
    made.add_argument("--cancel", metavar="ORDER", help="withdraw its hint", **several)
    made.add_argument("--ack", metavar="NAME", help="this report has arrived", **several)
    seconds = {"metavar": "SECONDS", "type": float}
    made.add_argument("--wait", default=0.0, help="for a report; default: %(default)g", **seconds)
    made.add_argument(
        "--max-bytes", metavar="N", type=int, default=20_000, help="to print; default: %(default)s"
    )
    made.add_argument("--look", action="store_true", help="look once, where no agent runs")
    made.add_argument(
        "--look-limit", default=28_800.0, help="of that look; default: %(default)g", **seconds
    )


def _add_tuf(verbs: Any) -> None:
    tuf = verbs.add_parser(
        "tuf",
        help="read any TUF 1.0 repository by hand",
        description="Read any TUF 1.0 repository with the agent's own client; exit 0 or 1.",
        epilog="example: ota-agent tuf --metadata-dir trust init root.json, then the same with "
        "--metadata-url https://updates.example/store/image/metadata refresh",
    )
    tuf.add_argument("--metadata-dir", required=True, metavar="DIR", help="where trust is kept")
    tuf.add_argument("--metadata-url", metavar="URL", help="of metadata, for refresh and download")
    tuf.add_argument(
        "--target-name", action="append", default=[], metavar="PATH", help="what to download"
    )
    tuf.add_argument("--target-base-url", metavar="URL", help="of targets, for download")
    tuf.add_argument("--target-dir", metavar="DIR", help="where downloads go")
    tuf.add_argument("--debug", action="store_true", help="show tracebacks")
    tuf.add_argument("action", choices=("init", "refresh", "download"))
    tuf.add_argument("root", nargs="?", metavar="ROOT.json", help="for init")
