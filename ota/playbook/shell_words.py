"""The shell functions that rendered steps are made of; POSIX, with coreutils' ``timeout``.

Each leaves the same state, and tells the same codes, as ``ota/agent/runs/`` does.
"""

from __future__ import annotations

from typing import Final

CORE: Final = r"""set -u
cd /
umask 022
LC_ALL=C
export LC_ALL
ota_begin() {
    OTA_STEP=$1
    OTA_END=$(($(date +%s) + $2))
    exec 3>&1
    OTA_ERR=$(mktemp) || exit 1
    trap 'rm -f "$OTA_ERR" "${OTA_NEW:-}" "${OTA_OUT:-}"' EXIT
}
ota_say() {
    printf 'ota-step %s %s %s %s %s %s\n' "$OTA_STEP" "$1" "${2:--}" "${3:-0}" "${4:--}" "${5:-0}" >&3
}
ota_skip() {
    ota_say skipped "$1"
    exit 0
}
ota_fail() {
    head -c 200 "$OTA_ERR" | tr '\n' ' ' >&2
    ota_say failed "$1"
    exit 1
}
ota_left() {
    OTA_LEFT=$((OTA_END - $(date +%s)))
    test "$OTA_LEFT" -gt 0 || ota_fail "${OTA_LATE:-timeout}"
}
ota_ask() {
    ota_left
    timeout -k 5 "$OTA_LEFT" "$@" >/dev/null 2>&1 </dev/null 3>&-
}
ota_try() {
    ota_left
    timeout -k 5 "$OTA_LEFT" "$@" 2>"$OTA_ERR" </dev/null 3>&-
}
ota_must() {
    ota_try "$@" >/dev/null
    ota_judge $?
}
ota_judge() {
    case $1 in
    0) ;;
    124 | 137) ota_fail timeout ;;
    126 | 127) ota_fail no-program ;;
    *) ota_fail exit ;;
    esac
}
"""

HERE: Final = r"""ota_here() {
    (
        ID='' ID_LIKE=''
        test ! -r /etc/os-release || . /etc/os-release
        for ota_word; do
            case " linux $ID $ID_LIKE " in *" $ota_word "*) exit 0 ;; esac
        done
        exit 1
    )
}
"""

ADMISSION: Final = r"""ota_no() {
    exec 3>&1
    OTA_STEP=admission
    ota_say failed "$1"
    exit 3
}
ota_value() {
    case $1 in -*) test "$2" = 1 || return 1 ;; esac
    case $1 in *[!\ -~]*) return 1 ;; esac
    test ${#1} -le 512
}
ota_one_of() {
    ota_value=$1
    shift
    for ota_word; do test "$ota_word" != "$ota_value" || return 0; done
    return 1
}
ota_within() {
    case ${1#-} in '' | *[!0-9]* | ???????????????????*) return 1 ;; esac
    test "$1" -ge "$2" && test "$1" -le "$3"
}
ota_path() {
    case $1 in [!/]* | '' | */ | *//* | */.. | */../* | */. | */./*) return 1 ;; esac
    case $1 in *[!/A-Za-z0-9._@:+-]*) return 1 ;; esac
}
"""

JSON: Final = r"""ota_json() {
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"
}
"""

SHELL: Final = r"""ota_shell() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
}
"""

FILE: Final = r"""ota_io() {
    case $(cat "$OTA_ERR") in *'No space left'* | *'quota exceeded'*) ota_fail no-space ;; esac
    ota_fail io
}
ota_file() {
    OTA_PATH=$1
    if test -L "$1" || { test -e "$1" && test ! -f "$1"; }; then
        echo "$1 is there and is no plain file" >"$OTA_ERR"
        ota_fail not-a-file
    fi
}
ota_absent() {
    test -e "$OTA_PATH" || ota_skip already-so
    rm -f "$OTA_PATH" 2>"$OTA_ERR" || ota_io
    ota_say done
}
ota_new() {
    OTA_MODE=${1#0} OTA_OWNER=$2 OTA_GROUP=$3
    shift 3
    OTA_NEW=$(dirname "$OTA_PATH")/.ota-$(basename "$OTA_PATH" | head -c 100).new
    rm -f "$OTA_NEW"
    (umask 077 && printf '%s' "$@" >"$OTA_NEW") 2>"$OTA_ERR" || ota_io
    test -z "$OTA_OWNER" || chown "$OTA_OWNER" "$OTA_NEW" 2>"$OTA_ERR" || ota_fail no-owner
    test -z "$OTA_GROUP" || chgrp "$OTA_GROUP" "$OTA_NEW" 2>"$OTA_ERR" || ota_fail no-owner
    chmod "$OTA_MODE" "$OTA_NEW" 2>"$OTA_ERR" || ota_io
    ota_so && ota_skip already-so
}
ota_so() {
    test -f "$OTA_PATH" && cmp -s "$OTA_NEW" "$OTA_PATH" &&
        test "$(stat -c %a "$OTA_PATH")" = "$(stat -c %a "$OTA_NEW")" || return 1
    test -z "$OTA_OWNER" || test "$(stat -c %u "$OTA_PATH")" = "$(stat -c %u "$OTA_NEW")" || return 1
    test -z "$OTA_GROUP" || test "$(stat -c %g "$OTA_PATH")" = "$(stat -c %g "$OTA_NEW")"
}
ota_valid() {
    ota_try "$@" >/dev/null || ota_fail invalid
}
ota_place() {
    sync "$OTA_NEW" 2>/dev/null || sync
    mv -f "$OTA_NEW" "$OTA_PATH" 2>"$OTA_ERR" || ota_io
    ota_say done
}
"""

