"""`./kb bench [VERB ...] [--report FILE]`: run the benchmarks, print them, write one JSON report.

Every module of this folder is a verb; it has `run() -> dict` with a boolean `passed`. Exits with 1 when one failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

VERBS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="kb bench", description="Measure what the project promises.")
    parser.add_argument("verbs", nargs="*", metavar="VERB", help=f"one of {', '.join(VERBS)}; all when left out")
    parser.add_argument("--report", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    unknown = set(arguments.verbs).difference(VERBS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; allowed: {', '.join(VERBS)}")
    if arguments.report and not arguments.report.absolute().parent.is_dir():
        parser.error(f"--report {arguments.report}: its folder must exist")
    report = {}
    for verb in arguments.verbs or VERBS:
        report[verb] = result = importlib.import_module(f"tests.bench.{verb}").run()
        print(f"{verb}: {'passed' if result['passed'] else 'FAILED'}")  # noqa: T201 - a command prints
        for name, value in result.items():
            print(f"  {name}: {value}")  # noqa: T201
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(result["passed"] for result in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
