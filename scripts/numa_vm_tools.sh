#!/usr/bin/env bash
# Fetches what scripts/numa_vm.sh needs from Debian's packages, 45 MB, and unpacks it into
# build/numa-vm (NUMA_VM_TOOLS); nothing is installed. Does nothing where it is there. Exit code 77,
# with the reason, where it cannot be had: no apt, no network, another processor.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${NUMA_VM_TOOLS:-build/numa-vm}

skip() {
  echo "numa_vm_tools.sh: skipped: $*" >&2
  exit 77
}

[[ -e $tools/complete ]] && exit 0
[[ $(uname -m) == x86_64 ]] || skip "the guest is x86-64, and this is $(uname -m)"
command -v apt-get dpkg-deb >/dev/null || skip "there is no apt-get; the tools are Debian's packages"

# The image's name has the version in it. Of qemu's libraries those that are not installed.
kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
  sed -n 's/.*Depends: \(linux-image-[^ ]*\)/\1/p' | head -1)
[[ -n $kernel ]] || skip "apt knows no linux-image-cloud-amd64; apt-get update helps"
packages=$(apt-get install -s --no-install-recommends qemu-system-x86 2>/dev/null |
  sed -n 's/^Inst \([^ ]*\).*/\1/p')
if ! grep -q qemu-system-x86 <<<"$packages"; then packages+=" qemu-system-x86 qemu-system-data seabios"; fi

rm -rf "$tools"
mkdir -p "$tools/debs" "$tools/root"
echo "fetching qemu, a kernel, busybox and numactl into $tools" >&2
# shellcheck disable=SC2086
(cd "$tools/debs" && apt-get download -qq $packages "$kernel" busybox-static numactl >log 2>&1) ||
  skip "the packages cannot be fetched: $(tail -1 "$tools/debs/log")"
for deb in "$tools"/debs/*.deb; do
  dpkg-deb -x "$deb" "$tools/root"
done
rm -rf "$tools/debs" "$tools/root/lib/modules"  # what the guest needs is built in
touch "$tools/complete"
