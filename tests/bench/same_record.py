"""The same seed and the same requests give the same record of truth, byte for byte.

Two processes with stepped time play the same script of a client: orders that rest, cross, are amended and cancelled
over REST, with seconds of market between them. A third process with another seed must differ, or the comparison
would say nothing.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import urllib.request
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.bench._process import exchange_process
from tests.bench._subscriber import call

START_AT = "2026-11-22T10:00:00Z"
SYMBOLS = 20
STEPS = 60


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="kb-bench-") as name:
        records = [record_of(Path(name, str(number)), seed) for number, seed in enumerate((5, 5, 6))]
    hashes = [hashlib.sha256(record).hexdigest() for record in records]
    kinds = Counter(json.loads(line)["kind"] for line in records[0].splitlines())
    enough = all(kinds[kind] >= 10 for kind in ("accepted", "traded", "paid", "amended", "cancelled"))
    return {
        "passed": hashes[0] == hashes[1] and hashes[0] != hashes[2] and enough,
        "same_seed_same_bytes": hashes[0] == hashes[1],
        "other_seed_other_bytes": hashes[0] != hashes[2],
        "bytes": len(records[0]),
        "lines_by_kind": dict(sorted(kinds.items())),
        "sha256": hashes[0][:16],
    }


def record_of(folder: Path, seed: int) -> bytes:
    """Return the record of one process that was sent the script."""
    folder.mkdir()
    record = folder / "record.jsonl"
    time = ("--time", "stepped", "--start-at", START_AT, "--limits", "off")
    with exchange_process(
        folder, "--symbols", str(SYMBOLS), "--seed", str(seed), "--record", str(record), *time
    ) as ready:
        play(ready)
    return record.read_bytes()


def play(ready: dict[str, Any]) -> None:
    """Send the script: what is sent follows from the market alone, and so from the seed."""
    url = ready["rest_url"]
    pairs = [(name, rules) for name, rules in get(url, "AssetPairs").items() if rules["wsname"].endswith("/USD")]
    for step in range(STEPS):
        advance(url, 0.75)
        name, rules = pairs[step % len(pairs)]
        (book,) = get(url, f"Depth?pair={name}&count=1").values()
        bid, tick = Decimal(book["bids"][0][0]), Decimal(rules["tick_size"])
        volume = max(Decimal(rules["ordermin"]), Decimal(40) / bid).quantize(Decimal(1).scaleb(-rules["lot_decimals"]))
        order = {"pair": name, "type": "buy", "volume": str(volume)}
        match step % 3:
            case 0:
                call(url, "AddOrder", ordertype="market", **order)
            case 1:
                added = call(url, "AddOrder", ordertype="limit", price=str(bid - 3 * tick), **order)
                call(url, "AmendOrder", txid=added["txid"][0], order_qty=str(2 * volume))
            case _:
                far = bid * 9 / 10 // tick * tick  # out of every taker's reach meanwhile
                added = call(url, "AddOrder", ordertype="limit", price=str(far), **order)
                advance(url, 0.4)
                call(url, "CancelOrder", txid=added["txid"][0])


def get(url: str, path: str) -> Any:
    """Call a public REST endpoint."""
    return json.loads(ask(f"{url}/0/public/{path}"))["result"]


def advance(url: str, seconds: float) -> None:
    """Let the venue's time pass."""
    ask(f"{url}/control/advance", json.dumps({"seconds": seconds}).encode())


def ask(url: str, body: bytes | None = None) -> bytes:
    """Send one request to the loopback port."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, body), timeout=30) as answer:  # noqa: S310 - loopback
        content: bytes = answer.read()
    return content
