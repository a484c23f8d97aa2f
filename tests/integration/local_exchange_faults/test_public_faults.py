"""F01 to F12: what goes wrong with a public connection, seen by a client that shares no code with the exchange."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from decimal import Decimal
from typing import Any

import anyio
import httpx
import pytest
import websockets

pytestmark = pytest.mark.anyio


def checksum(row: Any) -> int:
    tokens: list[str] = []
    for name in ("asks", "bids"):
        tokens.extend(
            level[field].replace(".", "").lstrip("0") for level in row[name][:10] for field in ("price", "qty")
        )
    return zlib.crc32("".join(tokens).encode())


def exact(text: str | bytes) -> Any:
    return json.loads(text, parse_float=str, parse_int=str)


# F01: a drop at each step.


async def test_f01_drop_when_tcp_accepts(client):
    async with client.fault("once at accept: drop"):
        with pytest.raises((httpx.TransportError, websockets.InvalidMessage, OSError, EOFError)):
            async with client.connect("public"):
                pass


async def test_f01_silent_peer_when_tcp_accepts(client):
    async with client.fault("3 times at accept: silence"):
        with pytest.raises(TimeoutError):
            async with websockets.connect(client.urls["ws_public_url"], proxy=None, open_timeout=0.2):
                pass


@pytest.mark.parametrize("status", [429, 503, 520])
async def test_f01_upgrade_refused_with_a_page(client, status):
    async with client.fault(f"once at public.upgrade: answer {status}"):
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with client.connect("public"):
                pass

    assert status == caught.value.response.status_code
    assert b"<html>" in caught.value.response.body


async def test_f01_drop_instead_of_the_upgrade(client):
    async with client.fault("once at private.upgrade: drop"):
        with pytest.raises((websockets.InvalidMessage, OSError, EOFError)):
            async with client.connect("private"):
                pass


@pytest.mark.parametrize(
    ("line", "channels", "seen"),
    [
        ("at public.open: drop", [], []),
        ("at public.status: drop", [], []),
        ("at public.subscribe: drop", ["book"], ["status"]),
        ("at public.subscribe.ack: drop", ["book"], ["status"]),
        ("at book.snapshot: drop", ["book"], ["status", "subscribe"]),
        ("on 1st book.update: drop", ["book"], ["status", "subscribe", "book snapshot"]),
        ("on 2nd subscribe.ack: drop", ["book", "trade"], ["status", "subscribe", "book snapshot"]),
    ],
)
async def test_f01_drop_at_each_step(client, line, channels, seen):
    async with client.fault(line, hits=1), client.socket("public", *channels) as socket:
        frames = [json.loads(text) for text in await socket.frames_until_end()]

    names = [f.get("method") or " ".join(filter(None, (f["channel"], f["type"]))) for f in frames if len(f) > 1]
    shown = [name.removesuffix(" update") if name.startswith("status") else name for name in names]
    assert seen == [name for name in shown if name != "book update"]
    assert 1006 == socket.raw.close_code


async def test_f01_drop_halfway_through_a_snapshot(client):
    async with (
        client.fault("once at book.snapshot: drop halfway", hits=1),
        client.socket("public", "book", depth=1000) as socket,
    ):
        texts = await socket.frames_until_end()

    assert not any('"snapshot","data"' in text for text in texts)


async def test_f01_drop_between_the_snapshots_of_two_symbols(client):
    async with client.fault("on 2nd book.snapshot: drop", hits=1), client.socket("public") as socket:
        await socket.send("subscribe", channel="book", symbol=list(client.exchange.venue.markets))
        texts = await socket.frames_until_end()

    assert 1 == sum('"type":"snapshot"' in text for text in texts)
    assert 2 == sum('"method":"subscribe"' in text for text in texts)


async def test_f01_drop_in_midstream_and_by_time(client):
    async with client.fault("on 3rd book.update: drop", hits=1), client.socket("public", "book") as socket:
        texts = await socket.frames_until_end()

    assert 2 == sum('"book","type":"update"' in text for text in texts)
    async with client.socket("public", "book") as socket, client.fault("after 100 ms: drop public", hits=1):
        await socket.frames_until_end()


async def test_f01_clean_close_with_a_code(client):
    async with client.socket("public", "book") as socket:
        async with client.fault("after 50 ms: close public with code 1012", hits=1):
            await socket.frames_until_end()

        assert 1012 == socket.raw.close_code


async def test_f01_clean_close_instead_of_a_snapshot(client):
    async with client.fault("at book.snapshot: close with code 1011", hits=1):
        async with client.socket("public", "book") as socket:
            texts = await socket.frames_until_end()

        assert 1011 == socket.raw.close_code
    assert '"method":"subscribe"' in texts[-1]


# F02 to F04: half-open, one-way stalls, bursts.


async def test_f02_silent_peer_sends_nothing_and_answers_no_ping(client):
    async with client.fault("on 2nd book.update: silence", hits=1), client.socket("public", "book") as socket:
        await socket.data("book", "update")
        while (await socket.frames_for(0.3)) != []:
            pass
        await socket.send("ping")
        pong = await socket.raw.ping()

        assert [] == await socket.frames_for(0.3)
        assert not pong.done()
        assert socket.raw.state is websockets.protocol.State.OPEN
        socket.raw.transport.abort()


async def test_f02_silence_by_time(client):
    async with client.socket("public", "book") as socket, client.fault("after 50 ms: silence public", hits=1):
        await anyio.sleep(0.2)
        await socket.frames_for(0.05)

        assert [] == await socket.frames_for(1.2)
        socket.raw.transport.abort()


async def test_f03_we_receive_but_what_we_send_waits(client):
    async with client.socket("public", "book") as socket:
        await socket.data("book", "snapshot")
        async with client.fault("after 1 ms: stall public in for 1 s", hits=1):
            await anyio.sleep(0.05)
            started_ns = client.exchange.clock_ns()
            await socket.send("ping")
            update = await socket.data("book", "update")
            pong = await socket.ack("pong")
            waited_s = (client.exchange.clock_ns() - started_ns) / 1e9

    assert update["channel"] == "book"
    assert pong["req_id"] == 7
    assert waited_s > 0.3


async def test_f03_nothing_leaves_for_a_while_then_all_in_order(client):
    async with client.socket("level3", "level3") as socket:
        await socket.data("level3", "snapshot")
        async with client.fault("for 1500 ms from 10 ms: stall level3 out", hits=1):
            await anyio.sleep(0.05)
            await socket.frames_for(0.05)

            assert [] == await socket.frames_for(0.2)
            frames = await socket.frames_for(1.5)

    stamps = [frame["data"][0]["timestamp"] for frame in frames if frame["channel"] == "level3"]
    assert len(stamps) > 1
    assert sorted(stamps) == stamps


async def test_f04_burst_of_ten_times_the_frames(client):
    async with (
        client.fault("for 5 s: duplicate ticker.update 9 times"),
        client.socket("public", "ticker", event_trigger="bbo") as socket,
    ):
        frame = await socket.data("ticker", "update")
        copies = [await socket.data("ticker", "update") for _ in range(9)]

    assert [frame] * 9 == copies


async def test_f04_slow_line(client):
    async with client.fault("at public.pong: delay by 300 ms", hits=1), client.socket("public") as socket:
        started_ns = client.exchange.clock_ns()
        await socket.send("ping")
        await socket.ack("pong")

    assert client.exchange.clock_ns() - started_ns >= 290_000_000


# F05 to F09: books that are wrong.


async def test_f05_duplicate_update(client):
    async with client.fault("once at book.update: duplicate", hits=1), client.socket("public", "book") as socket:
        first = await socket.data("book", "update")

        assert first == await socket.data("book", "update")


async def test_f06_reordered_updates(client):
    async with client.socket("public", "book") as one, client.socket("public", "book") as other:
        for socket in (one, other):
            await socket.data("book", "snapshot")
        async with client.fault(f"on 4th book.update of {client.symbol}: swap with next", hits=1):
            got = [[await socket.data("book", "update") for _ in range(10)] for socket in (one, other)]

    # One of the two was the victim: the same updates, but for two neighbours that changed places.
    shared = [[frame for frame in frames if frame in against] for frames, against in (got, got[::-1])]
    moved = [index for index, (mine, theirs) in enumerate(zip(*shared, strict=True)) if mine != theirs]
    assert len(shared[0]) >= 5
    assert len(moved) == 2
    assert moved[1] == moved[0] + 1


async def test_f06_lost_update(client):
    async with client.socket("public", "book") as socket, client.socket("public", "book") as other:
        await socket.data("book", "snapshot")
        await other.data("book", "snapshot")
        async with client.fault("once at book.update: lose", hits=1):
            some = [(await socket.data("book", "update"))["data"][0]["timestamp"] for _ in range(4)]
            every = [(await other.data("book", "update"))["data"][0]["timestamp"]]
            while every[-1] < some[-1]:
                every.append((await other.data("book", "update"))["data"][0]["timestamp"])

    # Two updates may bear the same time.
    assert 1 == (Counter(every) - Counter(some)).total()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("once at book.snapshot: corrupt checksum", "snapshot"),
        ("once at level3.snapshot: corrupt checksum", "snapshot"),
        ("at book.snapshot: corrupt checksum", "snapshot"),
    ],
)
async def test_f07_wrong_checksum_on_a_snapshot(client, line, kind):
    channel = "level3" if "level3" in line else "book"
    async with client.fault(line):
        path = "level3" if channel == "level3" else "public"
        async with client.socket(path, channel) as socket:
            await socket.data(channel, kind)
            row = exact(socket.texts[-1])["data"][0]

    if channel == "book":
        assert checksum(row) == int(row["checksum"]) ^ 1
    else:
        names = {"asks": "limit_price", "bids": "limit_price"}
        text = "".join(
            (level[names[side]].replace(".", "").lstrip("0") + level["order_qty"].replace(".", "").lstrip("0"))
            for side in ("asks", "bids")
            for level in row[side]
        )
        assert zlib.crc32(text.encode()) == int(row["checksum"]) ^ 1


async def test_f07_wrong_checksum_for_ever(client):
    async with client.socket("public", "book") as socket, client.socket("public", "book") as other:
        await socket.data("book", "snapshot")
        await other.data("book", "snapshot")
        # Each update goes to both readers, one after the other: every second frame is always the same reader's.
        async with client.fault("every 2nd book.update: corrupt checksum"):
            pages = []
            for reader in (socket, other):
                rows = [(await reader.data("book", "update"))["data"][0] for _ in range(12)]
                # Two updates may bear the same time: those cannot be told apart.
                times = Counter(row["timestamp"] for row in rows)
                pages.append({row["timestamp"]: row["checksum"] for row in rows if times[row["timestamp"]] == 1})

    differences = [pages[0][stamp] ^ pages[1][stamp] for stamp in sorted(set(pages[0]) & set(pages[1]))]
    assert [1, 1, 1] == differences[-3:]


async def test_f08_update_before_the_snapshot_and_two_snapshots(client):
    async with client.fault("once at book.snapshot: insert update", hits=1), client.socket("public", "book") as socket:
        first = await socket.data("book")
        second = await socket.data("book")

    assert ("update", "snapshot") == (first["type"], second["type"])
    async with client.fault("once at book.snapshot: duplicate", hits=1), client.socket("public", "book") as socket:
        assert await socket.data("book", "snapshot") == await socket.data("book", "snapshot")


async def test_f09_crossed_book_with_a_right_checksum(client):
    async with client.fault("once at book.snapshot: cross book", hits=1), client.socket("public", "book") as socket:
        await socket.data("book", "snapshot")
        row = exact(socket.texts[-1])["data"][0]

    assert Decimal(row["bids"][0]["price"]) >= Decimal(row["asks"][0]["price"])
    assert checksum(row) == int(row["checksum"])


async def test_f09_empty_book(client):
    async with client.fault("once at book.snapshot: empty book", hits=1), client.socket("public", "book") as socket:
        row = (await socket.data("book", "snapshot"))["data"][0]

    assert ([], [], 0) == (row["bids"], row["asks"], row["checksum"])


async def test_f09_zero_quantity_for_an_unknown_level(client):
    async with (
        client.fault("on 2nd book.update: remove unknown level", hits=1),
        client.socket("public", "book") as socket,
    ):
        await socket.data("book", "update")
        row = (await socket.data("book", "update"))["data"][0]

    assert 0 == row["bids"][-1]["qty"]
    assert 0 < row["bids"][-1]["price"] <= Decimal("0.1")


async def test_f09_more_levels_than_the_depth(client):
    async with client.fault("once at book.snapshot: overflow depth", hits=1), client.socket("public", "book") as socket:
        await socket.data("book", "snapshot")
        row = exact(socket.texts[-1])["data"][0]

    prices = [Decimal(level["price"]) for level in row["bids"]]
    assert 15 == len(prices) == len(set(prices))
    assert sorted(prices, reverse=True) == prices
    assert checksum(row) == int(row["checksum"])


# F10 to F12: frames that are no frames, refusals, clocks.


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("once at status: truncate", b'{"channel":"status"'),
        (
            'once at status: replace with text "CloudFlare WebSocket proxy restarting"',
            b"CloudFlare WebSocket proxy restarting",
        ),
        ('once at status: insert text "[1,2"', b"[1,2"),
        ("once at status: send as binary", b'{"channel":"status"'),
        ('once at status: set channel to "oracle"', b'"channel":"oracle"'),
        ("once at status: set data.0.oracle to 1", b'"oracle":1'),
        ('once at status: set data.0.system to "dreaming"', b'"system":"dreaming"'),
        ("once at status: set data to NaN", b'"data":NaN'),
        ("once at status: set data.0.connection_id to 1e999999", b'"connection_id":1e999999'),
        ("once at status: set data.0.version to true", b'"version":true'),
        ("once at status: remove data", b'"type":"update"}'),
        ("once at status: bloat to 1024 kb", b'"padding":"xxx'),
    ],
)
async def test_f10_a_frame_that_cannot_be_right(client, line, expected):
    async with client.fault(line, hits=1), client.socket("public") as socket:
        text = await socket.text()

    content = text.encode() if isinstance(text, str) else text
    assert expected in content
    assert ("binary" in line) == isinstance(text, bytes)
    if "truncate" in line:
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            json.loads(text)
    if "bloat" in line:
        assert 1024 * 1024 == len(content)


async def test_f10_numbers_of_a_book_that_are_none(client):
    async with (
        client.fault("at book.snapshot: set data.0.bids.*.qty to NaN", hits=1),
        client.socket("public", "book") as socket,
    ):
        await socket.data("book", "snapshot")

    assert 10 == socket.texts[-1].count('"qty":NaN')


async def test_f11_subscribe_refused_lost_and_rate_limited(client):
    async with (
        client.fault('once at public.subscribe of book: refuse "EGeneral:Internal error"', hits=1),
        client.socket("public", "trade", "book") as socket,
    ):
        await socket.ack("subscribe")
        refused = await socket.ack("subscribe")

    assert (False, "EGeneral:Internal error", 7) == (refused["success"], refused["error"], refused["req_id"])
    async with (
        client.fault('at public.subscribe: answer text "{\\"Error\\": \\"Exceeded msg rate\\"}"', hits=1),
        client.socket("public", "book") as socket,
    ):
        assert {"Error": "Exceeded msg rate"} == await socket.frame(lambda frame: "Error" in frame)


async def test_f11_one_of_two_acks(client):
    async with client.fault("on 2nd public.subscribe.ack: lose", hits=1), client.connect("public") as raw:
        params = {"channel": "book", "symbol": list(client.exchange.venue.markets)}
        await raw.send(json.dumps({"method": "subscribe", "params": params}))
        frames = [json.loads(await raw.recv()) for _ in range(4)]

    assert 1 == sum(frame.get("method") == "subscribe" for frame in frames)


async def test_f11_ban_after_too_many_connections(client):
    async with client.fault("from 3rd public.upgrade: answer 429", hits=2):
        outcomes = []
        for _ in range(4):
            try:
                async with client.connect("public"):
                    outcomes.append(101)
            except websockets.InvalidStatus as error:
                outcomes.append(error.response.status_code)

    assert [101, 101, 429, 429] == outcomes


async def test_f12_exchange_timestamps_jump(client):
    async with (
        client.fault("on 2nd book.update: shift timestamps by -1 h", hits=1),
        client.socket("public", "book") as socket,
    ):
        stamps = [(await socket.data("book", "update"))["data"][0]["timestamp"] for _ in range(3)]

    assert stamps[1] < stamps[0] <= stamps[2]
