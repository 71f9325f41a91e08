#!/usr/bin/env python3
"""A device with two slots and U-Boot's boot counter, driven by the real ``fw_setenv``.

``ab_device.py FOLDER VERB`` speaks the protocol of ``ota/agent/installers/exec_.py``: JSON in,
JSON out. It stands for a vendor's updater *and*, by the verb ``boot``, for the boot loader:

``FOLDER/slot-a.img, slot-b.img``   the two slots; longer than the image they hold
``FOLDER/env-1.bin, env-2.bin``     U-Boot's redundant environment (``fw_env.config``)
``FOLDER/running``                  the slot that was booted, as ``/proc/cmdline`` would say

Environment: ``bootslot`` (a or b), ``upgrade_available`` (0 or 1), ``bootcount``, ``bootlimit``,
``slot_a`` and ``slot_b`` ("" or ``<sha256>:<length>``), ``kept`` (1: the other slot is the
previous image, 0: it is merely staged). ``factory IMAGE`` lays the first image down; ``boot``
restarts; ``FOLDER/hot`` makes a device that switches without a reboot; ``FOLDER/die-at`` holds
the number of the side effect before which the process kills itself, as a power cut would.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

SLOT_SIZE = 8 << 20
CHUNK = 1 << 16


class Failed(Exception):
    """The answer is not ok."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Device:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        die = folder / "die-at"
        self.left = int(die.read_text()) if die.exists() else 0

    # -- the medium -----------------------------------------------------------------------------
    def effect(self) -> None:
        """Count a side effect; die in front of the chosen one."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def tool(self, *argv: str) -> str:
        ran = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, check=True)
        return ran.stdout

    def env(self) -> dict[str, str]:
        lines = self.tool("fw_printenv", "-c", "fw_env.config").splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return {"slot_a": "", "slot_b": "", "kept": "0"} | found

    def set(self, **words: str) -> None:
        """All variables in one write of the environment, as real updaters do."""
        self.effect()
        script = self.folder / "env.script"
        script.write_text("".join(f"{name}={value}\n" for name, value in words.items()))
        self.tool("fw_setenv", "-c", "fw_env.config", "-s", script.name)

    def running(self) -> str:
        return (self.folder / "running").read_text()

    def other(self) -> str:
        return "b" if self.running() == "a" else "a"

    def image(self, slot: str) -> Path:
        return self.folder / f"slot-{slot}.img"

    def held(self, env: dict[str, str], slot: str) -> str:
        return env[f"slot_{slot}"].partition(":")[0]

    def copy(self, source: Path, slot: str, sha256: str) -> int:
        hasher, length = hashlib.sha256(), 0
        with source.open("rb") as taken, self.image(slot).open("r+b") as given:
            while data := taken.read(CHUNK):
                hasher.update(data)
                given.write(data)
                length += len(data)
            self.effect()
            given.flush()
            os.fsync(given.fileno())
        if hasher.hexdigest() != sha256:
            raise Failed("image-mismatch", "the file is not what was announced")
        return length

    # -- the boot loader ------------------------------------------------------------------------
    def factory(self, source: Path) -> None:
        for name in ("env-1.bin", "env-2.bin"):
            (self.folder / name).write_bytes(bytes(0x2000))
        config = "env-1.bin 0x0 0x2000\nenv-2.bin 0x0 0x2000\n"
        (self.folder / "fw_env.config").write_text(config)
        for slot in "ab":
            with self.image(slot).open("wb") as file:
                file.truncate(SLOT_SIZE)
        sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
        length = self.copy(source, "a", sha256)
        default = self.folder / "default.env"
        default.write_text(
            f"bootslot=a\nupgrade_available=0\nbootcount=0\nslot_a={sha256}:{length}\n"
        )
        self.tool("fw_setenv", "-c", "fw_env.config", "-f", default.name, "bootlimit", "2")
        (self.folder / "running").write_text("a")

    def boot(self) -> None:
        """What U-Boot does: count tries of a new slot and fall back past ``bootlimit``."""
        env = self.env()
        slot = env["bootslot"]
        if env["upgrade_available"] == "1":
            count = int(env["bootcount"]) + 1
            if count > int(env["bootlimit"]):
                slot = "b" if slot == "a" else "a"
                self.set(bootslot=slot, upgrade_available="0", bootcount="0", kept="0")
            else:
                self.set(bootcount=str(count))
        self.effect()
        (self.folder / "running").write_text(slot)

    def switched(self) -> dict[str, object]:
        if not (self.folder / "hot").exists():
            return {"activation": "reboot"}
        self.boot()
        return {"activation": "active"}

    # -- the updater ----------------------------------------------------------------------------
    def precheck(self, request: dict) -> dict[str, object]:
        if request["release"]["length"] > SLOT_SIZE:
            raise Failed("no-space", "the image is longer than a slot")
        if "ab-rev-1" not in request["release"]["hardware_ids"]:
            raise Failed("hardware-mismatch", "not for this board")
        return {}

    def stage(self, request: dict) -> dict[str, object]:
        env, slot, sha256 = self.env(), self.other(), request["sha256"]
        if sha256 in {self.held(env, slot), self.held(env, self.running())}:
            return {}
        if self.pending(env) or self.trial(env):
            raise Failed("busy", "another image is on trial")
        self.set(**{f"slot_{slot}": "", "kept": "0"})
        length = self.copy(Path(request["path"]), slot, sha256)
        self.set(**{f"slot_{slot}": f"{sha256}:{length}"})
        return {}

    def pending(self, env: dict[str, str]) -> bool:
        return env["upgrade_available"] == "1" and env["bootslot"] != self.running()

    def trial(self, env: dict[str, str]) -> bool:
        """The running slot is not committed (also while the way back waits for its reboot)."""
        return (env["upgrade_available"] == "1") == (env["bootslot"] == self.running())

    def activate(self, request: dict) -> dict[str, object]:
        env, sha256 = self.env(), request["sha256"]
        if self.held(env, self.running()) == sha256:
            return {"activation": "active"}
        if self.held(env, self.other()) != sha256:
            raise Failed("installer", "not staged")
        if self.trial(env):
            raise Failed("busy", "another image is on trial")
        self.set(bootslot=self.other(), upgrade_available="1", bootcount="0")
        return self.switched()

    def verify_active(self, request: dict) -> dict[str, object]:
        sha256, _, length = self.env()[f"slot_{self.running()}"].partition(":")
        if sha256 != request["sha256"]:
            return {"active": False}
        with self.image(self.running()).open("rb") as file:
            return {"active": hashlib.sha256(file.read(int(length))).hexdigest() == sha256}

    def commit(self, request: dict) -> dict[str, object]:
        env = self.env()
        if self.held(env, self.running()) != request["sha256"]:
            raise Failed("installer", "that image does not run")
        if env["upgrade_available"] == "1":
            self.set(upgrade_available="0", bootcount="0", kept="1")
        return {}

    def rollback(self, request: dict) -> dict[str, object]:
        env = self.env()
        if self.pending(env):
            self.set(bootslot=self.running(), upgrade_available="0", bootcount="0")
            return {"activation": "active"}
        if not self.trial(env):
            return {"activation": "active"}
        if env["upgrade_available"] == "1":
            self.set(bootslot=self.other(), upgrade_available="0", bootcount="0", kept="0")
        return self.switched()

    def cleanup(self, request: dict) -> dict[str, object]:
        env, slot = self.env(), self.other()
        fixed = self.pending(env) or self.trial(env)
        if not fixed and self.held(env, slot) and self.held(env, slot) not in request["keep"]:
            self.set(**{f"slot_{slot}": "", "kept": "0"})
        return {}

    def inspect(self, request: dict) -> dict[str, object]:
        env = self.env()
        trial, other = self.trial(env), self.held(env, self.other())
        kept = trial or env["kept"] == "1"
        return {
            "current": self.held(env, self.running()),
            "previous": other if kept else "",
            "staged": "" if kept else other,
            "trial": trial,
        }


def main(argv: list[str]) -> int:
    device, verb = Device(Path(argv[0])), argv[1]
    if verb == "factory":
        device.factory(Path(argv[2]))
        return 0
    if verb == "boot":
        device.boot()
        return 0
    request = json.load(sys.stdin)
    try:
        answer = {"ok": True} | getattr(device, verb.replace("-", "_"))(request)
    except Failed as e:
        answer = {"ok": False, "code": e.code, "message": str(e)}
    print(json.dumps(answer))
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
