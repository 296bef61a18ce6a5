#!/bin/bash
# docker/build.sh [TAG]: builds the appliance's image with Debian's Docker, pulling nothing.
#
# Needs root, and the Debian packages docker.io and debootstrap. Uses the dockerd that answers; where none does, starts
# one by hand in a folder of its own, told to leave the host's firewall and forwarding alone, and stops it at the end
# (then the image is left in docker/out/sluice.tar for `docker load`).
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${1:-sluice:latest}
base=sluice-base:bookworm
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
binary=target/release/sluice

[ -x "$binary" ] || { echo "docker/build.sh: $binary is missing; run: cargo build --release -p sluice-control" >&2; exit 1; }
for tool in dockerd docker debootstrap; do
    command -v "$tool" >/dev/null || { echo "docker/build.sh: $tool is missing; run: apt-get install docker.io debootstrap" >&2; exit 1; }
done

work=$(mktemp -d /tmp/sluice-docker.XXXXXX)
daemon=
finish() {
    if [ -n "$daemon" ]; then kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true; fi
    # dockerd leaves its host-network namespace mounted.
    umount "$work"/exec/netns/* 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

if ! docker version >/dev/null 2>&1; then
    export DOCKER_HOST=unix://$work/docker.sock
    dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
        --iptables=false --ip6tables=false --bridge=none --ip-forward=false >"$work/dockerd.log" 2>&1 &
    daemon=$!
    for _ in $(seq 100); do docker version >/dev/null 2>&1 && break; sleep 0.2; done
    docker version >/dev/null 2>&1 || { tail -20 "$work/dockerd.log" >&2; exit 1; }
fi

if ! docker image inspect "$base" >/dev/null 2>&1; then
    debootstrap --variant=minbase bookworm "$work/root" "$mirror" >"$work/debootstrap.log" || { tail "$work/debootstrap.log" >&2; exit 1; }
    tar -C "$work/root" -c . | docker import - "$base"
fi

# The build needs the network for apt alone; a dockerd without a bridge has only the host's. The context is the one file.
mkdir -p "$work/context/target/release"
cp "$binary" "$work/context/target/release/sluice"
docker build --network=host --build-arg BASE="$base" -t "$tag" -f docker/Dockerfile "$work/context"
docker run --rm --network=none "$tag" --version

if [ -n "$daemon" ]; then
    mkdir -p docker/out
    docker save -o docker/out/sluice.tar "$tag"
    echo "docker/out/sluice.tar holds $tag; on the target: docker load -i sluice.tar"
fi
