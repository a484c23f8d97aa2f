"""Time that runs faster or in steps: what takes an hour at the venue takes a test seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import anyio
import anyio.to_thread
import httpx
import pytest

from krakenbot.adapters.local_exchange.pytest_plugin import API_KEY, API_SECRET, kraken_exchange
from krakenbot.adapters.local_exchange.server import Endpoints
from krakenbot.adapters.local_exchange.venue_clock import RunningClock, SteppedClock

__all__ = ["kraken_exchange"]
pytestmark = pytest.mark.anyio
HOUR_S = 3600
stepped = pytest.mark.parametrize("kraken_exchange", [{"time": "stepped", "flow": "still"}], indirect=True)


@pytest.fixture
async def api(kraken_exchange, make_api):
    api = make_api(Endpoints(host=kraken_exchange.host, port=kraken_exchange.port))
    yield api
    await api.close()


async def bid_far_away(api, **more):
    depth = (await api.get("/0/public/Depth", pair="BTC/USD", count=1))["result"]
    price = int(Decimal(next(iter(depth.values()))["bids"][0][0]) / 2)
    order = {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "volume": "0.01", "price": str(price)} | more
    answer = await api.post("AddOrder", key=API_KEY, secret=API_SECRET, **order)
    assert answer["error"] == []


def status_of(kraken_exchange):
    (account,) = kraken_exchange.truth()["accounts"]
    return {order["status"]: order["closed_at_ns"] for order in account["orders"]}


@stepped
async def test_an_order_of_one_hour_expires_after_an_hour_and_not_before(kraken_exchange, api):
    expires_s = kraken_exchange.status()["now_ns"] // 10**9 + HOUR_S
    await bid_far_away(api, timeinforce="GTD", expiretm=str(expires_s))
    kraken_exchange.advance(HOUR_S - 2)
    before = status_of(kraken_exchange)
    kraken_exchange.advance(3)
    after = status_of(kraken_exchange)

    assert {"new": None} == before
    assert {"expired": expires_s * 10**9} == after


@stepped
async def test_a_dead_mans_switch_fires_when_its_time_has_passed(kraken_exchange, api):
    await bid_far_away(api)
    armed = await api.post("CancelAllOrdersAfter", key=API_KEY, secret=API_SECRET, timeout="60")
    kraken_exchange.advance(59)
    before = status_of(kraken_exchange)
    kraken_exchange.advance(2)
    (after,) = status_of(kraken_exchange)

    assert armed["result"]["triggerTime"].endswith("Z")
    assert {"new": None} == before
    assert "canceled" == after


@stepped
async def test_a_token_serves_for_fifteen_minutes(kraken_exchange, api):
    answer = await api.post("GetWebSocketsToken", key=API_KEY, secret=API_SECRET)
    token = answer["result"]["token"]
    replies = []
    for wait_s in (890, 20):
        kraken_exchange.advance(wait_s)
        async with api.connect("private") as socket:
            await socket.recv()
            params = {"channel": "balances", "token": token}
            await socket.send(json.dumps({"method": "subscribe", "params": params}))
            replies.append(json.loads(await socket.recv()))

    assert [True, False] == [reply["success"] for reply in replies]
    assert "ESession:Invalid session" == replies[1]["error"]


@pytest.mark.parametrize("kraken_exchange", [{"time": "stepped"}], indirect=True)
async def test_every_second_of_stepped_time_has_its_heartbeat_and_nothing_moves_between(kraken_exchange, api):
    async with api.connect("public", max_queue=None) as socket:
        params = {"channel": "book", "symbol": ["BTC/USD"]}
        await socket.send(json.dumps({"method": "subscribe", "params": params}))
        while json.loads(await socket.recv()).get("channel") != "book":
            pass
        with pytest.raises(TimeoutError), anyio.fail_after(1.5):
            await socket.recv()
        began = time.perf_counter()
        await anyio.to_thread.run_sync(kraken_exchange.advance, 120)
        lasted_s = time.perf_counter() - began
        await socket.send('{"method": "ping"}')
        frames: list[dict[str, object]] = []
        while not frames or frames[-1].get("method") != "pong":
            frames.append(json.loads(await socket.recv()))
    kinds = [frame.get("channel") for frame in frames]

    assert 120 == kinds.count("heartbeat")
    assert kinds.count("book") > 120
    assert lasted_s < 60


@stepped
async def test_a_fault_of_a_time_strikes_when_that_time_has_come(kraken_exchange):
    kraken_exchange.faults("at 1800 s: mode cancel_only")
    kraken_exchange.advance(1799)
    before = kraken_exchange.status()["system"]
    kraken_exchange.advance(2)

    assert ("online", "cancel_only") == (before, kraken_exchange.status()["system"])


async def test_what_cannot_be_advanced_is_refused(kraken_exchange):
    with pytest.raises(ValueError, match="--time stepped"):
        kraken_exchange.advance(1)


@stepped
async def test_a_step_without_sense_is_refused(kraken_exchange):
    for seconds in (-1, 10**9):
        with pytest.raises(ValueError, match="allowed are 0 to 604800"):
            kraken_exchange.advance(seconds)


@stepped
def test_a_step_that_is_no_number_is_refused(kraken_exchange):
    bodies = ["[" * 50_000, "null", "{}", '{"seconds": "1"}', '{"seconds": true}', '{"seconds": NaN}']
    url = f"{kraken_exchange.rest_url}/control/advance"
    answers = [httpx.post(url, content=body) for body in bodies]

    assert [400] * len(bodies) == [answer.status_code for answer in answers]
    assert all("seconds" in answer.json()["error"] for answer in answers)


@pytest.mark.parametrize("kraken_exchange", [{"speed": 60, "latency_median_ms": 0}], indirect=True)
async def test_time_that_runs_sixty_times_as_fast_has_sixty_heartbeats_a_second(kraken_exchange, api):
    venue_s, began = kraken_exchange.status()["now_ns"] / 1e9, time.perf_counter()
    async with api.connect("public", max_queue=None) as socket:
        params = {"channel": "ticker", "symbol": ["BTC/USD"]}
        await socket.send(json.dumps({"method": "subscribe", "params": params}))
        beats = 0
        while beats < 60:
            beats += json.loads(await socket.recv()).get("channel") == "heartbeat"
    lasted_s = time.perf_counter() - began
    server_time = (await api.get("/0/public/Time"))["result"]
    passed_s = server_time["unixtime"] - venue_s

    # A venue that a busy machine holds back tells a time that lags: a third of a second is 20 s here.
    assert passed_s >= 38
    assert passed_s < lasted_s * 60 + 60
    assert (
        server_time["rfc1123"] == f"{datetime.fromtimestamp(server_time['unixtime'], UTC):%a, %d %b %y %H:%M:%S} +0000"
    )


def test_a_running_clock_keeps_every_nanosecond_at_speed_one():
    times = iter([10**18 + 1, 10**18 + 2, 10**18 + 3])
    clock = RunningClock(read_ns=lambda: next(times))

    assert (10**18 + 2, 10**18 + 3) == (clock.now_ns(), clock.now_ns())


@pytest.mark.parametrize("speed", [0, -1, 1001, float("inf"), float("nan")])
def test_a_speed_without_sense_is_refused(speed):
    with pytest.raises(ValueError, match=r"allowed are 0\.001 to 1000"):
        RunningClock(speed)


async def test_stepped_sleepers_wake_in_order_of_time():
    clock = SteppedClock(0)
    woken: list[int] = []

    async def sleep(due_ns: int) -> None:
        await clock.sleep_until_ns(due_ns)
        woken.append(due_ns)

    async with anyio.create_task_group() as tasks:
        for due_ns in (30, 10, 20, 0):
            tasks.start_soon(sleep, due_ns)
        await anyio.wait_all_tasks_blocked()
        first = clock.next_due_ns()
        clock.move_to(20)
        await anyio.wait_all_tasks_blocked()
        at_twenty = list(woken)
        clock.move_to(40)

    assert 10 == first
    assert [0, 10, 20] == at_twenty
    assert [0, 10, 20, 30] == woken


@pytest.mark.parametrize("kraken_exchange", [{"flow": "still", "speed": 10, "latency_median_ms": 0}], indirect=True)
async def test_a_rest_order_that_was_late_on_its_way_is_past_its_deadline(kraken_exchange, api):
    kraken_exchange.faults("at rest.AddOrder: delay by 25 s")
    deadline = datetime.fromtimestamp(kraken_exchange.status()["now_ns"] / 1e9 + 20, UTC).isoformat()
    order = {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "volume": "0.01", "price": "1000"}
    answer = await api.post("AddOrder", key=API_KEY, secret=API_SECRET, deadline=deadline, **order)

    assert ["EService:Deadline elapsed"] == answer["error"]


def test_a_sigterm_during_a_long_advance_ends_it_quietly(tmp_path):
    ready_file = tmp_path / "ready.json"
    command = [sys.executable, "-m", "krakenbot", "exchange", "--symbols", "1", "--time", "stepped"]
    command += ["--ready-file", str(ready_file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(ready_file.exists)
            url = json.loads(ready_file.read_text())["rest_url"]
            before = httpx.get(f"{url}/control/status", trust_env=False).json()["now_ns"]
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(
                    httpx.post, f"{url}/control/advance", json={"seconds": 604_800}, timeout=15, trust_env=False
                )
                wait_until(lambda: httpx.get(f"{url}/control/status", trust_env=False).json()["now_ns"] > before)
                process.terminate()
                answer = asked.result(15)
            _, errors = process.communicate(timeout=10)
        finally:
            process.kill()

    assert (503, {"error": "the exchange ends"}) == (answer.status_code, answer.json())
    assert (0, "") == (process.returncode, errors)


def wait_until(holds, timeout_s=15.0):
    until = time.perf_counter() + timeout_s
    while not holds():
        assert time.perf_counter() < until
        time.sleep(0.02)
