"""What proves that another process has ended, and what does not."""

from __future__ import annotations

import signal
import subprocess
import sys

from krakenbot.adapters.postgres.process_mark import has_ended, own_mark

MARK = (
    "import sys; from krakenbot.adapters.postgres.process_mark import own_mark; print(own_mark(), flush=True); input()"
)


def parts() -> list[str]:
    mark = own_mark()
    assert mark is not None
    return mark.split("/")


def test_process_has_ended_only_once_it_has_even_when_it_is_stopped() -> None:
    command = [sys.executable, "-c", MARK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        mark = child.stdout.readline().strip()
        alive = has_ended(mark)
        child.send_signal(signal.SIGSTOP)
        stopped = has_ended(mark)
        child.kill()
        child.wait(10)

        assert (False, False, True) == (alive, stopped, has_ended(mark))


def test_pid_that_was_given_out_again_is_another_process() -> None:
    assert has_ended("/".join([*parts()[:-1], "1"]))


def test_process_of_another_boot_or_namespace_is_not_judged() -> None:
    boot, place, _, start = parts()

    assert not has_ended(f"other/{place}/999999999/{start}")
    assert not has_ended(f"{boot}/pid:[1],time:[1]/999999999/{start}")
    assert has_ended(f"{boot}/{place}/999999999/{start}")


def test_what_is_no_mark_proves_nothing() -> None:
    boot, place, *_ = parts()

    assert not any(map(has_ended, (None, "", "/", "1", f"{boot}/{place}", f"{boot}/{place}/x/1", f"{boot}/{place}//1")))
