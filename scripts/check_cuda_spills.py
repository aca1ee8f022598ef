#!/usr/bin/env python3
"""Runs a compiler and fails where it says that a CUDA kernel spills registers or takes a stack.

    check_cuda_spills.py nvcc -Xptxas=-v ... -o FILE.o

nvcc's output passes through but for what ptxas -v says, which goes to FILE.o.usage: a line for each
kernel and architecture with its registers, shared memory, stack and spills.
"""

import re
import subprocess
import sys

# Kernels that may take a stack, and why.
ALLOWED = {
    "rope_table_kernel": "sin and cos of doubles: for angles beyond 2^31, a few numbers a token",
}

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
PROPERTIES = re.compile(r"Function properties for (\S+)")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def readable(names):
    """Names as C++ has them, where c++filt is there."""
    try:
        text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                              check=True).stdout
        return text.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return list(names)


def kernels_of(lines):
    """Yields (mangled name, architecture, registers, shared bytes, stack, stores, loads)."""
    name = arch = about = None
    frame = (0, 0, 0)
    for line in lines:
        if match := ENTRY.search(line):
            name, arch = match.groups()
            frame = (0, 0, 0)
        elif match := PROPERTIES.search(line):
            about = match.group(1)
        elif match := STACK.search(line):
            if about == name:
                frame = tuple(int(n) for n in match.groups())
        elif (match := USED.search(line)) and name:
            shared = SHARED.search(line)
            yield (name, arch, int(match.group(1)), int(shared.group(1)) if shared else 0, *frame)
            name = None


def main() -> int:
    command = sys.argv[1:]
    if not command:
        print(__doc__)
        return 2
    result = subprocess.run(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
    lines = result.stdout.splitlines()
    ptxas = re.compile(r"^ptxas info|bytes stack frame|^\s*$")
    for line in lines:
        if not ptxas.search(line):
            print(line)
    if result.returncode != 0 or "-o" not in command:
        return result.returncode
    kernels = list(kernels_of(lines))
    names = readable([kernel[0] for kernel in kernels])
    wrong = 0
    with open(command[command.index("-o") + 1] + ".usage", "w") as usage:
        for name, (_, arch, registers, shared, stack, stores, loads) in zip(names, kernels):
            usage.write(f"{name} {arch}: {registers} registers, {shared} bytes shared, {stack} stack, "
                        f"{stores} + {loads} spilled\n")
            if stack + stores + loads > 0 and not any(kernel in name for kernel in ALLOWED):
                print(f"{name}: on {arch} a stack of {stack} bytes, {stores} bytes of registers "
                      f"stored and {loads} loaded again; kernels keep all in registers")
                wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
