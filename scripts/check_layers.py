#!/usr/bin/env python3
"""Checks that each layer (folder) includes only itself and the layers below it.

The public order is base <- numa <- tensor <- {experts, attention} <- placement <- runtime; tests may
include everything. Exits 1 and names every include that points upwards or sideways.
"""

import pathlib
import re
import sys

BELOW = {
    "base": [],
    "numa": ["base"],
    "tensor": ["base", "numa"],
    "experts": ["base", "numa", "tensor"],
    "attention": ["base", "numa", "tensor"],
    "placement": ["base", "numa", "tensor", "experts", "attention"],
    "runtime": ["base", "numa", "tensor", "experts", "attention", "placement"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def wrong_includes(root: pathlib.Path, layer: str):
    """Yields (file, line number, included path, why it is wrong) for one layer."""
    for path in sorted((root / layer).rglob("*")):
        if path.suffix not in SUFFIXES:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(1)
            owner = target.split("/")[0]
            if owner not in BELOW:
                yield path, number, target, "is not in a layer"
            elif not (root / target).exists():
                yield path, number, target, "does not exist"
            elif owner != layer and owner not in BELOW[layer]:
                yield path, number, target, f"lies above {layer}"


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent
    wrong = [found for layer in BELOW for found in wrong_includes(root, layer)]
    for path, number, target, why in wrong:
        print(f'{path.relative_to(root)}:{number}: "{target}" {why}')
    if not wrong:
        print(f"layers hold: {' <- '.join(BELOW)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