SERVICE: Final = r"""ota_manager() {
    if test -n "${OTA_SERVICE_MANAGER:-}"; then
        set -- "$OTA_SERVICE_MANAGER" "$1" "$2"
    elif test -d /run/systemd/system; then
        case $1 in
        status) set -- systemctl is-active --quiet -- "$2" ;;
        enabled) set -- systemctl is-enabled --quiet -- "$2" ;;
        *) set -- systemctl "$1" -- "$2" ;;
        esac
    else
        case $1 in
        enable | disable) set -- update-rc.d "$2" "$1" ;;
        enabled) set -- sh -c 'ls /etc/rc[2345].d/S[0-9][0-9]"$1"' sh "$2" ;;
        *) set -- service "$2" "$1" ;;
        esac
    fi
    ota_try "$@" >/dev/null
}
ota_service() {
    OTA_CHANGED='' OTA_RUNS=0
    if ota_manager status "$1"; then OTA_RUNS=1; fi
    case $2$OTA_RUNS in
    running1 | stopped0) ;;
    running0) ota_switch start "$1" 1 ;;
    stopped1) ota_switch stop "$1" 0 ;;
    restarted*) ota_switch restart "$1" 1 ;;
    reloaded*) ota_switch reload "$1" 1 ;;
    up*) ota_await "$1" 1 ;;
    esac
    if test "$3" != -; then
        OTA_ON=0
        if ota_manager enabled "$1"; then OTA_ON=1; fi
        if test "$3" != "$OTA_ON"; then
            if test "$3" = 1; then ota_manager enable "$1"; else ota_manager disable "$1"; fi
            ota_judge $?
            OTA_CHANGED=1
        fi
    fi
    test -n "$OTA_CHANGED" || ota_skip already-so
    ota_say done
}
ota_switch() {
    OTA_CHANGED=1
    ota_manager "$1" "$2"
    ota_judge $?
    test "$3" = 0 || sleep 0.5 2>/dev/null || sleep 1
    ota_await "$2" "$3"
}
ota_await() {
    OTA_CHANGED=1 OTA_LATE=service-state
    while :; do
        OTA_RUNS=0
        if ota_manager status "$1"; then OTA_RUNS=1; fi
        test "$OTA_RUNS" != "$2" || return 0
        test "$OTA_LEFT" -gt 1 || ota_fail service-state
        sleep 0.2 2>/dev/null || sleep 1
    done
}
"""

PACKAGE: Final = r"""ota_installed() {
    if test -n "${OTA_PACKAGE_MANAGER:-}"; then
        ota_ask "$OTA_PACKAGE_MANAGER" installed "$1"
    elif command -v dpkg-query >/dev/null; then
        test "$(dpkg-query -W -f='${db:Status-Status}' -- "$1" 2>/dev/null)" = installed
    elif command -v rpm >/dev/null; then
        ota_ask rpm -q --quiet -- "$1"
    else
        ota_ask apk info -e -- "$1"
    fi
}
ota_packages() {
    if test -n "${OTA_PACKAGE_MANAGER:-}"; then
        ota_must "$OTA_PACKAGE_MANAGER" "$1" "$2"
    elif command -v apt-get >/dev/null; then
        ota_must env DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends "$1" -- "$2"
    elif command -v dnf >/dev/null; then
        ota_must dnf -y -q "$1" -- "$2"
    elif command -v zypper >/dev/null; then
        ota_must zypper -n -q "$1" -- "$2"
    elif command -v apk >/dev/null; then
        if test "$1" = install; then ota_must apk add -q -- "$2"; else ota_must apk del -q -- "$2"; fi
    else
        ota_fail no-program
    fi
}
ota_package() {
    OTA_VERB=install
    test "$2" = present || OTA_VERB=remove
    OTA_IS=absent
    if ota_installed "$1"; then OTA_IS=present; fi
    test "$OTA_IS" != "$2" || ota_skip already-so
    ota_packages "$OTA_VERB" "$1"
    OTA_IS=absent
    if ota_installed "$1"; then OTA_IS=present; fi
    test "$OTA_IS" = "$2" || ota_fail package-state
    ota_say done
}
"""

CHECK: Final = r"""ota_check() {
    OTA_EVERY=$1 OTA_LATE=check
    shift
    while :; do
        ota_try "$@" >/dev/null
        case $? in 0) break ;; 126 | 127) ota_fail no-program ;; esac
        test $((OTA_END - $(date +%s))) -gt "$OTA_EVERY" || ota_fail check
        sleep "$OTA_EVERY"
    done
    ota_say done
}
"""

COLLECT: Final = r"""ota_collect() {
    OTA_OUT=$(mktemp) || exit 1
    ota_try "$@" >"$OTA_OUT"
    ota_judge $?
    OTA_ALL=$(($(wc -c <"$OTA_OUT")))
    OTA_TOLD=$OTA_ALL
    test "$OTA_TOLD" -le OUTPUT || OTA_TOLD=OUTPUT
    test "$OTA_ALL" -le 1048576 || ota_fail output
    ota_say done - "$OTA_TOLD" "$(sha256sum <"$OTA_OUT" | head -c 64)" "$OTA_ALL"
    head -c "$OTA_TOLD" "$OTA_OUT" >&3
    echo >&3
}
"""
