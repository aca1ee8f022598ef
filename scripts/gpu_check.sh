#!/usr/bin/env bash
# All that is to be seen on a GPU, in one call of less than 9 minutes (16 cores, no network): builds
# release-cuda for this machine's GPU, runs the GPU tests (kernels, whole small models), plainly and
# under compute-sanitizer, and runs the benchmark; of models, too, where files are given. Prints
# Markdown; the logs are in build/release-cuda/gpu_check.
#
#   scripts/gpu_check.sh [--debs DIR] [--model FILE]...
#       --debs: unpacks DIR/*.deb into / first (needs root)
#       --model: `bench` of this file with --device cuda:0, then without; again for more files
#
# Exits with 1 where there is no GPU, where anything failed, and where anything was not run.
set -euo pipefail
cd "$(dirname "$0")/.."

debs=
models=()
while (($# > 0)); do
  case "$1" in
    --debs)
      [[ -d ${2:-} ]] || { echo "gpu_check.sh: --debs wants a folder, not '${2:-}'" >&2; exit 2; }
      debs=$2
      shift 2
      ;;
    --model)
      [[ -f ${2:-} ]] || { echo "gpu_check.sh: --model wants a file, not '${2:-}'" >&2; exit 2; }
      models+=("$(readlink -f "$2")")
      shift 2
      ;;
    *) echo "gpu_check.sh: unknown option '$1'; see the head of the script" >&2; exit 2 ;;
  esac
done
none() { echo "gpu_check.sh: $1" >&2; exit 1; }

nvcc=$(PATH="$PATH:/usr/local/cuda/bin" command -v nvcc) ||
  none "there is no nvcc: install the CUDA toolkit (12.8 or later)"
tools=$(dirname "$(readlink -f "$nvcc")")
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1) || true
[[ $capability =~ ^[0-9]+\.[0-9]+$ ]] ||
  none "there is no GPU here: nvidia-smi names none"

