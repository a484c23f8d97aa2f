"""The order of answers on one connection: written at once, after a delay, and past a reader that stood still."""

from __future__ import annotations

import json
import socket as sockets

import anyio
import pytest

pytestmark = pytest.mark.anyio
REQUESTS = 120


async def answers(socket, count):
    """Return the req_ids of the next answers, in the order they come."""
    found: list[int] = []
    with anyio.fail_after(15):
        while len(found) < count:
            frame = json.loads(await socket.recv())
            if "req_id" in frame:
                found.append(frame["req_id"])
    return found


@pytest.mark.parametrize("latency_ms", [0.0, 20.0])
async def test_a_burst_of_requests_is_answered_in_order(run_exchange, latency_ms):
    async with (
        run_exchange(latency_ms=(latency_ms, latency_ms), limits="off") as (api, _),
        api.connect("public") as socket,
    ):
        for number in range(REQUESTS):
            await socket.send(json.dumps({"method": "ping", "req_id": number}))

        assert await answers(socket, REQUESTS) == list(range(REQUESTS))


async def test_answers_to_a_reader_that_stood_still_keep_their_order_and_none_is_lost(run_exchange):
    params = {"channel": "book", "symbol": ["BTC/USD", "ETH/USD"], "depth": 1000}
    async with (
        run_exchange(limits="off") as (api, exchange),
        api.connect("public", max_queue=1, max_size=None, compression=None) as socket,
        api.connect("public") as other,
    ):
        socket.transport.pause_reading()
        # Small buffers of the kernel: what is sent has to wait inside the exchange.
        for transport, option in (
            (socket.transport, sockets.SO_RCVBUF),
            (exchange.faults.transports.of({"client": socket.local_address}), sockets.SO_SNDBUF),
        ):
            transport.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, option, 4096)
        for number in range(REQUESTS):
            method = "unsubscribe" if number % 2 else "subscribe"
            await socket.send(json.dumps({"method": method, "params": params, "req_id": number}))
        with anyio.fail_after(15):
            while exchange.counters["requests"] < REQUESTS:
                await anyio.sleep(0.01)
        waiting = exchange.faults.transports.of({"client": socket.local_address}).get_write_buffer_size()
        # Another client is served while this one does not read.
        await other.send(json.dumps({"method": "ping", "req_id": 7}))
        others = await answers(other, 1)
        socket.transport.resume_reading()
        # One answer for each of the two symbols.
        mine = await answers(socket, 2 * REQUESTS)

        assert waiting > 0
        assert others == [7]
        assert mine == [number for number in range(REQUESTS) for _ in range(2)]
