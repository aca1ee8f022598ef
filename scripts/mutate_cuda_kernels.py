#!/usr/bin/env python3
"""Takes each barrier and each step of asynchronous copies out of the CUDA kernels, one at a time, and
fails where the tests on the host do not notice.

    scripts/mutate_cuda_kernels.py [BUILD] [NAME]    build/release; only kernels of files with NAME

Needs a build of test_cuda_host. Takes some ten seconds for each of them, so CI does not run it.
"""

import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEP = re.compile(r"__syncthreads\(\);|__syncwarp\(\);|wait_copies<\d>\(\);|commit_copies\(\);")


def compile_command(build: pathlib.Path, header: pathlib.Path):
    """How the tests compile a source that includes the header."""
    include = f'#include "{header.relative_to(ROOT)}"'
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = pathlib.Path(entry["file"])
        if source.suffix == ".cu" and "cuda_host" in entry["command"] and include in source.read_text():
            return shlex.split(entry["command"])
    raise SystemExit(f"no source in {build} includes {header}: is test_cuda_host built?")


def link_command(build: pathlib.Path):
    commands = subprocess.run(["ninja", "-C", build, "-t", "commands", "test_cuda_host"],
                              capture_output=True, text=True, check=True).stdout
    last = commands.strip().splitlines()[-1].removeprefix(": && ").removesuffix(" && :")
    return shlex.split(last)


def tests_notice(build: pathlib.Path, header: pathlib.Path, text: str) -> bool:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        changed = folder / header.relative_to(ROOT)
        changed.parent.mkdir()
        changed.write_text(text)
        command = compile_command(build, header)
        command[command.index("-o") + 1] = str(folder / "mutant.o")
        command.insert(next(i for i, word in enumerate(command) if word.startswith("-I")), f"-I{folder}")
        subprocess.run(command, cwd=build, check=True)
        link = link_command(build)
        at = link.index("-o")
        link[at:at + 2] = [str(folder / "mutant.o"), "-o", str(folder / "test")]
        subprocess.run(link, cwd=build, check=True)
        return subprocess.run([folder / "test"], capture_output=True, check=False).returncode != 0


def main() -> int:
    build = ROOT / (sys.argv[1] if len(sys.argv) > 1 else "build/release")
    name = sys.argv[2] if len(sys.argv) > 2 else ""
    n_steps = n_missed = 0
    for header in sorted(ROOT.glob("*/*_cuda.cuh")):
        if name not in header.name:
            continue
        text = header.read_text()
        for match in STEP.finditer(text):
            without = text[:match.start()] + ";" + text[match.end():]
            n_steps += 1
            noticed = tests_notice(build, header, without)
            n_missed += not noticed
            line = text[:match.start()].count("\n") + 1
            print(f"{header.relative_to(ROOT)}:{line}: {match.group()} "
                  f"{'is missed when it is gone' if noticed else 'NOBODY MISSES IT'}", flush=True)
    print(f"{n_steps} steps, of which {n_missed} are not missed")
    return 1 if n_missed or not n_steps else 0


if __name__ == "__main__":
    sys.exit(main())
