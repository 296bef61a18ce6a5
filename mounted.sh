#!/bin/bash
# Runs a command where / is a mount point. `ip netns exec` and `ip -n` give a process its own /sys and resolv.conf by mounts
# of their own, which the kernel refuses in a chroot whose root is an ordinary folder; there / is bound over itself first.
set -euo pipefail
if mountpoint -q /; then exec "$@"; fi
exec unshare --mount --propagation unchanged /bin/bash -c '
    root=$(mktemp -d /tmp/sluice-root-XXXXXX)
    mount --rbind / "$root"
    mount --make-rprivate "$root"
    status=0
    chroot "$root" /bin/bash -c "cd \"\$1\" && shift && exec \"\$@\"" mounted "$PWD" "$@" || status=$?
    umount --lazy "$root" && rmdir "$root"
    exit "$status"' mounted "$@"
