"""`./kb bench [VERB ...] [--report FILE] [--docs]`: run the benchmarks, print them, write them down.

`--report` writes JSON, `--docs` writes the sections of the verbs that ran into docs/performance.md. Every module of
this folder is a verb; it has `run() -> dict` with a boolean `passed`. Exits with 1 when one failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
HEAD = """# Performance

Written by `./kb bench --docs`. Rates are of one machine and drift with it; the ratios were measured in turns in the
same run and are what to compare.
"""
VERBS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="kb bench", description="Measure what the project promises.")
    parser.add_argument("verbs", nargs="*", metavar="VERB", help=f"one of {', '.join(VERBS)}; all when left out")
    parser.add_argument("--report", type=Path, help="write the results as JSON")
    parser.add_argument("--docs", action="store_true", help=f"write {PAGE.name}")
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
    if arguments.docs:
        PAGE.write_text(page(PAGE.read_text() if PAGE.exists() else "", report))
    return 0 if all(result["passed"] for result in report.values()) else 1


def page(text: str, report: dict[str, dict[str, object]]) -> str:
    """Return the page with new sections for what ran; sections of verbs that did not run stay as they are."""
    old = {part.split("\n", 1)[0]: f"\n## {part}" for part in text.split("\n## ")[1:]}
    sections = {verb: old[verb].rstrip("\n") + "\n" for verb in VERBS if verb in old}
    sections |= {verb: table(verb, result) for verb, result in report.items()}
    return HEAD + "".join(sections[verb] for verb in sorted(sections))


def table(verb: str, result: dict[str, object]) -> str:
    """Return one benchmark as a section of the page, with the first lines of its module."""
    text = (importlib.import_module(f"tests.bench.{verb}").__doc__ or "").strip()
    rows = "".join(f"| {name} | {value} |\n" for name, value in result.items())
    return f"\n## {verb}\n\n{text}\n\n| figure | value |\n|---|---|\n{rows}"


if __name__ == "__main__":
    sys.exit(main())
