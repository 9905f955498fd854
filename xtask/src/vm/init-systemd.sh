#!/bin/bash
# The virtual machine's first process before systemd: modules, and a root that is a mount, as
# services with mounts of their own need it. The kernel's first file system is none.
export PATH=/usr/sbin:/usr/bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
xargs modprobe -a < /etc/modules-loaded
umount /dev /sys /proc

mkdir /host
mount --bind / /host
cd /host
mount --move . /
exec chroot . /usr/lib/systemd/systemd
