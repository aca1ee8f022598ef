#!/usr/bin/env bash
# Runs hybrid-run on some memory nodes alone, by way of numactl: on one socket of a server that others
# use as well, or one process for each socket.
#
#   scripts/run_on_nodes.sh NODES WORD...
#   scripts/run_on_nodes.sh 0 run -m MODEL.gguf -p "Once upon a time"
#   scripts/run_on_nodes.sh 0-2 bench -m MODEL.gguf          # the first socket of a Xeon with SNC3
#
# Without numactl all nodes are used, which is the fastest for a single process: rows are divided among
# them. What numactl allows is kept to: memory is bound to these nodes, threads stay at them, each at a
# core, and hybrid-run's first lines say so. Do not interleave (numactl --interleave=all): weights are
# then wherever the pages fell, half of them on the other socket, and are read at the link's speed.
#
# HYBRID_RUN: the program (build/release/hybrid-run beside this script).
set -euo pipefail

usage() {
  sed -n '2,16s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
(($# >= 2)) || usage
nodes=$1
shift
[[ $nodes =~ ^[0-9]+([-,][0-9]+)*$ ]] || usage

program=${HYBRID_RUN:-$(dirname "$0")/../build/release/hybrid-run}
[[ -x $program ]] || {
  echo "run_on_nodes.sh: $program is not built; see README.md, or name it by HYBRID_RUN" >&2
  exit 1
}
command -v numactl >/dev/null || {
  echo "run_on_nodes.sh: numactl is not installed (apt-get install numactl)" >&2
  exit 1
}
exec numactl --cpunodebind="$nodes" --membind="$nodes" "$program" "$@"
