"""Ingest of 600 symbols at 5,000 messages/s: CPU, memory, lag of the event loop, queues.

Book (depth 100), level3, ticker and trade of 600 symbols are played from a file by another process into the
unmodified `krakenbot run-ingest` with two embedded clusters. The file was recorded from our own exchange, whose
seeded flow makes the frames; a quarter of its L2 books is given 100 levels a side. CPU is that of ingest's process and
its children over wall time; PostgreSQL runs outside of it. The run counts only if both the sender sent and ingest took
4,900 messages/s. REST is served by an exchange that stands still. With KB_BENCH_INGEST_S=600 it is the long run, in
which memory is judged too: its slope from minute two on. With KB_BENCH_PROFILE=FILE ingest runs under cProfile, and
the CPU figure means nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import psycopg
from tests.bench import _frames
from tests.bench._process import exchange_process
from tests.bench._subscriber import SECRET, cpu_seconds
from tests.bench._wire import wire_of

from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.apps.databases import embedded_clusters
from krakenbot.apps.rehearsal import setup
from krakenbot.apps.settings_loader import to_toml

SYMBOLS = _frames.SYMBOLS
RATE_PER_S = 5_040
LEAST_MESSAGES_PER_S = 4_900
MOST_CORES = 0.6
MOST_LAG_MS = 50.0
MOST_QUEUED_GROWTH = 2_000
MOST_MIB_PER_MINUTE = 1.0
WARM_UP_S = 20
SHORT_S = 60
FLAT_AFTER_S = 120
BEGIN_PATIENCE_S = 120


def run() -> dict[str, Any]:
    seconds = int(os.environ.get("KB_BENCH_INGEST_S", str(SHORT_S)))  # noqa: TID251 - of the bench only
    wire = wire_of(_frames.recording(SYMBOLS), RATE_PER_S)
    with tempfile.TemporaryDirectory(prefix="kb-bench-") as name:
        found = anyio.run(_with_clusters, Path(name), wire, seconds)
    return _judged(found, seconds)


async def _with_clusters(folder: Path, wire: Path, seconds: int) -> dict[str, Any]:
    async with embedded_clusters(folder / "postgres") as (ingest, decision):
        return await anyio.to_thread.run_sync(_measured, folder, wire, seconds, ingest, decision)


def _measured(
    folder: Path, wire: Path, seconds: int, ingest: EmbeddedCluster, decision: EmbeddedCluster
) -> dict[str, Any]:
    options = ("--symbols", str(SYMBOLS), "--limits", "off", "--flow", "still")
    with exchange_process(folder, *options) as ready, _sender(folder, wire, WARM_UP_S + seconds + 30) as sent:
        settings = _write_settings(folder, ready, json.loads(sent.read_text())["port"], ingest, decision)
        with _ingest(folder, settings) as process:
            samples = _watch(process, decision.url(Login.OWNER), seconds)
            said = _said(folder / "ingest.log")
    late = [json.loads(line) for line in (folder / "late.jsonl").read_text().splitlines()]
    return {"samples": samples, "late": late, "said": said, "sender": json.loads(sent.read_text())}


@contextmanager
def _sender(folder: Path, wire: Path, seconds: float) -> Iterator[Path]:
    out = folder / "sender.json"
    command = [sys.executable, "-m", "tests.bench._sender", str(wire), str(seconds), str(out)]
    process = subprocess.Popen(command)
    try:
        _wait(out.exists, process, "the sender did not start")
        yield out
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def _ingest(folder: Path, settings: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"CREDENTIALS_DIRECTORY": str(folder / "credentials")}  # noqa: TID251 - handed on
    command = [sys.executable, "-m", "tests.bench._observed", str(folder / "late.jsonl"), "run-ingest"]
    with (folder / "ingest.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--config", str(settings)], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    except Exception:
        print((folder / "ingest.log").read_text()[-2000:], file=sys.stderr)  # noqa: T201 - a command prints
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)


def _write_settings(
    folder: Path, ready: dict[str, Any], port: int, ingest: EmbeddedCluster, decision: EmbeddedCluster
) -> Path:
    setup.write_credentials(
        folder / "credentials",
        {
            "database_url": ingest.url(Login.INGEST),
            "decision_database_url": decision.url(Login.INGEST),
            "ingest_api_key": "reader",
            "ingest_api_secret": SECRET,
        },
    )
    socket = f"ws://127.0.0.1:{port}/v2"
    tree = {
        "process": {"data_dir": str(folder / "data"), "log_format": "json"},
        "venue": {
            "rest_url": ready["rest_url"],
            "ws_public_url": socket,
            "ws_private_url": socket,
            "ws_level3_url": socket,
        },
        "universe": {"l2_limit": SYMBOLS, "l3_limit": SYMBOLS, "quotes": _quotes(ready)},
        "ingest": {"symbols": list(ready["symbols"])},
    }
    path = folder / "settings.toml"
    path.write_text(to_toml(tree))
    return path


def _quotes(ready: dict[str, Any]) -> list[str]:
    return sorted({symbol.partition("/")[2] for symbol in ready["symbols"]})


def _watch(process: subprocess.Popen[bytes], url: str, seconds: int) -> list[dict[str, Any]]:
    """Sample ingest once a second, from the end of the warm-up on: CPU, memory, what it says of itself."""
    samples: list[dict[str, Any]] = []
    with psycopg.connect(url, autocommit=True) as connection:
        _wait(lambda: _is_playing(_status(connection)), process, "the play did not begin")
        began = time.perf_counter()
        due = began + WARM_UP_S
        while due <= began + WARM_UP_S + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            if process.poll() is not None:
                raise RuntimeError("ingest ended")
            samples.append(
                {
                    "at": time.time(),  # noqa: TID251 - a bench of real processes
                    "perf": time.perf_counter(),
                    "cpu_s": sum(map(cpu_seconds, _family(process.pid))),
                    "rss_mib": _rss_mib(process.pid),
                    "status": _status(connection),
                }
            )
            due += 1.0
    return samples


def _status(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    row = connection.execute("SELECT body FROM krakenbot.process_status WHERE process = 'ingest'").fetchone()
    return row[0] if row else {}


def _taken(status: dict[str, Any]) -> int:
    """Return how many market data messages ingest has taken."""
    feed = status["feed"]
    return int(feed["book_ok"] + feed["level3_ok"] + sum(feed["frames"].get(name, 0) for name in ("ticker", "trade")))


def _said(log: Path) -> list[str]:
    """Return what ingest said of epochs that were not valid and of connections that went down."""
    found = []
    for line in log.read_text().splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        match event.get("event"):
            case "epoch" if event["reasons"]:
                found.append(f"{event['timestamp'][11:19]} {event['status']}: {event['reasons']}")
            case "connection_down":
                found.append(f"{event['timestamp'][11:19]} {event['stream']} down: {event['reason']}")
    return found


def _is_playing(status: dict[str, Any]) -> bool:
    """Tell whether more came than the snapshots of all four channels."""
    return bool(status) and _taken(status) > 5 * SYMBOLS


def _family(pid: int) -> list[int]:
    """Return a process and its children."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, path.read_text().split())
    return found


