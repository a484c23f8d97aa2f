"""`./kb mutants [--only TEXT ...] [--report FILE] [--docs]`: plant mistakes, one at a time, and see the tests fail.

Each is planted in a copy of the checkout, never in the checkout itself. First all the tests must pass in the copy as
it is. `--report` writes JSON, `--docs` the table of docs/mutants.md; rows of mistakes that were left out stay. Exits
with 1 when a mistake was not noticed, with 2 when the run itself could not go on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from attrs import asdict, frozen
from tests.mutants.mistake import Mistake, StaleMistake, plant
from tests.mutants.mistakes import MISTAKES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "mutants.md"
COPIED = ("src", "tests", "docs", "scripts", "pyproject.toml", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "kb")
HEAD = "| mistake | what it breaks | noticed by |\n|---|---|---|\n"
BEGIN, END = "<!-- table of `./kb mutants`: begin -->", "<!-- end of mutants -->"
MOST_S = 300


@frozen(kw_only=True)
class Outcome:
    """What became of one mistake; `noticed_by` is the first test that failed, None when all passed."""

    mistake: str
    breaks: str
    noticed_by: str | None
    tests: tuple[str, ...]


class CannotRun(Exception):
    """The copy does not run as the checkout does."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="kb mutants", description="Plant mistakes and see the tests fail.")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="mistakes whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="print the names of the mistakes")
    parser.add_argument("--report", type=Path, help="write the results as JSON")
    parser.add_argument("--docs", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    mistakes = [m for m in MISTAKES if arguments.only is None or any(text in m.name for text in arguments.only)]
    if arguments.list:
        _print("\n".join(mistake.name for mistake in mistakes))
        return 0
    if not mistakes:
        parser.error(f"--only {' '.join(arguments.only)}: no such mistake; --list names them")
    if arguments.report and not arguments.report.absolute().parent.is_dir():
        parser.error(f"--report {arguments.report}: its folder must exist")
    with tempfile.TemporaryDirectory(prefix="kb-mutants-") as name:
        try:
            outcomes = _plant_all(mistakes, Path(name))
        except (CannotRun, StaleMistake) as error:
            sys.stderr.write(f"kb mutants: {error}\n")
            return 2
    missed = [outcome.mistake for outcome in outcomes if outcome.noticed_by is None]
    _print(f"{len(outcomes) - len(missed)} of {len(outcomes)} noticed")
    if arguments.report:
        found = {"passed": not missed, "mistakes": [asdict(outcome) for outcome in outcomes]}
        arguments.report.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if arguments.docs:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), outcomes), encoding="utf-8")
    return 1 if missed else 0


def _plant_all(mistakes: list[Mistake], copy: Path) -> list[Outcome]:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    _check_that_the_copy_runs(copy)
    tests = sorted({path for mistake in mistakes for path in mistake.tests})
    code, found = _test(copy, tests)
    if code != 0:
        raise CannotRun(f"without a mistake a test fails already: {found}")
    outcomes = []
    for mistake in mistakes:
        before = plant(mistake, copy)
        code, found = _test(copy, mistake.tests)
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")
        if code not in {0, 1} or (code == 1 and found is None):
            raise CannotRun(f"{mistake.name}: pytest ended with {code}, which says nothing of the mistake")
        outcomes.append(Outcome(mistake=mistake.name, breaks=mistake.breaks, noticed_by=found, tests=mistake.tests))
        _print(f"{'ok  ' if found else 'MISS'} {mistake.name}: {found or 'all tests passed'}")
    return outcomes


def _check_that_the_copy_runs(copy: Path) -> None:
    asked = [sys.executable, "-c", "import krakenbot; print(krakenbot.__file__)"]
    told = subprocess.run(asked, cwd=copy, env=_environment(copy), capture_output=True, text=True, check=True)
    if not told.stdout.startswith(str(copy)):
        raise CannotRun(f"the copy imports krakenbot from {told.stdout.strip()}")


def _test(copy: Path, tests: list[str] | tuple[str, ...]) -> tuple[int, str | None]:
    """Run tests until one fails; return pytest's exit code and the name of what failed."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        "-rfE",
        *tests,
    ]
    try:
        told = subprocess.run(
            command, cwd=copy, env=_environment(copy), capture_output=True, text=True, check=False, timeout=MOST_S
        )
    except subprocess.TimeoutExpired:
        return 2, None
    found = re.search(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", told.stdout, re.MULTILINE)
    return told.returncode, found[1] if found else None


def _environment(copy: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}  # noqa: TID251
    recordings = ROOT.parent / "shared" / "kraken"
    return {"KRAKENBOT_RECORDINGS": str(recordings)} | kept | {"PYTHONPATH": str(copy / "src")}


def page(text: str, outcomes: list[Outcome]) -> str:
    """Return the page with new rows for what was planted; rows of other mistakes stay, those of unknown ones go."""
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in old.splitlines() if line.startswith("| ")}
    for outcome in outcomes:
        noticed = f"`{outcome.noticed_by.split('::', 1)[-1].split('[')[0]}`" if outcome.noticed_by else "**nothing**"
        rows[outcome.mistake] = f"| {outcome.mistake} | {outcome.breaks} | {noticed} |"
    table = "\n".join(rows[mistake.name] for mistake in MISTAKES if mistake.name in rows)
    return f"{before}{BEGIN}\n\n{HEAD}{table}\n\n{END}{after}"


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a command prints


if __name__ == "__main__":
    sys.exit(main())
