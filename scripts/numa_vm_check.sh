#!/usr/bin/env bash
# Runs tests/numa_vm and `topology` on real kernels with several memory nodes, in guests of 2, 3 and 8
# nodes (scripts/numa_vm.sh), launched plainly, by numactl and in control groups. A minute or two. Exit
# code 77, with the reason, where the tools for guests cannot be had.
#
#   scripts/numa_vm_check.sh [BUILD_FOLDER]      build/release
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}

scripts/numa_vm_tools.sh
for program in test_numa_vm hybrid-run; do
  [[ -x $build/$program ]] || {
    echo "numa_vm_check.sh: $build/$program is not built; build the target $program" >&2
    exit 1
  }
done
numactl=${NUMA_VM_TOOLS:-build/numa-vm}/root/usr/bin/numactl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What every guest's script begins with. run counts a command that fails; cases takes the beginning of
# test cases' names (without a comma: doctest splits there) and how to launch them. Where no case
# begins so, that is a failure.
cat >"$work/head.sh" <<'HEAD'
n_failed=0
run() {
  name=$1; shift
  if "$@" >/tmp/out 2>&1; then echo "passed  $name"; else
    echo "FAILED  $name"; cat /tmp/out; n_failed=$((n_failed + 1))
  fi
}
cases() {
  start=$1; shift
  run "$start" "$@" /test_numa_vm -tc="$start*" --no-colors
  grep -q 'test cases: *0 ' /tmp/out && { echo "FAILED  no case begins with '$start'"; n_failed=$((n_failed + 1)); }
}
expect() { # N PATTERN: so many lines of what the last command printed match
  n=$(grep -c -e "$2" /tmp/out)
  [ "$n" = "$1" ] && return
  echo "FAILED  $name: $n lines match '$2', not $1"; cat /tmp/out; n_failed=$((n_failed + 1))
}
group() { # NAME FILE VALUE...: a control group, with its limits
  mkdir -p /sys/fs/cgroup/$1; g=/sys/fs/cgroup/$1; shift
  while [ $# -gt 0 ]; do echo "$2" >$g/$1; shift 2; done
}
in_group() { # NAME COMMAND...
  g=$1; shift
  sh -c 'echo $$ >/sys/fs/cgroup/'$g'/cgroup.procs && exec "$@"' sh "$@"
}
echo "+cpuset +cpu" >/sys/fs/cgroup/cgroup.subtree_control
HEAD

n_failed=0
guest() { # TITLE OPTION... : runs $work/head.sh and what stands in $work/body.sh
  local title=$1
  shift
  echo "== $title"
  { cat "$work/head.sh" "$work/body.sh"; echo 'exit $n_failed'; } >"$work/script.sh"
  local status=0
  scripts/numa_vm.sh "$@" -f "$build/test_numa_vm:/test_numa_vm" -f "$build/hybrid-run:/hybrid-run" \
    -f "$numactl:/numactl" "$work/script.sh" || status=$?
  ((status == 0)) || n_failed=$((n_failed + 1))
}

cat >"$work/body.sh" <<'BODY'
cases "plain:"
cases "-N 0 -m 0:" /numactl -N 0 -m 0
cases "--interleave=all:" /numactl --interleave=all
cases "--preferred=1:" /numactl --preferred=1
cases "-N 1:" /numactl -N 1
cases "-m 1:" /numactl -m 1
cases "--physcpubind of a core each:" /numactl --physcpubind=1,2
group half cpuset.cpus 2-3 cpuset.mems 1
cases "cpuset 2-3 with memory 1:" in_group half
group core cpuset.cpus 0 cpuset.mems 0-1
cases "cpuset 0 with memory 0-1:" in_group core
group paid cpu.max "150000 100000"
cases "cpu.max 1.5:" in_group paid
echo never >/sys/kernel/mm/transparent_hugepage/enabled
cases "huge pages never:"
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled
run "topology" /hybrid-run topology
expect 2 "  bound  "
run "topology --measure" /hybrid-run topology --measure
expect 1 "bandwidth of the nodes kept in"
run "topology, measured" /hybrid-run topology
expect 1 "all nodes at once, each its own: .* GB/s"
run "topology under numactl" /numactl -N 0 -m 0 /hybrid-run topology
expect 1 "launched with: memory bound to node 0 (numactl -m), processors 0-1 of 0-3"
BODY
guest "2 nodes of 2 processors" -n 2 -c 2 -m 640

cat >"$work/body.sh" <<'BODY'
cases "plain:"
cases "-m 2:" /numactl -m 2
run "topology" /hybrid-run topology
expect 1 "^ *2 .* 0 .* bound *none"
BODY
guest "2 nodes of a processor, a third without" -n 3 -c 1 -o 2 -m 384

cat >"$work/body.sh" <<'BODY'
cases "plain:"
run "topology" /hybrid-run topology
expect 8 "  bound  "
BODY
guest "8 nodes of a processor in 2 sockets" -n 8 -c 1 -m 256 -s

if ((n_failed > 0)); then
  echo "numa_vm_check.sh: $n_failed of 3 guests failed" >&2
  exit 1
fi
echo "numa_vm_check.sh: all passed"
