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
mkdir -p /run/netns /out

xargs modprobe -a < /etc/modules-loaded
hostname doorstep-vm
ip link set lo up

# The command writes into a pipe, not a terminal, and a process that it left behind must not keep
# the machine running.
exec 9<> /dev/ttyS1
stty -F /dev/ttyS1 raw -echo
mkfifo /run/output
cat /run/output >&9 &
reader=$!
bash /doorstep/command < /dev/null > /run/output 2>&1 9>&-
echo $? > /out/exit-code
for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 $reader 2> /dev/null || break
    sleep 0.1
done
kill $reader 2> /dev/null
exec 9>&-

tar -cf /dev/vda -C /out .
sync
reboot -f
