#!/usr/bin/env bash
# Installs what hybrid-run needs, from Debian's packages (and PyPI for two test tools).
#
#   scripts/setup.sh            what building and testing need
#   scripts/setup.sh --build    only what building needs
#   scripts/setup.sh --all      the format check and the fuzzers, too
#   scripts/setup.sh --list     prints the packages that are missing and installs nothing
set -euo pipefail
cd "$(dirname "$0")/.."

build_packages=(
  g++ cmake ninja-build pkg-config
  libtbb-dev libhwloc-dev libnuma-dev nlohmann-json3-dev
  libfmt-dev libspdlog-dev libpcre2-dev
)
test_packages=(doctest-dev python3 python3-venv)
lint_packages=(clang-format-14 clang-14 libclang-rt-14-dev)

mode=${1:-}
case "$mode" in
  "") packages=("${build_packages[@]}" "${test_packages[@]}") ;;
  --build | --list) packages=("${build_packages[@]}") ;;
  --all) packages=("${build_packages[@]}" "${test_packages[@]}" "${lint_packages[@]}") ;;
  *)
    echo "setup.sh: unknown option '$mode'; see the head of the script" >&2
    exit 2
    ;;
esac

# A tool that is there by another way than its package (a newer CMake, say) is as good.
is_there() {
  case "$1" in
    g++ | cmake | python3) command -v "$1" >/dev/null ;;
    ninja-build) command -v ninja >/dev/null ;;
    pkg-config) command -v pkg-config >/dev/null ;;
    *) dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed' ;;
  esac
}

missing=()
for package in "${packages[@]}"; do
  is_there "$package" || missing+=("$package")
done
if [[ $mode == --list ]]; then
  echo "${missing[*]}"
  exit 0
fi

if ((${#missing[@]} > 0)); then
  as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || {
      echo "setup.sh: run this as root, or install sudo; missing: ${missing[*]}" >&2
      exit 1
    }
    as_root=(sudo)
  fi
  echo "installing: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# The comparison of pre-tokenizers wants Python's regex module and that of configs jsonschema, in an
# environment of their own.
if [[ $mode != --build ]] &&
  ! build/test-python/bin/python3 -c 'import regex, jsonschema' 2>/dev/null; then
  echo "installing: Python's regex and jsonschema modules into build/test-python"
  mkdir -p build
  python3 -m venv build/test-python
  build/test-python/bin/python3 -m pip install --quiet --disable-pip-version-check \
    -r tests/python/requirements.txt
fi
