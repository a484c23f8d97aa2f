"""The planted mistakes against the source as it is, and how they are planted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mutants.__main__ import BEGIN, END, HEAD, Outcome, page
from tests.mutants.mistake import Edit, Mistake, StaleMistake, plant
from tests.mutants.mistakes import MISTAKES

ROOT = Path(__file__).parents[3]


def copied(mistake: Mistake, to: Path) -> Path:
    for edit in mistake.edits:
        path = Path("src", "krakenbot", edit.path)
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, to / path)
    return to


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name.replace(" ", "_"))
def test_mistake_still_finds_its_lines_and_has_tests(mistake, tmp_path):
    before = plant(mistake, copied(mistake, tmp_path))

    assert len({edit.path for edit in mistake.edits}) == len(before)
    assert all(path.read_text() != text for path, text in before.items())
    assert mistake.tests
    assert all((ROOT / path).exists() for path in mistake.tests)


def test_mistakes_name_nothing_that_is_not_there(tmp_path):
    """A mistake that ends in a NameError would be noticed by any test that comes by."""
    for mistake in MISTAKES:
        plant(mistake, copied(mistake, tmp_path / mistake.name.replace(" ", "_")))
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--isolated",
        "--select",
        "F821",
        "--output-format",
        "concise",
        ".",
    ]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (0, "All checks passed!") == (found.returncode, found.stdout.strip())


def test_names_of_mistakes_are_unique():
    assert len(MISTAKES) == len({mistake.name for mistake in MISTAKES})


@pytest.mark.parametrize(
    ("old", "new"), [("nowhere", "x"), ("1\n", "2\n"), ("a = 1\n", "a = 1\n"), ("a = 1\n", "a = = 1\n")]
)
def test_mistake_that_no_longer_fits_is_told(old, new, tmp_path):
    source = tmp_path / "src" / "krakenbot" / "some.py"
    source.parent.mkdir(parents=True)
    source.write_text("a = 1\nb = 1\n")
    mistake = Mistake(name="m", breaks="b", edits=(Edit(path="some.py", old=old, new=new),), tests=())

    with pytest.raises(StaleMistake):
        plant(mistake, tmp_path)
    assert "a = 1\nb = 1\n" == source.read_text()


def test_page_takes_new_rows_and_keeps_the_others():
    first, second = MISTAKES[0].name, MISTAKES[1].name
    old = f"above\n{BEGIN}\n\n{HEAD}| {second} | b | `t` |\n| gone | b | `t` |\n\n{END}\nbelow"
    missed = Outcome(mistake=first, breaks="b", noticed_by=None, tests=())

    found = page(old, [missed])

    assert f"{HEAD}| {first} | b | **nothing** |\n| {second} | b | `t` |\n\n{END}\nbelow" in found
    assert "gone" not in found
