#!/usr/bin/env python3
"""Checks that the schemas in configs/ agree with what the program takes.

The sample files must be valid, and of the bad ones in tests/placement/bad_configs all must be refused
but those whose fault no schema can express. Exits 77 where `jsonschema` is not installed.
"""

import json
import pathlib
import re
import sys

try:
    import jsonschema
except ImportError:
    print("skipped: the Python module `jsonschema` is not installed")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BAD_CONFIGS = ROOT / "tests" / "placement" / "bad_configs"
# Keys that stand twice, expressions, sums and orders of numbers, what is known of several values.
BEYOND_SCHEMAS = re.compile(
    "json_|(machine_)?twice|regex_|option_zero_byte|rule_two_in_one"
    "|rule_experts_(backwards|huge)|device_twice|budget_(fraction_of_bytes|tiny)"
    "|machine_(not_json|nodes_sum|node_rates_count|fewer_cores)"
)


def validator(name: str):
    schema = json.loads((ROOT / "configs" / name).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def read_commented(path: pathlib.Path):
    """JSON with comments on lines of their own, as the samples have them."""
    lines = path.read_text().splitlines()
    return json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))


def main() -> int:
    config, machine = validator("schema.json"), validator("machine.schema.json")
    wrong = []
    samples = [(path, config) for path in (ROOT / "configs").glob("*.json") if "schema" not in path.name]
    samples += [(path, machine) for path in (ROOT / "configs" / "machines").glob("*.json")]
    for path, schema in samples:
        wrong += [f"{path.name}: {e.message}" for e in schema.iter_errors(read_commented(path))]
    n_refused = 0
    for path in sorted(BAD_CONFIGS.glob("*.json")):
        if BEYOND_SCHEMAS.match(path.stem):
            continue
        schema = machine if path.stem.startswith("machine_") else config
        if schema.is_valid(json.loads(path.read_text())):
            wrong.append(f"{path.name} is valid, but the program refuses it")
        n_refused += 1
    print("\n".join(wrong) or f"{len(samples)} samples are valid, {n_refused} bad files are not")
    return 1 if wrong or not samples or not n_refused else 0


if __name__ == "__main__":
    sys.exit(main())
