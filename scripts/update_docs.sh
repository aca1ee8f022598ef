#!/usr/bin/env bash
# Writes docs/command-line.md from the program's own help, and configs/schema.json from its options.
set -euo pipefail
cd "$(dirname "$0")/.."
{
  echo "# Command line"
  echo
  echo "What \`hybrid-run --help\` prints; \`hybrid-run COMMAND --help\` tells one command's options."
  echo "stdout carries the result alone; progress and statistics go to stderr. Exit codes: 0 done,"
  echo "1 an error, 2 the command line is wrong, 130 Ctrl-C."
  echo
  echo '```text'
  build/release/hybrid-run --help
  echo '```'
} >docs/command-line.md
build/release/config_schema_dump >configs/schema.json
