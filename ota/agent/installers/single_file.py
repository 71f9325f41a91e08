"""``single-file``: one file (firmware, model, binary) replaced by one rename.

```
<path>                    what runs
<path>.previous           the one that is kept; the way back after commit
<path>.staged-<sha256>    staged; complete as soon as it has this name
<path>.rollback           what ran before, while a trial runs; commit renames it to .previous
<path>.trial              what is on trial (see trial.py)
```

Staging costs no copy where a hard link from the agent's download folder is possible: those bytes
were verified in full and only the agent can write there. So the download must afterwards be
unlinked, never rewritten in place. Elsewhere they are copied and hashed while copied.

Which bytes a slot holds is asked of the slot: ``verify_active`` hashes it. ``inspect`` may use
the note of an earlier hash as long as device, inode, size and modification time are the same
(``hashes.py``), so that a poll does not read gigabytes.

Options: ``path`` (absolute), ``mode`` (octal text, default "0644"), ``restart`` (argv),
``restart_timeout`` (seconds).

>>> installer = SingleFile.create({"path": "/opt/model.bin"}, folder, "component model")
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ota.agent import options as reading
from ota.agent.installers import durable, taking, trial
from ota.agent.installers.hashes import Hashes
from ota.agent.installers.restart import Restart
from ota.ports_device import Activation, Slots, VerifiedBytes
from signing.errors import Outage
from signing.release import Release
from signing.strict import SHA256

MARGIN = 1 << 20


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``[components.NAME.options]`` may say."""

    path: str
    mode: Annotated[str, msgspec.Meta(pattern=r"^0?[0-7]{3}\Z")] = "0644"
    restart: reading.Argv | None = None
    restart_timeout: reading.Seconds = 60.0


