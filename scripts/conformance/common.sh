# Sourced by the runners of this folder: arguments, and the mount that a suite is let loose on.  Needs root.
#
# begin NAME "$@"  reads BACKEND, refuses what it does not know, sets $backend and $top (a new directory; removed at the end).
# mount_union      mounts $merged, a union of $lower and $upper ($top/lower, $top/upper); for "plain", $merged is a mere directory.
# unmount_union    takes that mount away and returns when the layers are free.
# run PROGRAM...   runs it to its end, without putting off what a signal asks for: then it is ended at once.
# unionfs_options  prints the mount options that stand for $backend, a backend of ours.

set -euo pipefail
export LC_ALL=C.UTF-8

# All features on: a directory that cannot be renamed, or a hard link that breaks, would fail in any suite.
features=redirect_dir=on,index=on,xino=on

fail() {
    echo "${0##*/}: $1" >&2
    exit 2
}

[ "$(id -u)" = 0 ] || fail "suites mount and change owners; run as root"
# In a mount namespace of its own, so that nobody else's gets a copy of the mounts: a copy keeps the daemon, and with it the layers,
# in use after umount(8).
if [ "${UNIONFS_OWN_NAMESPACE-}" != "$$" ]; then
    UNIONFS_OWN_NAMESPACE=$$ exec unshare --mount --propagation private -- "$0" "$@"
fi

begin() {
    backend=$1
    case "$backend" in
    direct | direct-cached | pyfuse3 | kernel | plain) ;;
    *) fail "$backend: no backend; one of direct, direct-cached, pyfuse3, kernel, plain" ;;
    esac
    local project
    project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    PATH=${UNIONFS_BIN:-$project/.venv/bin}:$PATH
    command -v unionfs >/dev/null || fail "no unionfs command; run scripts/setup, or name its folder in UNIONFS_BIN"
    # No dots in it: mount(8) cuts a type at its last dot, and unionmount puts this path into one.
    top=$(mktemp -d "${TMPDIR:-/tmp}/unionfs-conformance-XXXXXX")
    lower=$top/lower upper=$top/upper work=$top/work merged=$top/merged
    mkdir "$lower" "$upper" "$work" "$merged" "$top/logs"
    export UNIONFS_LOG_DIR=$top/logs UNIONFS_RUNTIME_DIR=$top/run
    # Suites work as several users.
    chmod 755 "$top"
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

unionfs_options() {
    case "$backend" in
    direct) echo "transport=direct,$features" ;;
    direct-cached) echo "transport=direct,data_path=cached,$features" ;;
    pyfuse3) echo "transport=pyfuse3,$features" ;;
    esac
}

mount_union() {
    case "$backend" in
    plain) ;;
    kernel) mount -t overlay overlay -o "$features,lowerdir=$lower,upperdir=$upper,workdir=$work" "$merged" ;;
    *) unionfs mount -l "$lower" -u "$upper" -w "$work" -o "$(unionfs_options)" "$merged" ;;
    esac
}

# Bash lets a program in the foreground end before it looks at a signal, but not `wait`.
run() {
    "$@" &
    wait "$!"
}

# Also waits for the daemon, which umount(8) does not do.
unmount_union() {
    umount "$merged"
    flock -w 60 "$upper" true
}

clean_up() {
    local status=$? mountpoint running
    trap '' HUP INT TERM
    running=$(jobs -pr)
    # shellcheck disable=SC2086  # one word for each process
    if [ -n "$running" ]; then kill $running 2>/dev/null || true; fi
    # Not for ever: one that waits for a hung daemon cannot be ended.
    for _ in {1..100}; do
        [ -n "$(jobs -pr)" ] || break
        sleep 0.1
    done
    # Innermost last in the table, and above it whatever lies on it.
    while mountpoint=$(awk -v top="$top/" 'index($5, top) == 1 { last = $5 } END { if (last == "") exit 1; print last }' /proc/self/mountinfo); do
        unmount "$mountpoint" || break
    done
    # What a daemon complained of nobody asked for, whatever the suite made of it.
    if grep --no-filename --recursive . "$top/logs"; then status=1; fi
    rm -rf --one-file-system "$top"
    exit "$status"
}

# Lazily where something of a suite that was killed still uses it.
unmount() { umount "$1" 2>/dev/null || umount -l "$1"; }
