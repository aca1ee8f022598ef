#!/usr/bin/env python3
"""Checks that wide instructions stay where they belong.

    check_isa.py BUILD_FOLDER

1. An object file that is not named *_<level>.cpp.o uses no vector register wider than 128 bits.
2. An object file of a level defines no weak function unless its name carries the level: the linker
   keeps one copy of a weak function for the whole program and might keep that of the widest level.

Exits 1 and names what it found.
"""

import pathlib
import re
import subprocess
import sys

LEVELS = ("avx2", "avx512_vnni", "amx")
WIDE = re.compile(r"%[yz]mm\d|\btile(loadd|stored|zero)\b")


def level_of(path: pathlib.Path):
    return next((level for level in LEVELS if path.name.endswith(f"_{level}.cpp.o")), None)


def wide_functions(path: pathlib.Path):
    """The functions of an object that touch a wide register."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path],
                          capture_output=True, text=True, check=True).stdout
    function, found = "?", []
    for line in text.splitlines():
        if line.endswith(">:"):
            function = line.split("<", 1)[1][:-2]
        elif WIDE.search(line) and function not in found:
            found.append(function)
    return found


def leaking_symbols(path: pathlib.Path, level: str):
    """Weak definitions whose name does not say the level."""
    text = subprocess.run(["nm", "--defined-only", path],
                          capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1] for line in text.splitlines() if line.split()[-2] == "W"]
    return [name for name in names if level not in name and not is_level_template(name)]


def is_level_template(name: str) -> bool:
    """A template instantiated for SimdLevel values has them in its mangled name."""
    return "SimdLevelE" in name


def main() -> int:
    build = pathlib.Path(sys.argv[1])
    # The program's own objects; tests are compiled by the same rules but ship with nobody.
    objects = sorted(p for p in build.glob("CMakeFiles/**/*.o"))
    if not objects:
        sys.exit(f"check_isa.py: no object files in {build}")
    n_wrong = n_level = 0
    for path in objects:
        level = level_of(path)
        n_level += level is not None
        wrong = leaking_symbols(path, level) if level else wide_functions(path)
        for name in wrong:
            kind = "weak function of a wide level" if level else "wide registers"
            print(f"{path.relative_to(build)}: {kind}: {name}")
        n_wrong += len(wrong)
    print(f"{len(objects)} object files, {n_level} of a wide level, {n_wrong} leaks")
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