def _rss_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def _wait(condition: Any, process: subprocess.Popen[bytes], what: str) -> None:
    until = time.perf_counter() + BEGIN_PATIENCE_S
    while not condition():
        if process.poll() is not None or time.perf_counter() > until:
            raise RuntimeError(what)
        time.sleep(0.2)


def _judged(found: dict[str, Any], seconds: int) -> dict[str, Any]:
    samples, sender = found["samples"], found["sender"]
    first, last = samples[0], samples[-1]
    took_s = last["perf"] - first["perf"]
    cores = (last["cpu_s"] - first["cpu_s"]) / took_s
    taken = (_taken(last["status"]) - _taken(first["status"])) / took_s
    sent = sender["sent"][WARM_UP_S : WARM_UP_S + seconds]
    late = sorted(ms for line in found["late"] if first["at"] <= line["at_s"] <= last["at"] for ms in line["late_ms"])
    queued = [sample["status"]["sink"]["queued"] for sample in samples]
    third = len(queued) // 3
    growth = max(queued[-third:]) - max(queued[:third])
    flat = samples[FLAT_AFTER_S:] if seconds > 2 * FLAT_AFTER_S else samples[len(samples) // 2 :]
    mib_per_minute = 60 * _slope([(sample["perf"], sample["rss_mib"]) for sample in flat])
    feed, sink = last["status"]["feed"], last["status"]["sink"]
    lag_p99_ms = late[int(0.99 * len(late))]
    # the first ones are made while the symbols are still being subscribed
    epochs = dict(Counter(last["status"]["epochs"]) - Counter(first["status"]["epochs"]))
    verdicts = {
        "rate": min(sum(sent) / len(sent), taken) >= LEAST_MESSAGES_PER_S,
        "cpu": cores <= MOST_CORES,
        "lag": lag_p99_ms < MOST_LAG_MS,
        "queue": growth <= MOST_QUEUED_GROWTH and not sum(sink["dropped"].values()),
        "books": feed["book_bad"] + feed["level3_bad"] + feed["resyncs"] + feed["reconnects"] + sender["again"] == 0,
        "epochs": set(epochs) == {"valid"},
        # a minute is too short to tell growth from filling
        "memory": seconds <= 2 * FLAT_AFTER_S or mib_per_minute <= MOST_MIB_PER_MINUTE,
    }
    return {
        "passed": all(verdicts.values()),
        "failed": ", ".join(name for name, verdict in verdicts.items() if not verdict) or "nothing",
        "cores": round(cores, 3),
        "most_cores": MOST_CORES,
        "us_per_message": round(1e6 * cores / taken, 1),
        "messages_per_s_sent": round(sum(sent) / len(sent)),
        "messages_per_s_taken": round(taken),
        "least_messages_per_s": LEAST_MESSAGES_PER_S,
        "loop_lag_p50_ms": late[len(late) // 2],
        "loop_lag_p99_ms": lag_p99_ms,
        "loop_lag_max_ms": late[-1],
        "rss_mib": round(last["rss_mib"]),
        "rss_mib_per_minute": round(mib_per_minute, 2),
        "rows_queued_most": max(queued),
        "rows_queued_growth": growth,
        "rows_written": sum(sink["rows"].values()),
        "writer_lag_s": round(max(sample["status"]["sink"]["lag_s"] for sample in samples), 2),
        "refresh_s": last["status"]["refresh_s"],
        "epochs": epochs,
        "said": "; ".join(found["said"]),
        "feed_errors": feed["errors"],
        "sender_cores": round(sender["cpu_s"] / len(sender["sent"]), 3),
        "sender_late_most_s": sender["latest_s"],
        "books_of_100_levels": sender["deep_books"],
        "subscribed": sender["subscribed"],
        "subscribed_again": sender["again"],
        "seconds": round(took_s, 1),
    }


def _slope(points: list[tuple[float, float]]) -> float:
    """Return the slope of the line of least squares."""
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x, _ in points)