class SingleFile:
    """Implements ``ota.ports_device.Installer``."""

    def __init__(self, path: Path, mode: int, restart: Restart, folder: Path) -> None:
        self._path = path
        self._previous = path.with_name(f"{path.name}.previous")
        self._rollback = path.with_name(f"{path.name}.rollback")
        self._marker = path.with_name(f"{path.name}.trial")
        self._prefix = f"{path.name}.staged-"
        self._mode = mode
        self._restart = restart
        self._folder = folder
        self._hashes = Hashes(folder / "hashes.json")

    @classmethod
    def create(cls, raw: Mapping[str, Any], folder: Path, where: str) -> SingleFile:
        """Read the options strictly; ``Malformed`` names ``where`` and the key."""
        found = reading.read(Options, raw, where)
        path = reading.absolute(found.path, where, "path")
        restart = Restart(found.restart or (), found.restart_timeout)
        return cls(path, int(found.mode, 8), restart, folder)

    def precheck(self, release: Release) -> None:
        """The folder is safe to rename in, the place holds a file or nothing, space is there."""
        with durable.seam("look at the target", self._path):
            self._check_place()
            room = MARGIN if self._same_device() else release.length + MARGIN
            durable.need(self._path.parent, room)

    def _check_place(self) -> None:
        # Sticky or not: who comes first would own the name under which a file is staged.
        if self._path.parent.is_dir() and self._path.parent.stat().st_mode & stat.S_IWOTH:
            self._unfit("its folder is writable by everyone")
        if os.path.lexists(self._path) and not stat.S_ISREG(os.lstat(self._path).st_mode):
            self._unfit("it is not a regular file")

    def _unfit(self, why: str) -> None:
        raise Outage(
            f"can not install here: {why}",
            code="installer",
            subject=str(self._path),
            remedy="correct it on the device, or choose another path in agent.toml",
        )

    def _same_device(self) -> bool:
        target = self._path.parent
        while not target.exists():
            target = target.parent
        return self._folder.exists() and target.stat().st_dev == self._folder.stat().st_dev

    def stage(self, image: VerifiedBytes) -> None:
        """Give the verified bytes the staged name, synced, with the final mode."""
        sha256 = image.release.sha256
        staged = self._staged(sha256)
        with durable.seam("stage", staged):
            durable.make_folder(self._path.parent, 0o755)
            self._check_place()
            self._prune({sha256})
            if self._sha(staged) != sha256:
                durable.remove(staged)
                taking.take(image, staged)
            staged.chmod(self._mode)
            durable.sync_file(staged)
            durable.sync_folder(staged.parent)
            self._hashes.note(staged, sha256)

    def activate(self, sha256: str) -> Activation:
        """Keep what runs under ``.rollback``, write the marker, rename, restart; repeatable."""
        with durable.seam("activate", self._path):
            found = trial.load(self._marker)
            running = self._sha(self._path)
            on_trial = found is not None and found.sha256 == running
            if running == sha256 and not on_trial:
                return "active"  # committed before
            if running != sha256:
                if on_trial:
                    raise Outage(
                        "can not activate: another image is on trial",
                        code="installer",
                        subject=sha256,
                    )
                self._swap(sha256, running)
        self._restart()
        return "active"

    def _swap(self, sha256: str, running: str) -> None:
        staged = self._staged(sha256)
        if self._sha(staged) != sha256 and not self._stage_previous(sha256):
            raise Outage("can not activate: it is not staged", code="installer", subject=sha256)
        durable.remove(self._rollback)
        if running:
            self._keep(self._path, self._rollback, running)
        trial.store(self._marker, trial.Trial(sha256, running or None))
        staged.rename(self._path)
        durable.sync_folder(self._path.parent)

    def _stage_previous(self, sha256: str) -> bool:
        """The kept previous image is staged without a download."""
        if self._hash(self._previous) != sha256:
            return False
        self._keep(self._previous, self._staged(sha256), sha256)
        return True

    def _keep(self, source: Path, target: Path, sha256: str) -> None:
        durable.remove(target)
        if not durable.link(source, target):
            taking.copy(source, target, sha256)
            target.chmod(self._mode)
        durable.sync_folder(target.parent)
        self._hashes.note(target, sha256)

    def verify_active(self, sha256: str) -> bool:
        """Hash the running file in full."""
        with durable.seam("verify", self._path):
            return bool(sha256) and self._hash(self._path) == sha256

    def commit(self, sha256: str) -> None:
        """What ran before becomes ``.previous``; nothing else is kept."""
        with durable.seam("commit", self._path):
            if not sha256 or self._sha(self._path) != sha256:
                raise Outage("can not commit: it does not run", code="installer", subject=sha256)
            found = trial.load(self._marker)
            if found is not None and found.sha256 == sha256:
                if self._rollback.exists():
                    self._rollback.rename(self._previous)
                elif found.before is None:
                    durable.remove(self._previous)
                durable.sync_folder(self._path.parent)
            self._prune(set())
            self._forget()

    def rollback(self) -> Activation:
        """Back to what ran before the trial; nothing when nothing is on trial."""
        with durable.seam("go back", self._path):
            found = trial.load(self._marker)
            if found is None:
                return "active"
            if self._sha(self._path) == found.sha256:
                self._put_back(found)
                durable.sync_folder(self._path.parent)
        self._restart.back(to_nothing=found.before is None)
        with durable.seam("go back", self._path):
            durable.remove(self._rollback)
            self._forget()
        return "active"

    def _put_back(self, found: trial.Trial) -> None:
        if found.before is None:
            durable.remove(self._path)
        elif self._sha(self._rollback) == found.before:
            self._rollback.rename(self._path)
        elif self._stage_previous(found.before):  # a commit was cut short
            self._staged(found.before).rename(self._path)
        else:
            raise Outage("what ran before is gone", code="installer", subject=found.before)

    def cleanup(self, keep: Iterable[str]) -> None:
        """Never removes what runs, nor the way back of a running trial."""
        with durable.seam("clean up", self._path):
            if not self._path.parent.is_dir():
                return
            kept = set(keep)
            found = trial.load(self._marker)
            on_trial = found is not None and found.sha256 == self._sha(self._path)
            if not on_trial:
                durable.remove(self._rollback)
                if found is not None and found.sha256 not in kept:
                    self._forget()
            way_back = on_trial and not self._rollback.exists()  # a commit was cut short
            if not way_back and self._sha(self._previous) not in kept:
                durable.remove(self._previous)
            self._prune(kept)
            durable.sync_folder(self._path.parent)

    def inspect(self) -> Slots:
        """Look at the files; hash those that no note fits."""
        with durable.seam("inspect", self._path):
            current = self._sha(self._path)
            found = trial.load(self._marker)
            on_trial = found is not None and found.sha256 == current
            kept = self._rollback if on_trial and self._rollback.exists() else self._previous
            previous = self._sha(kept)
            staged = [
                name for name in self._staged_names() if self._sha(self._staged(name)) == name
            ]
            return Slots(
                current=current,
                previous="" if previous == current else previous,
                staged=next((name for name in staged if name != current), ""),
                trial=on_trial,
            )

    # -- the medium -----------------------------------------------------------------------------
    def _staged(self, sha256: str) -> Path:
        if not SHA256.fullmatch(sha256):
            raise Outage("not a SHA-256", code="installer", subject=sha256[:80])
        return self._path.with_name(f"{self._prefix}{sha256}")

    def _staged_names(self) -> list[str]:
        names = durable.names(self._path.parent)
        ends = (name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix))
        return [end for end in ends if SHA256.fullmatch(end)]

    def _sha(self, path: Path) -> str:
        """Hash of a slot, from a fitting note or by reading; "" when there is no file."""
        return self._hashes.of(path)

    def _hash(self, path: Path) -> str:
        return self._hashes.of(path, fresh=True)

    def _prune(self, keep: set[str]) -> None:
        """Remove staged images not in ``keep`` and leftovers of a crash."""
        gone = False
        for name in durable.names(self._path.parent):
            end = name.removeprefix(self._prefix)
            ours = name != end and SHA256.fullmatch(end) is not None and end not in keep
            if ours or name.startswith(f".tmp-{self._path.name}."):
                gone |= durable.remove(self._path.with_name(name))
        if gone:
            durable.sync_folder(self._path.parent)

    def _forget(self) -> None:
        if durable.remove(self._marker):
            durable.sync_folder(self._path.parent)
