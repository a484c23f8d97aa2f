"""Child processes of a rehearsal: read whatever they print, stopped, killed when they do not, none left over."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from krakenbot.apps.rehearsal.children import Child

# `python -m krakenbot CODE` runs the code: the child's command line is the real one, its package is a stand-in.
STAND_IN = "import sys\nexec(sys.argv[1])\n"
IGNORES = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
PARENT = """
import sys, time
from pathlib import Path
from typing import Any
from krakenbot.apps.rehearsal.children import Child
children = [
    Child(f"c{{n}}", [{code!r}], environment={environment!r}, error_file=Path({folder!r}) / f"{{n}}.err",
          on_line=lambda name, line: print(line, flush=True))
    for n in range(2)
]
print("pids", *(child.pid for child in children), "end", flush=True)
time.sleep(60)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    package = tmp_path / "stand_in/krakenbot"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    return {"PYTHONPATH": str(package.parent), "PATH": os.environ["PATH"]}  # noqa: TID251  # handed on


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[[str], tuple[Child, list[str]]]]:
    children: list[Child] = []

    def start(code: str) -> tuple[Child, list[str]]:
        lines: list[str] = []
        child = Child(
            "child",
            [code],
            environment=environment,
            error_file=tmp_path / f"{len(children)}.err",
            on_line=lambda _, line: lines.append(line),
        )
        children.append(child)
        return child, lines

    yield start
    for child in children:
        child.stop(0.0)


def wait_until(is_true: Callable[[], object], timeout_s: float = 10.0) -> None:
    until = time.monotonic() + timeout_s  # noqa: TID251  # real processes take real time
    while not is_true():
        assert time.monotonic() < until, "not in time"  # noqa: TID251
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_lines_come_one_by_one_and_the_exit_status_is_kept(run: Callable[..., Any]) -> None:
    child, lines = run("print('one'); print('two'); sys.stderr.write('oh no\\n'); sys.exit(3)")

    wait_until(lambda: child.exit_code() is not None)

    assert child.stop(1.0) == 3
    assert lines == ["one", "two"]
    assert child.error_tail() == "oh no"


def test_bytes_that_are_no_text_do_not_stop_the_reading(run: Callable[..., Any]) -> None:
    child, lines = run("sys.stdout.buffer.write(b'\\xff\\xfe bad\\n' * 20000 + b'good\\n')")

    wait_until(lambda: child.exit_code() is not None)

    assert child.stop(1.0) == 0
    assert len(lines) == 20001
    assert lines[-1] == "good"


def test_a_child_is_asked_to_end_first(run: Callable[..., Any]) -> None:
    child, lines = run(
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    wait_until(lambda: lines)

    assert child.stop(10.0) == 0
    assert lines == ["up", "bye"]


def test_a_child_that_ignores_the_request_is_killed(run: Callable[..., Any]) -> None:
    child, lines = run(IGNORES)
    wait_until(lambda: lines)

    assert child.stop(0.3) == -signal.SIGKILL
    assert not is_alive(child.pid)


def test_a_signal_to_the_parents_group_does_not_reach_a_child(run: Callable[..., Any]) -> None:
    child, lines = run(SLEEPS)
    wait_until(lambda: lines)

    assert os.getpgid(child.pid) != os.getpgid(0)
    assert child.exit_code() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process ask for a signal when its parent dies")
def test_killing_the_parent_leaves_no_child(
    start: Callable[..., Any], tmp_path: Path, environment: dict[str, str]
) -> None:
    parent = start("-c", PARENT.format(code=SLEEPS, environment=environment, folder=str(tmp_path)))
    parent.wait_for("end")
    words = parent.output.split()
    pids = [int(pid) for pid in words[words.index("pids") + 1 : words.index("end")]]
    wait_until(lambda: parent.output.count("up") == 2)
    alive_before = [is_alive(pid) for pid in pids]

    parent.end(signal.SIGKILL)

    wait_until(lambda: not any(map(is_alive, pids)))
    assert alive_before == [True, True]
