#!/usr/bin/env bash
# Builds the release preset and runs all tests.
#
#   scripts/test.sh [PRESET]      release, asan-ubsan, tsan, ...
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
scripts/setup.sh
cmake --preset "$preset" -DHYBRID_TESTS=ON
cmake --build --preset "$preset"
ctest --preset "$preset"
