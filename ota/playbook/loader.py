r"""The few lines of shell that a far host runs first: they take a script, check its hash, start it once.

stdin is the values, one a line, then the script. The script runs in a session of its own under a
run's id, so a connection that breaks neither ends it nor starts it again: whoever comes back with
the same id waits for the same run and gets the same answer. What it printed is kept for a week in a
folder of this user alone.

Exit status: the script's own (0, 1, 3); 65 broken off while it was sent, 66 another hash, 73 the
folder is not ours, 74 the disk is full, 75 the run was cut short over there (a reboot).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ota.playbook.native import Rendered

CUT_SHORT: Final = 75
MEANING: Final = {
    64: ("broken-off", "its values did not arrive whole"),
    65: ("broken-off", "it did not arrive whole"),
    66: ("not-pinned", "what arrived is not what was pinned by its hash"),
    73: ("not-ours", "the folder for runs belongs to somebody else"),
    74: ("no-space", "the disk over there is full"),
    CUT_SHORT: ("cut-short", "the run was cut short over there and never came to an end"),
}
"""Exit status of the loader -> code, and words."""

LOADER: Final = r"""set -u
umask 077
base=/var/tmp/ota-native-$(id -u)
mkdir "$base" 2>/dev/null
test -d "$base" && test ! -L "$base" && test -O "$base" || exit 73
run=$base/$1
if test ! -e "$run"; then
    new=$base/.$1.$$
    mkdir "$new" || exit 74
    trap 'rm -rf "$new"' EXIT
    : >"$new/values" || exit 74
    n=$3
    while test "$n" -gt 0; do
        IFS= read -r value || exit 65
        printf '%s\n' "$value" >>"$new/values" || exit 74
        n=$((n - 1))
    done
    cat >"$new/script" || exit 74
    test "$(sha256sum <"$new/script" | head -c 64)" = "$2" || exit 66
    if mkdir "$run" 2>/dev/null; then
        mv "$new/values" "$new/script" "$run"
        setsid sh -c 'echo $$ >"$0/pid"
            sh "$0/script" <"$0/values" >"$0/out" 2>"$0/err"
            echo $? >"$0/new"
            rm -f "$0/values"
            mv "$0/new" "$0/status"' "$run" </dev/null >/dev/null 2>&1 &
        wait $!
        find "$base" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} + 2>/dev/null
    fi
fi
until test -e "$run/status"; do
    if test -s "$run/pid" && ! kill -0 "$(cat "$run/pid")" 2>/dev/null; then
        test -e "$run/status" || exit 75
    fi
    sleep 0.1 2>/dev/null || sleep 1
done
head -c 900000 "$run/out"
head -c 2000 "$run/err" >&2
read -r status <"$run/status"
exit "$status"
"""


def argv(rendered: Rendered, run: str, prefix: Sequence[str] = ()) -> list[str]:
    """The command for a far host; nothing in it is a value. ``prefix``: ``sudo -n``, for example."""
    words = ["sh", "-c", LOADER, "ota-native", run, rendered.sha256, str(len(rendered.names))]
    return [*prefix, *words]


def stdin(rendered: Rendered, values: Mapping[str, str]) -> bytes:
    """Values and script, for the loader's stdin."""
    return rendered.stdin(values) + rendered.text.encode()
