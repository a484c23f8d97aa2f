"""Subscribers in a process of their own: `python -m tests.bench._subscriber READY_FILE WARM_UP_S SECONDS`.

Each reads all symbols: book, ticker and trade on one connection, level3 on others with 200 symbols each. Frames are
counted by their headers, so that the subscribers leave the machine to the exchange. Prints JSON: what each got in
the measured time, and the CPU seconds that the exchange's process used meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import struct
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

SUBSCRIBERS = 2
NAMES = {b"book": "book", b"leve": "level3", b"tick": "ticker", b"trad": "trade", b"hear": "heartbeat"}
LEVEL3_SYMBOLS = 200
SECRET = base64.b64encode(b"a secret of the bench").decode()
ACCOUNTS = [{"name": "reader", "keys": [{"api_key": "reader", "api_secret": SECRET}], "balances": {"USD": "1000000"}}]


class Client(asyncio.Protocol):
    """A WebSocket client that counts messages by channel."""

    def __init__(self, host: str, path: str) -> None:
        self.counts: Counter[bytes] = Counter()
        self.is_open = asyncio.Event()
        self._buffer = bytearray()
        self._host, self._path = host, path
        self._transport: Any = None
        self.is_lost = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if not self.is_open.is_set():
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(bytes(buffer[:end]).decode())
            del buffer[: end + 4]
            self.is_open.set()
        at, length, counts = 0, len(buffer), self.counts
        while at + 2 <= length:
            size, head = buffer[at + 1], 2
            if size == 126:
                head = 4
                if at + 4 > length:
                    break
                size = buffer[at + 2] << 8 | buffer[at + 3]
            elif size == 127:
                head = 10
                if at + 10 > length:
                    break
                size = int.from_bytes(buffer[at + 2 : at + 10], "big")
            if at + head + size > length:
                break
            counts[bytes(buffer[at + head + 12 : at + head + 16])] += 1
            at += head + size
        del buffer[:at]

    def send(self, message: dict[str, Any]) -> None:
        """Send one masked text frame; the mask is zero."""
        content = json.dumps(message).encode()
        head = struct.pack("!BBH", 0x81, 0x80 | 126, len(content))
        self._transport.write(head + bytes(4) + content)


def call(rest_url: str, name: str, **params: str) -> Any:
    """Call a private REST endpoint."""
    params = {"nonce": str(time.time_ns())} | params
    body, path = urllib.parse.urlencode(params), f"/0/private/{name}"
    digest = hashlib.sha256((params["nonce"] + body).encode()).digest()
    signature = hmac.new(base64.b64decode(SECRET), path.encode() + digest, hashlib.sha512).digest()
    headers = {"API-Key": "reader", "API-Sign": base64.b64encode(signature).decode()}
    request = urllib.request.Request(rest_url + path, body.encode(), headers)  # noqa: S310 - loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        document = json.load(answer)
    if document["error"]:
        raise RuntimeError(document["error"])
    return document["result"]


async def open_client(ready: dict[str, Any], path: str) -> Client:
    """Return a client that is connected."""
    host = ready["host"]
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(host, path), host, ready["port"])
    async with asyncio.timeout(30):
        await client.is_open.wait()
    return client


async def subscribe(ready: dict[str, Any], token: str) -> list[Client]:
    """Return one subscriber's connections, subscribed to everything."""
    symbols = ready["symbols"]
    public = await open_client(ready, "/public/v2")
    for channel, extra in (("book", {"depth": 10}), ("ticker", {}), ("trade", {})):
        for start in range(0, len(symbols), 100):
            params = {"channel": channel, "symbol": symbols[start : start + 100], **extra}
            public.send({"method": "subscribe", "params": params})
    parts = [symbols[start : start + LEVEL3_SYMBOLS] for start in range(0, len(symbols), LEVEL3_SYMBOLS)]
    clients = [await open_client(ready, "/level3/v2") for _ in parts]
    for client, part in zip(clients, parts, strict=True):
        client.send({"method": "subscribe", "params": {"channel": "level3", "token": token, "symbol": part}})
    return [public, *clients]


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def totals(subscribers: list[list[Client]]) -> list[Counter[bytes]]:
    """Return what each subscriber has got so far, by channel."""
    return [sum((client.counts for client in clients), Counter()) for clients in subscribers]


async def measure(ready: dict[str, Any], warm_up_s: float, seconds: float) -> dict[str, Any]:
    """Subscribe, let it settle, and count."""
    token = (await asyncio.to_thread(call, ready["rest_url"], "GetWebSocketsToken"))["token"]
    subscribers = [await subscribe(ready, token) for _ in range(SUBSCRIBERS)]
    await asyncio.sleep(warm_up_s)
    before, cpu, own, started = totals(subscribers), cpu_seconds(ready["pid"]), time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - started
    after, used = totals(subscribers), cpu_seconds(ready["pid"]) - cpu
    if any(client.is_lost for clients in subscribers for client in clients):
        raise RuntimeError("a connection was lost")
    got = [
        {NAMES.get(name, "other"): count for name, count in (b - a).items()} for a, b in zip(before, after, strict=True)
    ]
    return {
        "seconds": took,
        "exchange_cpu_s": used,
        "subscriber_cpu_s": time.process_time() - own,
        "messages": [sum(counts.values()) for counts in got],
        "by_channel": got[0],
    }


if __name__ == "__main__":
    ready = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(asyncio.run(measure(ready, float(sys.argv[2]), float(sys.argv[3])))))  # noqa: T201
