"""The exchange on real sockets, with clients that do not share its code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import websockets

from krakenbot.adapters.local_exchange import connection
from krakenbot.adapters.local_exchange.latency import LatencySettings, Leg
from krakenbot.adapters.local_exchange.server import NotLoopbackError, serving
from krakenbot.apps.exchange_building import build, steady_clock
from krakenbot.apps.exchange_options import ExchangeOptions

pytestmark = pytest.mark.anyio


async def receive(socket: Any, wanted: Callable[[Any], bool], timeout_s: float = 5) -> Any:
    """Return the first frame that `wanted` accepts."""
    with anyio.fail_after(timeout_s):
        while True:
            frame = json.loads(await socket.recv(), parse_float=Decimal)
            if wanted(frame):
                return frame


def is_reply(method: str) -> Callable[[Any], bool]:
    return lambda frame: bool(frame.get("method") == method)


async def send(socket: Any, method: str, **params: Any) -> None:
    await socket.send(json.dumps({"method": method, "params": params, "req_id": 1}))


async def test_an_order_goes_from_token_to_fill_and_into_the_record(run_exchange, tmp_path):
    with (tmp_path / "record.jsonl").open("ab") as record:
        async with run_exchange(record=record) as (api, exchange):
            token = await api.token()
            symbol = next(iter(exchange.venue.markets))
            async with api.connect("private") as socket:
                assert (json.loads(await socket.recv()))["channel"] == "status"
                await send(socket, "subscribe", channel="executions", token=token)
                order = {"order_type": "market", "side": "sell", "symbol": symbol, "order_qty": 0.001}
                await send(socket, "add_order", token=token, cl_ord_id="sale", **order)
                filled = await receive(socket, lambda f: any(r.get("exec_type") == "filled" for r in f.get("data", [])))
                reply = await receive(socket, is_reply("add_order"))
            truth = await api.get("/control/truth")
            history = await api.post("TradesHistory")

    account = truth["accounts"][0]
    assert filled["data"][0]["cl_ord_id"] == reply["result"]["cl_ord_id"] == "sale"
    assert ("filled", "0.00100000") == (account["orders"][0]["status"], account["orders"][0]["filled_qty"])
    assert account["balances"]["BTC"] == "0.99900000"
    assert set(history["result"]["trades"]) == {fill["exec_id"] for fill in account["fills"]}
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert ["deposited"] * 3 == kinds[:3]
    assert {"accepted", "opened", "traded", "paid", "filled"} <= set(kinds)
    assert kinds.count("paid") == 2 * kinds.count("traded")


async def test_public_streams_verify_over_a_real_socket(run_exchange):
    async with run_exchange() as (api, exchange), api.connect("public") as socket:
        symbols = list(exchange.venue.markets)
        await send(socket, "subscribe", channel="book", symbol=symbols, depth=10)
        sides: dict[tuple[str, str], dict[str, str]] = {}
        heartbeats = frames = 0
        with anyio.move_on_after(2.5):
            while True:
                frame = json.loads(await socket.recv(), parse_float=str, parse_int=str)
                heartbeats += frame.get("channel") == "heartbeat"
                if frame.get("channel") == "book":
                    frames += 1
                    verify(sides, frame)

    assert frames > 20
    assert 2 <= heartbeats <= 3


def verify(books: dict[tuple[str, str], dict[str, str]], frame: Any) -> None:
    import zlib

    data = frame["data"][0]
    text = ""
    for name in ("asks", "bids"):
        side = books.setdefault((data["symbol"], name), {})
        for row in data[name]:
            side[row["price"]] = row["qty"]
            if float(row["qty"]) == 0:
                del side[row["price"]]
        best = sorted(side, key=Decimal, reverse=name == "bids")
        for price in best[10:]:
            del side[price]
        for price in best[:10]:
            text += price.replace(".", "").lstrip("0") + side[price].replace(".", "").lstrip("0")
    assert str(zlib.crc32(text.encode())) == data["checksum"]


async def test_rest_answers_in_the_venues_shapes(run_exchange):
    async with run_exchange() as (api, _exchange):
        pairs = await api.get("/0/public/AssetPairs", pair="XBTUSD")
        ticker = await api.get("/0/public/Ticker", pair="XXBTZUSD")
        depth = await api.get("/0/public/Depth", pair="XBT/USD", count=3)
        trades = await api.get("/0/public/Trades", pair="BTC/USD")
        assets = await api.get("/0/public/Assets", asset="XBT,ZUSD")
        balance = await api.post("BalanceEx")
        volume = await api.post("TradeVolume", pair="XBTUSD")
        info = await api.post("GetApiKeyInfo")

    pair = pairs["result"]["XXBTZUSD"]
    assert ("XBTUSD", "XBT/USD", "XXBT", "ZUSD", 1, 8) == tuple(
        pair[k] for k in ("altname", "wsname", "base", "quote", "pair_decimals", "lot_decimals")
    )
    assert ([], [], "0.1") == (pair["fees"], pair["fees_maker"], pair["tick_size"])
    assert len(ticker["result"]["XXBTZUSD"]["a"]) == 3
    assert len(depth["result"]["XXBTZUSD"]["bids"]) == 3
    assert trades["result"]["last"].isdigit()
    assert {"XXBT", "ZUSD"} == set(assets["result"])
    assert {"balance": "25000.0000", "hold_trade": "0.0000"} == balance["result"]["ZUSD"]
    assert volume["result"]["fees"]["XXBTZUSD"]["fee"] == "0.4000"
    assert "modify-trades" in info["result"]["permissions"]


async def test_rest_orders_live_and_die(run_exchange):
    async with run_exchange() as (api, _exchange):
        low = (await api.get("/0/public/Depth", pair="XBTUSD", count=1))["result"]["XXBTZUSD"]["bids"][0][0]
        price = f"{Decimal(low) - 1000:.1f}"
        order = {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "volume": "0.01", "price": price}
        checked = await api.post("AddOrder", **order, validate="true")
        added = await api.post("AddOrder", **order, oflags="post", cl_ord_id="rest-1")
        held = await api.post("BalanceEx")
        amended = await api.post("AmendOrder", cl_ord_id="rest-1", order_qty="0.005")
        opened = await api.post("OpenOrders")
        txid = added["result"]["txid"][0]
        canceled = await api.post("CancelOrder", txid=txid)
        again = await api.post("CancelOrder", txid=txid)
        closed = await api.post("ClosedOrders", as_json=True)
        queried = await api.post("QueryOrders", txid=txid)
        small = await api.post("AddOrder", **order | {"volume": "0.00000001"})
        armed = await api.post("CancelAllOrdersAfter", timeout="60")

    assert {"descr": {"order": f"buy 0.01000000 XBTUSD @ limit {price}"}} == checked["result"]
    assert Decimal(held["result"]["ZUSD"]["hold_trade"]) == Decimal(price) / 100 * Decimal("1.004")
    assert "amend_id" in amended["result"]
    assert ("open", "0.00500000") == tuple(opened["result"]["open"][txid][k] for k in ("status", "vol"))
    assert {"count": 1} == canceled["result"]
    assert ["EOrder:Unknown order"] == again["error"]
    assert "User requested" == closed["result"]["closed"][txid]["reason"] == queried["result"][txid]["reason"]
    assert ["EOrder:Order minimum not met"] == small["error"]
    assert armed["result"]["triggerTime"] > armed["result"]["currentTime"]


async def test_credentials_are_checked_in_the_venues_words(run_exchange):
    async with run_exchange() as (api, _exchange):
        unknown = await api.post("Balance", key="nobody")
        forged = await api.post("Balance", secret="Zm9yZ2Vk")
        denied = await api.post("GetWebSocketsToken", key="reader")
        await api.post("Balance", key="other", nonce=1000)
        replayed = await api.post("Balance", key="other", nonce=1000)
        nothing = await api.post("Nothing")
        pair = await api.get("/0/public/Depth", pair="NOPE")
        wrong_verb, nowhere = await api.get("/0/private/Balance"), await api.get("/0/nowhere")

    assert ["EAPI:Invalid key"] == unknown["error"]
    assert ["EAPI:Invalid signature"] == forged["error"]
    assert ["EGeneral:Permission denied"] == denied["error"]
    assert ["EAPI:Invalid nonce"] == replayed["error"]
    assert ["EGeneral:Unknown method"] == nothing["error"] == wrong_verb["error"] == nowhere["error"]
    assert ["EQuery:Unknown asset pair"] == pair["error"]


async def test_two_keys_of_one_account_see_the_same_orders(run_exchange):
    async with run_exchange() as (api, _exchange):
        first = await api.post("Balance", key="full")
        second = await api.post("Balance", key="reader")
        other = await api.post("Balance", key="other")

    assert first == second
    assert {"ZUSD": "500.0000"} == other["result"]


async def test_messages_wait_their_legs_and_never_overtake(run_exchange):
    async with run_exchange(latency_ms=(40.0, 60.0)) as (api, _exchange), api.connect("public") as socket:
        await socket.recv()
        started = time.perf_counter()
        for number in range(20):
            await socket.send(json.dumps({"method": "ping", "req_id": number}))
        replies = [json.loads(await socket.recv())["req_id"] for _ in range(20)]
        took_ms = (time.perf_counter() - started) * 1000

    assert list(range(20)) == replies
    assert 50 < took_ms < 400


def test_latency_has_the_configured_median_and_tail():
    delays = sorted(
        Leg(LatencySettings(median_ms=30, p99_ms=150), f"seed-{number}").due_ns(10**18) - 10**18
        for number in range(4000)
    )

    assert 28e6 < delays[2000] < 32e6
    assert 120e6 < delays[3960] < 190e6


async def test_misbehaving_clients_disturb_nobody(run_exchange):
    async with run_exchange() as (api, exchange), api.connect("public") as good:
        await send(good, "subscribe", channel="book", symbol=["BTC/USD"])

        async def misbehave(number):
            try:
                async with api.connect("private" if number % 2 else "public") as socket:
                    await socket.send(b"\x00\xff" * 50)
                    await socket.send("{" * (number * 1000 + 1))
                    await socket.send('{"method":"subscribe","params":{"channel":["x"]}}')
                    if number % 3 == 0:
                        await socket.send("x" * (2 << 20))
                    if number % 5 == 0:
                        socket.transport.abort()
                    await socket.recv()
            except websockets.ConnectionClosed:
                return

        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(misbehave, number)
        await good.send('{"method":"ping","req_id":9}')
        pong = await receive(good, is_reply("pong"))

        assert pong["req_id"] == 9
        assert exchange.counters["internal_errors"] == 0
        assert exchange.counters["requests_refused"] >= 30


async def flood(client: Any) -> None:
    while True:
        await client.send('{"method":"ping","req_id":1}')


async def test_a_reader_that_stops_reading_is_dropped_and_the_others_go_on(run_exchange, monkeypatch):
    monkeypatch.setattr(connection, "MAX_QUEUED_CHARS", 200_000)
    async with run_exchange() as (api, exchange), api.connect("public") as good:
        # What the kernel keeps for a reader counts before the exchange's own queue: let it be little.
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect((httpx.URL(api.urls["ws_public_url"]).host, httpx.URL(api.urls["ws_public_url"]).port))
        narrow.setblocking(False)
        slow = await api.connect("public", sock=narrow, max_queue=1, write_limit=1, compression=None)
        for depth, channel in ((1000, "book"), (0, "trade")):
            extra = {"depth": depth} if depth else {}
            await send(slow, "subscribe", channel=channel, symbol=["BTC/USD"], **extra)
        # Unanswered pings fill the queue faster than the market does, until the connection is cut.
        with pytest.raises(websockets.ConnectionClosed):
            await flood(slow)
        await good.send('{"method":"ping","req_id":9}')
        pong = await receive(good, is_reply("pong"))
        slow.transport.abort()

    assert exchange.counters["slow_readers_dropped"] == 1
    assert pong["req_id"] == 9


async def test_only_loopback_is_served():
    exchange, flow = build(ExchangeOptions(symbols=1), [], steady_clock(), None)
    with pytest.raises(NotLoopbackError):
        async with serving(exchange, flow, LatencySettings(), host="0.0.0.0", port=0, seed=1):  # noqa: S104
            pass


def test_the_process_says_where_it_listens_and_ends_on_sigterm(tmp_path, accounts_file):
    ready_file, record = tmp_path / "ready.json", tmp_path / "record.jsonl"
    code = (
        "import sys, cyclopts; from krakenbot.apps.exchange import exchange;"
        "app = cyclopts.App(); app.command(exchange, name='exchange'); sys.exit(app(sys.argv[1:]))"
    )
    arguments = [
        "exchange",
        "--symbols",
        "2",
        "--accounts",
        accounts_file,
        "--record",
        record,
        "--ready-file",
        ready_file,
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until = time.perf_counter() + 15
        while not ready_file.exists() and time.perf_counter() < until:
            time.sleep(0.05)
        ready = json.loads(ready_file.read_text())
        status = httpx.get(f"{ready['rest_url']}/control/status", trust_env=False).json()
        os.kill(ready["pid"], signal.SIGTERM)
        output, errors = process.communicate(timeout=10)
    finally:
        process.kill()

    assert (0, "") == (process.returncode, errors)
    assert {"host", "port", "rest_url", "ws_public_url", "ws_private_url", "ws_level3_url"} <= set(ready)
    assert ready["symbols"] == status["symbols"]
    assert ready["flow"]["profile"] == "edge"
    assert ready["ws_public_url"] in output
    assert "local exchange: ends, as SIGTERM came" == output.splitlines()[-1]
    assert not ready_file.exists()
    assert record.read_text().count("deposited") == 3


def test_a_wrong_accounts_file_is_named(tmp_path, capsys):
    from krakenbot.apps.exchange import exchange

    path = tmp_path / "accounts.json"
    path.write_text('[{"name": "a", "keys": [], "balances": {"USD": 5}}]')
    code = exchange(accounts=path)

    assert code == 2
    assert "accounts[0].balances.USD must be a decimal in quotes" in capsys.readouterr().err
