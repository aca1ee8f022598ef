#!/usr/bin/env python3
"""What libhybrid_cuda.so shows to others and what it needs of them, by nm and readelf.

    check_cuda_plugin.py libhybrid_cuda.so
"""

import re
import subprocess
import sys

SHOWN = {"hybrid_cuda_api", "hybrid_tensor_cuda_ops", "hybrid_experts_cuda_ops",
         "hybrid_attention_cuda_ops", "hybrid_blas_cuda_ops"}
# Everywhere where the program itself runs. CUDA's runtime is inside, its driver is opened by it, cuBLAS
# by the plugin where it is asked for.
NEEDED = re.compile(r"(libc|libm|libgcc_s|libstdc\+\+|librt|libpthread|libdl|ld-linux[\w-]*)\.so\.\d+")


def lines_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def main() -> int:
    plugin = sys.argv[1]
    shown = {line.split()[-1] for line in lines_of("nm", "-D", "--defined-only", plugin)}
    needed = [match.group(1) for line in lines_of("readelf", "-d", plugin)
              if (match := re.search(r"\(NEEDED\).*\[(.*)\]", line))]
    paths = [line for line in lines_of("readelf", "-d", plugin) if re.search(r"R(UN)?PATH", line)]
    wrong = [f"{name} is shown and should be hidden" for name in sorted(shown - SHOWN)]
    wrong += [f"{name} is not shown" for name in sorted(SHOWN - shown)]
    wrong += [f"{name} is needed" for name in needed if not NEEDED.fullmatch(name)]
    wrong += [f"a path of this machine: {line.strip()}" for line in paths]
    if not needed:
        wrong.append("readelf lists nothing that is needed: not a shared library?")
    for line in wrong:
        print(f"{plugin}: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
