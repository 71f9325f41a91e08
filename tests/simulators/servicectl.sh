#!/bin/sh
# A real, small service manager for machines without systemd: servicectl.sh FOLDER VERB NAME
#
# FOLDER/NAME is the program of a service. It runs in a session of its own and writes nothing here;
# FOLDER/NAME.pid is its process, FOLDER/NAME.on says that it is enabled, FOLDER/log what was asked.
set -u
folder=$1 verb=$2 name=$3
case $name in */* | .* | '') exit 4 ;; esac
pid=$folder/$name.pid
test -x "$folder/$name" || exit 4
echo "$verb $name" >>"$folder/log"

alive() {
    test -s "$pid" && read -r number <"$pid" && test -r "/proc/$number/status" &&
        ! grep -q '^State:[[:space:]]*[ZX]' "/proc/$number/status"
}
start() {
    alive && return 0
    setsid "$folder/$name" </dev/null >/dev/null 2>&1 &
    echo $! >"$pid"
}
stop() {
    alive && kill "$number"
    while alive; do sleep 0.02; done
    rm -f "$pid"
}
case $verb in
start) start ;;
stop) stop ;;
restart) stop && start ;;
reload) alive && kill -HUP "$number" ;;
status) alive ;;
enable) : >"$folder/$name.on" ;;
disable) rm -f "$folder/$name.on" ;;
enabled) test -e "$folder/$name.on" ;;
*) exit 2 ;;
esac
