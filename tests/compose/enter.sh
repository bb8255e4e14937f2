#!/bin/sh
# Run a command in the root folder of a container. The caller creates the namespaces.
# usage: enter.sh BOX IMAGE HOSTNAME COMMAND…
# BOX contains the folders upper, work and root, and the list of mounts. A file read-only makes the root read-only.
# A mount is a line of three words: tmpfs OPTIONS PLACE, or ro|rw SOURCE PLACE.
set -eu
box=$1 root=$1/root
mount -t overlay overlay -o "lowerdir=$2,upperdir=$box/upper,workdir=$box/work" "$root"
hostname "$3"
shift 3
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
while read -r kind what place; do
    place=$root$place
    if [ "$kind" = tmpfs ]; then
        mkdir -p "$place"
        mount -t tmpfs -o "nosuid,nodev,noexec,$what" tmpfs "$place"
        continue
    fi
    if [ -d "$what" ]; then
        mkdir -p "$place"
    else
        mkdir -p "${place%/*}"
        touch "$place"
    fi
    mount --bind "$what" "$place"
    if [ "$kind" = ro ]; then mount -o remount,bind,ro "$place"; fi
done <"$box/mounts"
if [ -e "$box/read-only" ]; then mount -o remount,bind,ro "$root"; fi
exec chroot "$root" "$@"
