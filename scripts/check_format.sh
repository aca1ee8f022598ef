#!/usr/bin/env bash
# Fails where a source file is not formatted as .clang-format says; --fix formats instead.
set -euo pipefail
cd "$(dirname "$0")/.."

clang_format=$(command -v clang-format-14) || {
  echo "check_format.sh: clang-format-14 is missing; scripts/setup.sh --all installs it" >&2
  exit 1
}
mapfile -t files < <(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
if [[ ${1:-} == --fix ]]; then
  "$clang_format" -i "${files[@]}"
else
  "$clang_format" --dry-run --Werror "${files[@]}"
  echo "${#files[@]} files are well formatted"
fi
