"""Scripts from a file and over the control port, and the same fault log for the same seed."""

from __future__ import annotations

import io
import signal
import subprocess
import sys

import pytest

from krakenbot.adapters.local_exchange.venue_clock import SteppedClock

pytestmark = pytest.mark.anyio
START_NS = 1_790_000_000 * 10**9
SCRIPT = """
with probability 0.2: lose book.update
with probability 0.3: duplicate trade
every 2 s at book.update: corrupt checksum
at executions.filled: lose
"""


async def test_rules_are_added_listed_and_removed(client):
    added = await client.control("POST", "faults", b"at trade: lose\n# a comment\non 2nd pong: lose")
    ids = added.json()["ids"]
    async with client.socket("public") as socket:
        for _ in range(3):
            await socket.send("ping")
        for _ in range(2):
            await socket.ack("pong")
    report = (await client.control("GET", "faults")).json()
    rules = {rule["id"]: rule for rule in report["rules"]}
    one = await client.control("DELETE", f"faults/{ids[0]}")
    again = await client.control("DELETE", f"faults/{ids[0]}")
    rest = await client.control("DELETE", "faults")

    assert [(0, 0, True), (3, 1, False)] == [tuple(rules[i][k] for k in ("seen", "hits", "never_hit")) for i in ids]
    assert ("on 2nd pong: lose", 3, "control port") == tuple(rules[ids[1]][k] for k in ("rule", "line", "source"))
    assert (ids[1], "public.pong") == (report["log"][-1]["rule_id"], report["log"][-1]["place"])
    assert (200, 404, {"removed": 1}) == (one.status_code, again.status_code, rest.json())
    assert {"error": f"no rule {ids[0]}; the rules are {ids[1]}"} == again.json()


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"at book: lose\nat bok: lose", 400, "line 2, column 4"),
        (b"at book: lose\nat bok: lose", 400, "did you mean 'book'?"),
        (b"at 1 s: cancel order of nobody", 400, "the exchange has no account 'nobody'"),
        (b"\xff\xfe", 400, "UTF-8"),
        (b"#" * (1 << 21), 413, "too long"),
    ],
)
async def test_a_bad_script_is_refused_and_adds_nothing(client, content, status, words):
    answer = await client.control("POST", "faults", content)

    assert status == answer.status_code
    assert words in answer.json()["error"]
    assert [] == (await client.faults())["rules"]


async def play(run_exchange, script, seed=5):
    """Play the same requests on stepped time; return the fault log, what a reader got, and the record of truth."""
    record = io.BytesIO()
    async with run_exchange(seed, SteppedClock(START_NS), record) as client:
        if script:
            await client.script(script)
        async with (
            client.socket("public", "book", "trade") as public,
            client.socket("private", "executions") as private,
        ):
            for _ in range(2):
                await public.ack("subscribe")
            await private.data("executions", "snapshot")
            for number in range(5):
                await private.send("add_order", **client.market_order(cl_ord_id=f"d-{number}"))
                await private.send("ping")
                await private.ack("pong")
                await client.control("POST", "advance", b'{"seconds": 1}')
            await public.send("ping")
            await public.ack("pong")
        log = (await client.faults())["log"]
    return log, [text for text in public.texts if "pong" not in text and "connection_id" not in text], record.getvalue()


async def test_same_seed_script_and_requests_give_the_same_fault_log(run_exchange):
    first = await play(run_exchange, SCRIPT)
    second = await play(run_exchange, SCRIPT)
    other = await play(run_exchange, SCRIPT, seed=6)

    assert len(first[0]) > 10
    assert first[0] == second[0]
    assert first[2] == second[2]
    assert first[0] != other[0]


async def test_faults_of_frames_leave_the_record_of_truth_as_it_is(run_exchange):
    _, texts, record = await play(run_exchange, SCRIPT)
    log, all_texts, untouched = await play(run_exchange, "")

    assert [] == log
    assert texts != all_texts
    assert record == untouched
    assert record.count(b'"kind":"filled"') == 5


def exchange(script):
    command = [sys.executable, "-m", "krakenbot", "exchange", "--symbols", "2", "--faults", str(script)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_file_is_played_and_its_rules_are_listed_in_the_end(tmp_path):
    script = tmp_path / "faults.txt"
    script.write_text("after 1 ms: mode post_only\nat trade: lose  # nobody reads\n")
    process = exchange(script)
    for line in process.stdout:
        if line.startswith("local exchange"):
            break
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=10)

    assert (0, "") == (process.returncode, errors)
    assert [
        f"fault 1, {script} line 1: after 1 ms: mode post_only -- hit 1 times",
        f"fault 2, {script} line 2: at trade: lose -- never hit",
    ] == output.splitlines()[-2:]
    assert "local exchange: ends, as SIGTERM came" == output.splitlines()[-3]


def test_a_bad_file_ends_the_command_with_its_place(tmp_path):
    script = tmp_path / "faults.txt"
    script.write_text("at trade: loose\n")
    output, errors = exchange(script).communicate(timeout=10)

    assert "" == output
    assert f"exchange: {script}: line 1, column 11: expected an action, not 'loose'; did you mean 'lose'?" in errors
