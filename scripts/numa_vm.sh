#!/usr/bin/env bash
# Runs a shell script in a throw-away Linux guest with several memory nodes, emulated by qemu: no
# such machine is needed, nor KVM, root or anything installed. Nothing in it can be timed.
#
#   scripts/numa_vm.sh [OPTIONS] SCRIPT
#     -n N       memory nodes (2)               -c N     processors of each (2)
#     -m MB      memory of each (512)           -o LIST  nodes without processors: 2,3
#     -s         two sockets that share the nodes (distances 12 within, 21 between)
#     -f FILE    a file that the script needs, at the same path in the guest; of programs the
#                libraries, too. Repeatable. FILE:PATH puts it at PATH
#     -t S       time limit (120)               -v       the kernel's console on standard error
#
# SCRIPT is for busybox's ash. What it prints comes out on standard output, and its exit code is
# ours; 124 time limit, 125 something is wrong with the options or tools, 126 the guest died.
# scripts/numa_vm_tools.sh fetches what this needs into build/numa-vm (NUMA_VM_TOOLS).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=${NUMA_VM_TOOLS:-$here/../build/numa-vm}/root

die() {
  echo "numa_vm.sh: $*" >&2
  exit 125
}

nodes=2 cpus_each=2 mb_each=512 memory_only=, sockets=1 limit=120 verbose=0 files=()
while getopts n:c:m:o:sf:t:v option; do
  case $option in
    n) nodes=$OPTARG ;;
    c) cpus_each=$OPTARG ;;
    m) mb_each=$OPTARG ;;
    o) memory_only=,$OPTARG, ;;
    s) sockets=2 ;;
    f) files+=("$OPTARG") ;;
    t) limit=$OPTARG ;;
    v) verbose=1 ;;
    *) die "see the head of the script" ;;
  esac
done
shift $((OPTIND - 1))
(($# == 1)) && [[ -r $1 ]] || die "expected one readable script, found '$*'"
script=$1

qemu=$tools/usr/bin/qemu-system-x86_64
busybox=$tools/bin/busybox
kernel=$(compgen -G "$tools/boot/vmlinuz-*" | tail -1) || die "no kernel in $tools/boot"
[[ -x $qemu && -x $busybox ]] || die "no qemu or busybox in $tools; run scripts/numa_vm_tools.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/numa-vm.XXXXXX")
guest_pid=
clean_up() {
  [[ -z $guest_pid ]] || kill "$guest_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- the guest's files ----------------------------------------------------------------------------

root=$work/root
mkdir -p "$root"/{usr/bin,usr/lib,usr/lib64,proc,sys,dev,tmp,root,etc}
ln -s usr/bin "$root/bin"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
cp "$busybox" "$root/bin/busybox"
cp /etc/ld.so.cache "$root/etc/" 2>/dev/null || true

put() { # FILE PATH
  [[ -e $root/$2 ]] || install -D "$1" "$root/$2"
}
add() { # FILE PATH: with the libraries that it is linked with
  put "$1" "$2"
  [[ $(head -c 4 "$1" | tr -d '\0') == $'\x7fELF' ]] || return 0
  local library
  while read -r library; do
    put "$library" "$library"
  done < <(LD_LIBRARY_PATH=$tools/usr/lib/x86_64-linux-gnu ldd "$1" 2>/dev/null |
    grep -oE '/[^ ]+' | sort -u)
}
for file in ${files[@]+"${files[@]}"}; do
  path=$(realpath "${file%%:*}") || die "no such file: $file"
  if [[ $file == *:* ]]; then add "$path" "${file#*:}"; else add "$path" "$path"; fi
done
cp "$script" "$root/script.sh"

# The script's output and exit code leave through serial lines of their own, apart from the kernel's.
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
export PATH=/bin HOME=/root
$b --install -s /bin 2>/dev/null
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
sh /script.sh </dev/null >/dev/ttyS1 2>&1
code=$?
sleep 0.2  # the lines send what they hold
echo $code >/dev/ttyS2
sleep 0.1
poweroff -f
INIT
chmod 755 "$root/init"
(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$work/initrd"

# --- the machine ----------------------------------------------------------------------------------

args=(-nodefaults -no-user-config -display none -no-reboot -cpu max
  -machine q35,accel=tcg,smm=off,usb=off -m $((nodes * mb_each))
  -L "$tools/usr/share/qemu" -L "$tools/usr/share/seabios" -kernel "$kernel" -initrd "$work/initrd"
  -append "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off random.trust_cpu=on")
for line in console output code; do
  : >"$work/$line"
  args+=(-serial "file:$work/$line")
done
n_cpus=0
for ((i = 0; i < nodes; i++)); do
  node=node,nodeid=$i,memdev=m$i
  if [[ $memory_only != *,$i,* ]]; then
    node+=,cpus=$n_cpus-$((n_cpus + cpus_each - 1))
    n_cpus=$((n_cpus + cpus_each))
  fi
  args+=(-object "memory-backend-ram,id=m$i,size=${mb_each}M" -numa "$node")
done
for ((i = 0; i < nodes; i++)); do
  for ((j = 0; j < nodes; j++)); do
    distance=21
    if ((sockets == 2 && i * 2 / nodes == j * 2 / nodes)); then distance=12; fi
    ((i == j)) || args+=(-numa "dist,src=$i,dst=$j,val=$distance")
  done
done
# A socket for each node, unless sockets share them: without sockets the kernel sees no packages.
((sockets == 2)) || sockets=$((n_cpus / cpus_each))
# qemu 7.2 loses interrupts past a gap in the processors' ids, which sockets of 3 processors leave.
per_socket=$((n_cpus / sockets))
((per_socket & (per_socket - 1))) && die "$per_socket processors a socket: qemu needs a power of two"
args+=(-smp "$n_cpus,sockets=$sockets,cores=$per_socket,threads=1")

LD_LIBRARY_PATH=$tools/usr/lib/x86_64-linux-gnu:$tools/lib/x86_64-linux-gnu \
  timeout -k 5 "$limit" "$qemu" "${args[@]}" </dev/null >"$work/qemu" 2>&1 &
guest_pid=$!
status=0
wait "$guest_pid" || status=$?
guest_pid=
cat "$work/output"
((verbose == 0)) || cat "$work/console" >&2
if ((status == 124 || status == 137)); then
  echo "numa_vm.sh: the limit of $limit s is over" >&2
  exit 124
fi
code=$(tr -dc 0-9 <"$work/code")
if [[ -z $code ]]; then
  echo "numa_vm.sh: the guest died (qemu ended with $status)" >&2
  cat "$work/qemu" >&2
  tail -20 "$work/console" >&2
  exit 126
fi
exit "$code"
