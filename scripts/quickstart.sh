#!/usr/bin/env bash
# From a fresh clone to text: installs what is missing, builds, runs the model that ships with the
# project. Run again, it goes straight to the text.
#
#   scripts/quickstart.sh [PROMPT]
set -euo pipefail
cd "$(dirname "$0")/.."

prompt=${1:-And it came to pass, when the king heard these words, that he}

missing=$(scripts/setup.sh --list)
if [[ -n $missing ]]; then
  echo "Will install these Debian packages (about 1 minute): $missing" >&2
  scripts/setup.sh --build >&2
fi

if [[ ! -x build/release/hybrid-run ]]; then
  echo "Will build hybrid-run into build/release (some minutes on 2 cores)." >&2
  cmake --preset release -DHYBRID_TESTS=OFF >build-quickstart.log 2>&1 &&
    cmake --build --preset release --target hybrid-run >>build-quickstart.log 2>&1 || {
    tail -n 30 build-quickstart.log >&2
    echo "quickstart.sh: the build failed; the whole log is in build-quickstart.log" >&2
    exit 1
  }
  rm -f build-quickstart.log
fi

echo "Prompt: $prompt" >&2
exec build/release/hybrid-run run --demo -p "$prompt" -n 120
