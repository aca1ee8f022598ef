#!/usr/bin/env bash
# Measures models with `bench`, which keeps this machine's rates, plans them with `plan`, and prints
# what was predicted beside what was measured:
#   scripts/check_predictions.sh MODEL.gguf...
# THREADS (2) and REPEATS (3) in the environment. Run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -gt 0 ]] || { echo "usage: scripts/check_predictions.sh MODEL.gguf..." >&2; exit 2; }
program=build/release/hybrid-run
threads=${THREADS:-2}
printf '| model | test | measured, t/s | predicted by `plan` | ratio | asked for |\n|---|---|---|---|---|---|\n'
for model in "$@"; do
  rows=$("$program" bench -m "$model" -t "$threads" -p 512 -n 32 -gp 4096,32 \
    -r "${REPEATS:-3}" -o jsonl)
  plan=$("$program" plan -m "$model" -t "$threads" -c 16384 --json)
  python3 - "$(basename "$model")" "$rows" "$plan" <<'PYTHON'
import json, sys

name, rows, plan = sys.argv[1], sys.argv[2].splitlines(), json.loads(sys.argv[3])
contexts = {c["n_past"]: c for c in plan["predicted"]["contexts"]}
for row in map(json.loads, rows):
    is_decode = row["n_gen"] > 0
    predicted = contexts[row["n_depth"]]["tg_tps" if is_decode else "pp_tps"]
    print(f"| {name} | {row['test']} | {row['tps_mean']:.1f} ± {row['tps_stddev']:.1f} "
          f"| {predicted:.1f} | {predicted / row['tps_mean']:.2f} | {0.1 if is_decode else 0.2} |")
PYTHON
done