if [[ -n $debs ]]; then
  shopt -s nullglob
  files=("$debs"/*.deb)
  ((${#files[@]} > 0)) || none "there is no .deb file in $debs"
  # Not dpkg -x, which replaces a link from /lib to /usr/lib by a folder.
  for file in "${files[@]}"; do
    dpkg-deb --fsys-tarfile "$file" | tar -x --keep-directory-symlink -C /
  done
  ldconfig
fi

budget_s=525 # of 540: what is left when a step begins limits it
bench_s=$((100 + 120 * ${#models[@]})) # kept back for the benchmarks
build=build/release-cuda
logs=$build/gpu_check
mkdir -p "$logs"
rm -f "$logs"/*.log
results=()
failed=0

# step NAME SECONDS KEPT_BACK COMMAND...: runs it for at most SECONDS, and such that KEPT_BACK are
# left. Its outcome goes into the table, its output into a log.
step() {
  local name=$1 limit=$2 kept=$3 log=$logs/${1%%[ ,]*}.log
  shift 3
  local left=$((budget_s - SECONDS - kept)) begin=$SECONDS status=0
  ((left < limit)) && limit=$left
  if ((limit < 5)); then
    results+=("| $name | **not run**: out of time | |")
    failed=1
    return 1
  fi
  timeout -k 5 "$limit" "$@" >"$log" 2>&1 || status=$?
  local outcome=passed
  case $status in
    0) ;;
    77) outcome="**skipped**: $(tail -1 "$log")" ;;
    124 | 137) outcome="**not finished** within $limit s" ;;
    *) outcome="**failed** with $status" ;;
  esac
  results+=("| $name | $outcome | $((SECONDS - begin)) |")
  if ((status != 0)); then
    failed=1
    echo "--- $name: $outcome; the end of $log:"
    tail -100 "$log"
  fi
  return $status
}

report() {
  echo
  echo "| step | outcome | s |"
  echo "|---|---|---|"
  printf '%s\n' "${results[@]}"
  exit $failed
}

# Where the toolkit is not among the loader's folders, its cuBLAS is found so.
toolkit=$(dirname "$tools")
export LD_LIBRARY_PATH=$toolkit/lib64:$toolkit/targets/x86_64-linux/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
[[ -f $toolkit/include/cublas_v2.h || -f $toolkit/targets/x86_64-linux/include/cublas_v2.h ]] ||
  none "$toolkit has no cublas_v2.h: the plugin needs cuBLAS' headers to build"

gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -1)
echo "GPU: $gpu, compute capability $capability; $("$nvcc" --version | tail -1)"
step "configure" 60 $bench_s cmake --preset release-cuda -DHYBRID_TESTS=ON \
  -DHYBRID_NVCC="$nvcc" -DHYBRID_CUDA_ARCHS="${capability/./}-real" || report
step "build" 300 $bench_s cmake --build --preset release-cuda --parallel "$(nproc)" \
  --target hybrid_cuda hybrid-run test_cuda_plugin test_cuda_gpu test_cuda_gpu_models bench_cuda ||
  report
step "plugin" 20 $bench_s "$build/test_cuda_plugin" || true
step "tests" 60 $bench_s "$build/test_cuda_gpu" || true
step "models" 60 $bench_s env HYBRID_PRINT_ACCURACY=1 "$build/test_cuda_gpu_models" || true
grep "tiles .* vectors" "$logs/models.log" || true # how near to the CPU they are
if ! python3 -c 'import ctypes; ctypes.CDLL("libcublas.so.13")' 2>/dev/null &&
  ! python3 -c 'import ctypes; ctypes.CDLL("libcublas.so.12")' 2>/dev/null; then
  results+=("| cuBLAS, -fa 0 | **not run**: there is no libcublas.so.13 or .12 | |")
  failed=1
fi
(($(nvidia-smi --list-gpus | wc -l) > 1)) || echo "one GPU: what wants two was left out"

# memcheck runs all cases. The other tools are slower: racecheck and synccheck leave out those that
# repeat a kernel for every type or size; initcheck leaves out one that copies back what no kernel is
# to write (which it would report). Copies by the plugin are no kernels.
repeated='*of every type*,*rows of any length*,*any number*,gpu:*'
unwritten='*slots sorted by expert*,gpu:*'
sanitizer=$(PATH="$PATH:$tools" command -v compute-sanitizer) || sanitizer=
if [[ -z $sanitizer ]]; then
  results+=("| compute-sanitizer | **not run**: it is not installed | |")
  failed=1
else
  echo "racecheck and synccheck run without the cases $repeated; initcheck without $unwritten"
  # "Not ready" is an answer of each query that waits, and no error: the code looks at all of them.
  check=("$sanitizer" --error-exitcode 1 --print-limit 20 --report-api-errors no --tool)
  step "memcheck, all cases" 120 $bench_s "${check[@]}" memcheck --padding 64 \
    "$build/test_cuda_gpu" || true
  step "memcheck_models" 60 $bench_s "${check[@]}" memcheck "$build/test_cuda_gpu_models" || true
  step "racecheck, some cases" 60 $bench_s "${check[@]}" racecheck \
    "$build/test_cuda_gpu" -tce="$repeated" || true
  step "synccheck, some cases" 40 $bench_s "${check[@]}" synccheck \
    "$build/test_cuda_gpu" -tce="$repeated" || true
  step "initcheck, some cases" 60 $bench_s env HYBRID_CUDA_TEST_UNFILLED=1 "${check[@]}" \
    initcheck "$build/test_cuda_gpu" -tce="$unwritten" || true
fi

for i in "${!models[@]}"; do
  kept=$((100 + 120 * (${#models[@]} - 1 - i)))
  for device in cuda:0 none; do
    if step "model${i}_$device" 60 $kept "$build/hybrid-run" bench -m "${models[i]}" -v \
      --device $device -p 512 -n 32 -r 2; then
      echo
      cat "$logs/model${i}_$device.log"
    fi
  done
done
if step "bench_cuda" 100 0 "$build/bench_cuda"; then
  echo
  cat "$logs/bench_cuda.log"
fi
report
