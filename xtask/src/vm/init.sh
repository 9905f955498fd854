#!/bin/bash
# The virtual machine's first process: mounts, modules, the command, its files, the end.
export PATH=/doorstep/bin:/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 TERM=dumb NO_COLOR=1

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
mkdir -p /run/netns

xargs modprobe -a < /etc/modules-loaded
hostname doorstep-vm
ip link set lo up

. /doorstep/session
