#!/usr/bin/env bash
# How fast a model reads prompts and writes tokens with each number of threads, one table. The best
# number differs between the two: decode waits for memory, which fewer threads than cores can keep busy;
# prefill computes, and gains with each core. Give the best ones as -t (decode) and -tb (prefill).
#
#   scripts/thread_sweep.sh MODEL.gguf [COUNTS [WORD...]]
#   scripts/thread_sweep.sh MODEL.gguf                  # 1, 2, 4, .. and all cores
#   scripts/thread_sweep.sh MODEL.gguf 8,16,32 -p 512 -n 64 --numa isolate
#
# Counts beyond the processors are measured with as many as there are, and said so. One load of the
# model serves all rows. HYBRID_RUN: the program (build/release/hybrid-run beside this script).
set -euo pipefail

(($# >= 1)) || {
  sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
model=$1 counts=${2-}
shift $(($# < 2 ? $# : 2))

program=${HYBRID_RUN:-$(dirname "$0")/../build/release/hybrid-run}
[[ -x $program ]] || {
  echo "thread_sweep.sh: $program is not built; see README.md, or name it by HYBRID_RUN" >&2
  exit 1
}

if [[ -z $counts ]]; then
  n_cores=$(lscpu --parse=core,socket | grep -v '^#' | sort -u | wc -l)
  for ((n = 1; n < n_cores; n *= 2)); do counts+=$n,; done
  counts+=$n_cores
fi
(($# > 0)) || set -- -p 512 -n 64
exec "$program" bench -m "$model" -t "$counts" "$@"
