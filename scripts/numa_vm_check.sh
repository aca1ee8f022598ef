#!/usr/bin/env bash
# Runs tests/numa_vm, `topology`, and the demo model, on real kernels with several memory nodes, in
# guests of 2, 3 and 8 nodes (scripts/numa_vm.sh), launched plainly, by numactl and in control groups.
# Logits and text are the same bits in all of them, and on this machine. Minutes. Exit code 77,
# with the reason, where the tools for guests cannot be had.
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
demo=models/demo/hybrid-run-demo.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What every model run is given: the level that the guests' emulated processor has, too.
tokens=5,17
forward=(--isa avx2 --device none)
"$build/hybrid-run" eval -m "$demo" "${forward[@]}" --tokens "$tokens" --logits-out "$work/logits" \
  >/dev/null 2>&1
"$build/hybrid-run" run -m "$demo" "${forward[@]}" -p "Once upon a time" -n 4 --temp 0 \
  >"$work/text" 2>/dev/null

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
model() { # NAME OPTIONS LAUNCHER...: the demo model's logits are those of the host
  name=$1 options=$2; shift 2
  run "$name" "$@" /hybrid-run eval -m /demo.gguf $forward $options --tokens $tokens --logits-out /tmp/logits
  cmp /tmp/logits /logits && return
  echo "FAILED  $name: other logits"; n_failed=$((n_failed + 1))
}
text() { # the same of the text
  run "text" sh -c "/hybrid-run run -m /demo.gguf $forward -p 'Once upon a time' -n 4 --temp 0 >/tmp/text"
  cmp /tmp/text /text && return
  echo "FAILED  other text"; n_failed=$((n_failed + 1))
}
refused() { # NAME PATTERN COMMAND...: ends with 1 and a line that matches
  name=$1 pattern=$2; shift 2
  "$@" >/tmp/out 2>&1
  if [ $? = 1 ] && grep -q "^hybrid-run: .*$pattern" /tmp/out; then echo "passed  $name"; else
    echo "FAILED  $name: it was not refused as it should be"; cat /tmp/out; n_failed=$((n_failed + 1))
  fi
}
echo "+cpuset +cpu" >/sys/fs/cgroup/cgroup.subtree_control
HEAD

n_failed=0
guest() { # TITLE OPTION... : runs $work/head.sh and what stands in $work/body.sh
  local title=$1
  shift
  echo "== $title"
  {
    echo "forward='${forward[*]}' tokens=$tokens"
    cat "$work/head.sh" "$work/body.sh"
    echo 'exit $n_failed'
  } >"$work/script.sh"
  local status=0
  scripts/numa_vm.sh "$@" -f "$build/test_numa_vm:/test_numa_vm" -f "$build/hybrid-run:/hybrid-run" \
    -f "$numactl:/numactl" -f "$demo:/demo.gguf" -f "$work/logits:/logits" -f "$work/text:/text" \
    "$work/script.sh" || status=$?
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

cases "model:"
model "a model on two nodes" ""
expect 1 "--numa distribute (by default): the rows of each matrix are divided among nodes 0-1, and bound"
expect 1 "the packed weights: .* for node 0, .* for node 1; all of .* are there"
text
model "one thread for two nodes, half of the memory far" "-t 1"
expect 1 "1 thread for 2 nodes: memory without a thread at it"
model "--numa off" "--numa off"
expect 1 "--numa off: weights are where the system puts them"
model "--numa isolate" "--numa isolate"
expect 1 "--numa isolate: weights are bound to node"
model "from the mapped file" "-rtr 0"
expect 1 "weights are read from the mapped file"
model "a model under -N 0 -m 0" "" /numactl -N 0 -m 0
expect 1 "--numa numactl (by default): weights are bound to node 0; launched with memory bound to node 0"
expect 1 "the packed weights: .* for node 0; all of"
model "a model under --interleave=all" "" /numactl --interleave=all
expect 1 "weights are not bound to nodes: memory interleaved over nodes 0-1"
model "a model under --physcpubind of a core each" "" /numactl --physcpubind=1,2
expect 1 "divided among nodes 0-1, and bound"
model "a model under taskset" "" taskset 8
expect 1 "weights are bound to node 1"
model "a model in a cpuset" "" in_group half
expect 1 "weights are bound to node 1"
model "four threads with a quota" "-t 4" in_group paid
expect 1 "-t 4: cpu.max pays for 1.5 processors, so 2 threads work"
evaluate="/hybrid-run eval -m /demo.gguf $forward --tokens 1,2 --logits-out /tmp/logits"
refused "distribute under -N 0 -m 0" "--numa distribute uses all nodes, but" \
  /numactl -N 0 -m 0 $evaluate --numa distribute
refused "distribute under --interleave" "--numa distribute binds weights to nodes, but" \
  /numactl --interleave=all $evaluate --numa distribute
refused "numactl without it" "--numa numactl: the process was launched with all" $evaluate --numa numactl
# What node 1 has is taken by files in memory, which do not give way. In several pieces: while the
# first is written, the kernel frees page cache and pages that it had set aside.
mkdir -p /tmp/full && mount -t tmpfs -o size=90% none /tmp/full
too_many() { # MiB of node 1 that are free or page cache, beyond 34
  awk '/MemFree:|\(file\):/ { n += $4 } END { print int(n / 1024) - 34 }' /sys/devices/system/node/node1/meminfo
}
for piece in 1 2 3 4 5 6 7 8; do
  [ $(too_many) -gt 0 ] || break
  /numactl -m 1 dd if=/dev/zero of=/tmp/full/$piece bs=1M count=$(too_many) 2>/dev/null
done
refused "a slice larger than its node" "the packed weights on node 1 would take .*, and the node has" $evaluate
[ $(too_many) -le 2 ] || grep -e Free -e ile: /sys/devices/system/node/node1/meminfo
rm /tmp/full/*
BODY
guest "2 nodes of 2 processors" -n 2 -c 2 -m 640 -t 400

cat >"$work/body.sh" <<'BODY'
cases "plain:"
cases "-m 2:" /numactl -m 2
run "topology" /hybrid-run topology
expect 1 "^ *2 .* 0 .* bound *none"
cases "model:"
model "a model beside memory without processors" ""
expect 1 "no processors are near"
model "a model in memory without processors" "" /numactl -m 2
expect 1 "weights are bound to node 2"
BODY
guest "2 nodes of a processor, a third without" -n 3 -c 1 -o 2 -m 384

cat >"$work/body.sh" <<'BODY'
cases "plain:"
run "topology" /hybrid-run topology
expect 8 "  bound  "
cases "model:"
model "a model on eight nodes" ""
expect 1 "divided among nodes 0-7, and bound"
text
BODY
guest "8 nodes of a processor in 2 sockets" -n 8 -c 1 -m 320 -s -t 300

if ((n_failed > 0)); then
  echo "numa_vm_check.sh: $n_failed of 3 guests failed" >&2
  exit 1
fi
echo "numa_vm_check.sh: all passed"
