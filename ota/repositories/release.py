"""Use case: describe a build, list it, sign, publish, show, and take it off again.

The description is made here from the file itself: length and SHA-256 of its bytes, streamed, and
the format by its content (a tar, plain or compressed; a zip; else opaque bytes). The release
counter comes from the repository: a release inherits its component's, a security fix raises it
by one (rule 2 of the numbers: never the version).

>>> releases = Releases(repositories)
>>> releases.add(Build(Path("app.tar.gz"), "app", "1.0.0", ("gw-rev-b",)), now)
>>> releases.sign("targets-1", now); releases.publish(now)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from ota.errors import NotFound, NotPermitted
from ota.repositories import imagefile
from ota.repositories.publishing import Progress
from ota.repositories.repo import Repositories, Show, Signed
from ota.repositories.standing import standing
from signing.changes.ceremony import Pending
from signing.image.repository import Image
from signing.release import Format, Release

InUse = Callable[[Collection[str]], Mapping[str, list[str]]]
"""Target paths -> for each the reasons why it can not be taken off; none when it can (rule 9)."""

_EXTENSION = re.compile(r"(\.tar)?\.[A-Za-z0-9]{1,12}\Z")


@dataclass(frozen=True)
class Build:
    """What a person says of a build. ``path`` and ``format`` have good defaults."""

    file: Path
    component: str
    version: str
    hardware_ids: tuple[str, ...]
    security_fix: bool = False
    notes: str = ""
    path: str | None = None
    format: Format | None = None


def unused(paths: Collection[str]) -> dict[str, list[str]]:
    """Where there is neither a director nor a rollout."""
    return {path: [] for path in paths}


@dataclass(frozen=True)
class Yank:
    """Why a release is in use, and whether it stands where it belongs."""

    reasons: list[str]
    rightful: bool


@dataclass(frozen=True)
class Listed:
    """One release and where it stands."""

    release: Release
    state: str


class Releases:
    """Releases of one workspace; ``in_use`` knows directors and open rollouts."""

    def __init__(self, repositories: Repositories, in_use: InUse = unused) -> None:
        self._repos = repositories
        self._in_use = in_use

    def describe(
        self, build: Build, now: datetime, progress: Callable[[int, int], None] | None = None
    ) -> Release:
        """The release that :meth:`add` would list; writes nothing.

        ``progress`` gets (bytes hashed, bytes in all). Raises ``Malformed``, ``NotFound``.
        """
        seen = imagefile.examine(build.file, progress)
        pending = self._repos.pending("image")
        counter = self._repos.image().next_counter(
            pending, build.component, now, security_fix=build.security_fix
        )
        return Release(
            path=build.path or default_path(build),
            component=build.component,
            version=build.version,
            hardware_ids=build.hardware_ids,
            release_counter=counter,
            format=build.format or seen.format,
            length=seen.length,
            hashes={"sha256": seen.sha256},
            security_fix=build.security_fix,
            notes=build.notes,
        )

    def add(
        self,
        build: Build,
        now: datetime,
        progress: Callable[[int, int], None] | None = None,
    ) -> Release:
        """List a build in the waiting change. The same build again changes nothing.

        Raises ``NotPermitted`` (``path-taken``, ``exists``), ``Malformed``, ``NotFound``.
        """
        release = self.describe(build, now, progress)
        known = self._at(release.path, now)
        if known is not None and _same(known.release, release):
            if known.state == "published":
                return known.release
            release = known.release
        self._repos.change_image(lambda image, p: image.add(p, release, build.file, now))
        return release

    def sign(self, keyholder: str, now: datetime, show: Show | None = None) -> list[Signed]:
        """Sign the waiting change of the image repository, after showing what it says."""
        return self._repos.sign(keyholder, now, "image", show)

    def publish(self, now: datetime, progress: Progress | None = None) -> list[str]:
        """Publish the waiting change of the image repository."""
        return self._repos.publish(now, "image", progress)

    def listing(self, now: datetime) -> list[Listed]:
        """Every release, published or waiting, by path."""
        return [item for _, item in sorted(self._known(now).items())]

    def show(self, text: str, now: datetime) -> list[Listed]:
        """Releases named by ``component@version`` or by path; ``NotFound``."""
        known = self._known(now)
        found = [item for _, item in sorted(known.items()) if _named(item.release, text)]
        if not found:
            raise NotFound(f"no release {text!r:.80}", subject=text, remedy="ota release list")
        return found

    def resolve(self, text: str, now: datetime) -> list[Release]:
        """Published releases named by ``component@version`` (one per hardware) or by path."""
        return [i.release for i in self.show(text, now) if i.state != "waiting"]

    def paths(self, text: str, now: datetime) -> list[str]:
        """What a yank of this name takes off: paths that are not to be yanked already.

        A path counts as it stands, also one whose description is no release's; ``NotFound``.
        """
        try:
            return [i.release.path for i in self.show(text, now) if i.state != "to be yanked"]
        except NotFound:
            state = self._repos.image().state(now)
            if state is None or not state.stands(text):
                raise
            return [text]

    def yank(self, path: str, now: datetime) -> list[str]:
        """Take a release off the list, in the waiting change.

        Raises ``NotPermitted`` (code ``in-use``) while a director or an open rollout names it
        (rule 9): withdraw there first. From where it does not belong, and no device takes it, it
        goes nevertheless; returns the reasons for which its rightful listing stays then.
        """
        return self.yank_all([path], now)[path]

    def yank_all(self, paths: Collection[str], now: datetime) -> dict[str, list[str]]:
        """The same for several, all or none, with one look at each device."""
        yanks = self.check_yank(paths, now)
        if not yanks:
            return {}
        first, *more = yanks

        def edit(image: Image, pending: Pending | None) -> Pending:
            made = image.yank(pending, first, now, astray=bool(yanks[first].reasons))
            for path in more:
                made = image.yank(made, path, now, astray=bool(yanks[path].reasons))
            return made

        self._repos.change_image(edit)
        return {path: yank.reasons if yank.rightful else [] for path, yank in yanks.items()}

    def check_yank(self, paths: Collection[str], now: datetime) -> dict[str, Yank]:
        """Whether these may be taken off: raises as :meth:`yank`, and changes nothing."""
        used = self._in_use(paths)
        found: dict[str, Yank] = {}
        for path in paths:
            where = self._repos.image().where(self._repos.pending("image"), path, now)
            found[path] = Yank(used[path], any(where.values()))
            if used[path] and all(where.values()):
                raise NotPermitted(
                    f"{path} is in use: {'; '.join(used[path][:5])}",
                    code="in-use",
                    subject=path,
                    remedy="ota rollout abort, or roll out another release first",
                )
        return found

    def in_use(self, paths: Collection[str]) -> dict[str, list[str]]:
        """Path -> why it can not be taken off; an empty list where it can."""
        return dict(self._in_use(paths))

    def _at(self, path: str, now: datetime) -> Listed | None:
        """What stands at one path; reads one hash bin at most."""
        image, pending = self._repos.image(), self._repos.pending("image")
        state = image.state(now)
        published = state.at(path) if state else None
        standing = image.after_at(pending, path, now) if pending else published
        if standing is None:
            return None if published is None else Listed(published, "to be yanked")
        if published is None or state is None:
            return Listed(standing, "waiting")
        return Listed(standing, "published" if state.at(path, now) else "expired")

    def _known(self, now: datetime) -> dict[str, Listed]:
        image = self._repos.image()
        state = image.state(now)
        published = state.releases() if state else {}
        current = state.releases(now) if state else {}
        after, pending = published, self._repos.pending("image")
        if pending is not None:
            moved = image.after(pending, now)
            after = {p: r for p, r in published.items() if r.component not in moved}
            for listed in moved.values():
                after |= listed
        known = standing(published, current, after)
        return {path: Listed(*item) for path, item in known.items()}


def default_path(build: Build) -> str:
    """``app/app-1.0.0.tar.gz``: component, version, and the file's own extension."""
    found = _EXTENSION.search(build.file.name)
    extension = found[0] if found and found.start() > 0 else ".bin"
    return f"{build.component}/{build.component}-{build.version}{extension}"


def _same(known: Release, release: Release) -> bool:
    counter = known.release_counter
    return msgspec.structs.replace(release, release_counter=counter) == known


def _named(release: Release, text: str) -> bool:
    return text in {release.path, f"{release.component}@{release.version}"}
