#!/usr/bin/env python3
"""scripts/check_cuda_spills.py with a compiler that says what ptxas -v says."""

import pathlib
import subprocess
import sys
import tempfile

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "check_cuda_spills.py"
REPORT = """a line of the compiler
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{name}' for 'sm_90'
ptxas info    : Function properties for {name}
    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 512 bytes smem
ptxas info    : Function properties for a_device_function
    64 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
"""


def run(name: str, stack: int, stores: int, loads: int, exit_code: int = 0):
    """The script's exit code, what it printed, and the usage it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "x.o"
        text = REPORT.format(name=name, stack=stack, stores=stores, loads=loads)
        compiler = f"import sys; print({text!r}, file=sys.stderr); sys.exit({exit_code})"
        result = subprocess.run([sys.executable, SCRIPT, sys.executable, "-c", compiler, "-o", out],
                                capture_output=True, text=True, check=False)
        usage = pathlib.Path(f"{out}.usage")
        return result.returncode, result.stdout, usage.read_text() if usage.exists() else ""


def main() -> int:
    code, printed, usage = run("good_kernel", 0, 0, 0)
    assert code == 0 and printed == "a line of the compiler\n", printed
    assert usage == "good_kernel sm_90: 40 registers, 512 bytes shared, 0 stack, 0 + 0 spilled\n"
    for stack, stores, loads in [(8, 0, 0), (0, 4, 0), (0, 0, 4)]:
        code, printed, _ = run("bad_kernel", stack, stores, loads)
        assert code == 1 and "bad_kernel: on sm_90 a stack of" in printed, printed
    assert run("rope_table_kernel", 40, 0, 0)[0] == 0
    assert run("good_kernel", 0, 0, 0, exit_code=3)[0] == 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
