"""``dir-symlink``: an archive unpacked to a folder of its own, made current by one rename.

```
<path>/releases/<sha256>/           one release, complete when its manifest stands beside it
<path>/releases/<sha256>.manifest   what it holds (see manifest.py)
<path>/current  -> releases/<sha>   what runs
<path>/previous -> releases/<sha>   the one that is kept; the way back after commit
<path>/.trial                       what is on trial and what ran before (see trial.py)
```

Everything that ``inspect`` says is read from these, so a disk that moves to another machine
tells the truth there. While a release is on trial its way back is what ran before; ``previous``
is replaced only by ``commit``, and a rollback leaves it as it was.

Options: ``path`` (absolute), ``restart`` (argv), ``restart_timeout`` (seconds), ``strip``
(leading path segments to drop), ``max_unpacked`` (bytes), ``max_ratio``, ``max_entries``.

>>> installer = DirSymlink.create({"path": "/opt/app"}, "component app")
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ota.agent import options as reading
from ota.agent.installers import archive, durable, manifest, trial
from ota.agent.installers.restart import Restart
from ota.ports_device import Activation, Slots, VerifiedBytes
from signing.errors import Outage, Refusal
from signing.release import Release
from signing.strict import SHA256

MARGIN = 16 << 20


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``[components.NAME.options]`` may say."""

    path: str
    restart: reading.Argv | None = None
    restart_timeout: reading.Seconds = 60.0
    strip: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0
    max_unpacked: Annotated[int, msgspec.Meta(ge=1, le=1 << 50)] = archive.Limits.unpacked
    max_ratio: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = archive.Limits.ratio
    max_entries: Annotated[int, msgspec.Meta(ge=1, le=200_000)] = archive.Limits.entries


class DirSymlink:
    """Implements ``ota.ports_device.Installer``."""

    def __init__(
        self, path: Path, restart: Restart, limits: archive.Limits, strip: int = 0
    ) -> None:
        self._path = path
        self._releases = path / "releases"
        self._current = path / "current"
        self._previous = path / "previous"
        self._marker = path / ".trial"
        self._restart = restart
        self._limits = limits
        self._strip = strip

    @classmethod
    def create(cls, raw: Mapping[str, Any], where: str) -> DirSymlink:
        """Read the options strictly; ``Malformed`` names ``where`` and the key."""
        found = reading.read(Options, raw, where)
        return cls(
            reading.absolute(found.path, where, "path"),
            Restart(found.restart or (), found.restart_timeout),
            archive.Limits(found.max_unpacked, found.max_ratio, found.max_entries),
            found.strip,
        )

    def precheck(self, release: Release) -> None:
        """It is an archive, the place is ours, and twice its length is free."""
        if release.format == "file":
            raise Refusal(
                "release-malformed", "dir-symlink needs a tar or zip archive", subject=release.path
            )
        if self._current.exists() and not self._current.is_symlink():
            raise Outage(
                "current is not a symlink: nothing here may be replaced",
                code="installer",
                subject=str(self._current),
                remedy="move it away, or choose another path in agent.toml",
            )
        self._check_folders()
        with durable.seam("measure free space", self._path):
            durable.need(self._path, 2 * release.length + MARGIN)

    def _check_folders(self) -> None:
        """Whoever may write there decides what runs, whatever was verified."""
        for folder in (self._path, self._releases):
            if folder.is_dir() and folder.stat().st_mode & stat.S_IWOTH:
                raise Outage(
                    "can not install here: the folder is writable by everyone",
                    code="installer",
                    subject=str(folder),
                    remedy=f"chmod o-w {folder}, or choose another path in agent.toml",
                )

    def stage(self, image: VerifiedBytes) -> None:
        """Unpack beside what runs. A complete, undamaged folder of that hash is kept."""
        sha256 = image.release.sha256
        with durable.seam("stage", self._path):
            self._check_folders()
            durable.make_folder(self._releases, 0o755)
            keep = {*self._bootable(), sha256}
            self._prune(keep)
            if self._complete(sha256) and not self._damage(sha256):
                return
            if self._sha(self._current) == sha256:
                raise Outage(
                    "what runs is damaged and can not be replaced in place",
                    code="installer",
                    subject=sha256,
                    remedy="install another release, then this one again",
                )
            self._prune(keep - {sha256})
            self._unpack(image)

    def _unpack(self, image: VerifiedBytes) -> None:
        """Folder first, manifest second: with both, the release is complete."""
        release = image.release
        temporary = self._releases / f".tmp-{release.sha256}"
        rows = archive.unpack(image.path, release.format, temporary, self._limits, self._strip)
        try:
            temporary.rename(self._folder(release.sha256))
            durable.sync_folder(self._releases)
            manifest.write(self._manifest(release.sha256), rows)
        except OSError:
            durable.remove(temporary)
            durable.remove(self._folder(release.sha256))
            raise

    def activate(self, sha256: str) -> Activation:
        """Write the marker, swap ``current``, restart; each step may be repeated."""
        with durable.seam("activate", self._path):
            found = trial.load(self._marker)
            running = self._sha(self._current)
            on_trial = found is not None and found.sha256 == running
            if running == sha256 and not on_trial:
                return "active"  # committed before
            if running != sha256:
                known = self._complete(sha256) or self._sha(self._previous) == sha256
                if on_trial or not (known and sha256):
                    reason = "another release is on trial" if on_trial else "it is not staged"
                    raise Outage(f"can not activate: {reason}", code="installer", subject=sha256)
                before = durable.target_of(self._current)
                trial.store(self._marker, trial.Trial(sha256, before))
                durable.point(self._current, f"releases/{sha256}")
        self._restart()
        return "active"

    def verify_active(self, sha256: str) -> bool:
        """``current`` is that release and its files are those unpacked.

        A release laid down by the factory has no manifest: then only the link is compared.
        """
        with durable.seam("verify", self._path):
            if not sha256 or self._sha(self._current) != sha256:
                return False
            return not self._manifest(sha256).exists() or not self._damage(sha256)

    def commit(self, sha256: str) -> None:
        """What ran before becomes ``previous``; every other release is removed."""
        with durable.seam("commit", self._path):
            if not sha256 or self._sha(self._current) != sha256:
                raise Outage("can not commit: it does not run", code="installer", subject=sha256)
            found = trial.load(self._marker)
            if found is not None and found.sha256 == sha256:
                before = found.before or ""
                if self._named(before):
                    durable.point(self._previous, before)
                else:  # nothing, or unmanaged content, which is never a way back
                    durable.remove(self._previous)
            self._prune({sha256, self._sha(self._previous)})
            self._forget()

    def rollback(self) -> Activation:
        """Back to what ran before the trial; nothing when nothing is on trial."""
        with durable.seam("go back", self._path):
            found = trial.load(self._marker)
            if found is None:
                return "active"
            if self._sha(self._current) == found.sha256:
                if found.before is None:
                    durable.remove(self._current)
                    durable.sync_folder(self._path)
                else:
                    durable.point(self._current, found.before)
        self._restart.back(to_nothing=found.before is None)
        with durable.seam("go back", self._path):
            self._forget()
        return "active"

    def cleanup(self, keep: Iterable[str]) -> None:
        """Never removes what runs, nor the way back of a running trial."""
        with durable.seam("clean up", self._path):
            if not self._releases.is_dir():
                return
            kept = set(keep)
            running = self._sha(self._current)
            found = trial.load(self._marker)
            if found is not None and found.sha256 == running:
                kept.add(self._named(found.before or ""))
            elif found is not None and found.sha256 not in kept:
                self._forget()
            if self._sha(self._previous) not in kept and durable.remove(self._previous):
                durable.sync_folder(self._path)
            self._prune({*kept, running})

    def inspect(self) -> Slots:
        """Read the links, the marker and the folders."""
        with durable.seam("inspect", self._path):
            current = self._sha(self._current)
            found = trial.load(self._marker)
            on_trial = found is not None and found.sha256 == current
            if found is not None and on_trial:
                previous = self._named(found.before or "")
            else:
                previous = self._sha(self._previous)
            bootable = self._bootable()
            staged = [name for name in self._names() if name not in bootable]
            return Slots(
                current=current,
                previous="" if previous == current else previous,
                staged=next((name for name in staged if self._complete(name)), ""),
                trial=on_trial,
            )

    # -- the medium -----------------------------------------------------------------------------
    def _folder(self, sha256: str) -> Path:
        return self._releases / sha256

    def _manifest(self, sha256: str) -> Path:
        return self._releases / f"{sha256}.manifest"

    def _named(self, target: str) -> str:
        """The hash in ``releases/<sha256>`` if that folder is there, else ""."""
        name = target.removeprefix("releases/")
        known = target != name and SHA256.fullmatch(name) and self._folder(name).is_dir()
        return name if known else ""

    def _sha(self, link: Path) -> str:
        return self._named(durable.target_of(link) or "")

    def _complete(self, sha256: str) -> bool:
        known = SHA256.fullmatch(sha256) is not None
        return known and self._folder(sha256).is_dir() and self._manifest(sha256).is_file()

    def _damage(self, sha256: str) -> str:
        found = manifest.differences(self._folder(sha256), self._manifest(sha256))
        return next(found, "")

    def _bootable(self) -> set[str]:
        """Releases that a link or the marker names."""
        found = trial.load(self._marker)
        before = self._named((found.before if found else None) or "")
        return {self._sha(self._current), self._sha(self._previous), before}

    def _names(self) -> list[str]:
        return [name for name in durable.names(self._releases) if SHA256.fullmatch(name)]

    def _prune(self, keep: set[str]) -> None:
        """Remove every release not in ``keep``, manifest first; foreign names stay."""
        gone = False
        for name in sorted(
            durable.names(self._releases), key=lambda n: not n.endswith(".manifest")
        ):
            sha256 = name.removesuffix(".manifest")
            ours = SHA256.fullmatch(sha256) is not None and sha256 not in keep
            if ours or name.startswith(".tmp-"):
                gone |= durable.remove(self._releases / name)
        if gone:
            durable.sync_folder(self._releases)

    def _forget(self) -> None:
        if durable.remove(self._marker):
            durable.sync_folder(self._path)
