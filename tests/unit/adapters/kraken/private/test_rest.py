from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from urllib.parse import parse_qs

import anyio
import anyio.lowlevel
import httpx
import pytest

from krakenbot.adapters.kraken.nonce import NonceSource
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials, sign
from krakenbot.domain.errors import ConfigError, VenueRejected, VenueUnavailable
from krakenbot.domain.secret import Secret

API_KEY = "canary-api-key"
PRIVATE_KEY = base64.b64encode(b"canary-private-key").decode()
TOKEN = "canary-token"
CREDENTIALS = Credentials(api_key=Secret(API_KEY), private_key=Secret(PRIVATE_KEY))

Handler = Callable[[httpx.Request], httpx.Response]


def make_rest(clock, handler: Handler, **settings) -> KrakenRest:
    return KrakenRest(
        settings=RestSettings(**settings),
        clock=clock,
        credentials=CREDENTIALS,
        nonces=NonceSource(clock=clock),
        transport=httpx.MockTransport(handler),
    )


def answer(result: object, *errors: str, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json={"error": list(errors), "result": result})


def refuse(*errors: str) -> Handler:
    return lambda _: httpx.Response(200, json={"error": list(errors)})


async def test_private_call_is_a_signed_post_of_a_form_with_a_nonce(clock) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer({"open": {}})

    async with make_rest(clock, handler) as rest:
        await rest.private("OpenOrders", {"cl_ord_id": "a b&c"})
    request = seen[0]
    form = parse_qs(request.content.decode())
    expected = sign(CREDENTIALS, path="/0/private/OpenOrders", nonce=int(form["nonce"][0]), body=request.content)

    assert ("POST", "/0/private/OpenOrders") == (request.method, request.url.path)
    assert {"nonce": [str(clock.wall_ns)], "cl_ord_id": ["a b&c"]} == form
    assert (API_KEY, expected) == (request.headers["API-Key"], request.headers["API-Sign"])
    assert "krakenbot" == request.headers["User-Agent"]


async def test_public_call_is_a_get_without_key(clock) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer({"unixtime": 1_800_000_000, "rfc1123": ""})

    async with make_rest(clock, handler) as rest:
        time = await rest.server_time()

    assert 1_800_000_000 == time.timestamp()
    assert ("GET", "/0/public/Time") == (seen[0].method, seen[0].url.path)
    assert "API-Key" not in seen[0].headers


async def test_nonces_of_calls_rise(clock) -> None:
    nonces: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        nonces.append(int(parse_qs(request.content.decode())["nonce"][0]))
        return answer({})

    async with make_rest(clock, handler) as rest:
        for _ in range(3):
            await rest.private("BalanceEx")

    assert sorted(set(nonces)) == nonces


async def test_refused_nonce_is_tried_once_more_with_a_fresh_one(clock) -> None:
    bodies: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return answer({"ok": 1}) if len(bodies) == 2 else httpx.Response(200, json={"error": ["EAPI:Invalid nonce"]})

    async with make_rest(clock, handler) as rest:
        result = await rest.private("BalanceEx")

    assert {"ok": 1} == json.loads(bytes(result))
    assert 2 == len(set(bodies))


async def test_nonce_refused_twice_is_a_rejection_and_no_storm(clock) -> None:
    calls: list[int] = []

    def handler(_: httpx.Request) -> httpx.Response:
        calls.append(1)
        return httpx.Response(200, json={"error": ["EAPI:Invalid nonce"]})

    async with make_rest(clock, handler) as rest:
        with pytest.raises(VenueRejected, match="EAPI:Invalid nonce"):
            await rest.private("BalanceEx")

    assert 2 == len(calls)


def raise_connect_error(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route", request=request)


def raise_read_timeout(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("slow", request=request)


@pytest.mark.parametrize(
    "handler",
    [
        lambda _: httpx.Response(502, text="<html>Bad gateway</html>"),
        lambda _: httpx.Response(500, json={"error": ["EOrder:Insufficient funds"]}),
        lambda _: httpx.Response(200, text="<html>Cloudflare</html>"),
        lambda _: httpx.Response(200, text='{"error":[],"result":{"open'),
        lambda _: httpx.Response(200, text=""),
        lambda _: httpx.Response(200, json=[]),
        lambda _: httpx.Response(200, json={"error": []}),
        lambda _: httpx.Response(302, headers={"Location": "https://elsewhere.invalid/"}, json={"error": []}),
        lambda _: httpx.Response(429, text="too many"),
        lambda _: httpx.Response(200, content=b"\xff\xfe\x00"),
        raise_connect_error,
        raise_read_timeout,
        refuse("EService:Unavailable"),
        refuse("EService: Throttled: 1800000000"),
        refuse("EAPI:Rate limit exceeded"),
        refuse("EGeneral:Temporary lockout"),
    ],
)
async def test_answer_that_proves_nothing_is_unavailable(clock, handler: Handler):
    async with make_rest(clock, handler) as rest:
        with pytest.raises(VenueUnavailable):
            await rest.private("OpenOrders")


@pytest.mark.parametrize("error", ["EGeneral:Permission denied", "EQuery:Unknown asset pair", "EAPI:Invalid key"])
async def test_definite_refusal_is_a_rejection_with_the_venues_words(clock, error: str):
    async with make_rest(clock, refuse(error)) as rest:
        with pytest.raises(VenueRejected) as caught:
            await rest.private("OpenOrders")

    assert error == caught.value.reason


async def test_warning_is_no_failure(clock) -> None:
    async with make_rest(clock, lambda _: answer({"open": {}}, "WGeneral:Danger")) as rest:
        result = await rest.private("OpenOrders")

    assert b'{"open":{}}' == bytes(result)


async def test_answer_larger_than_allowed_is_refused(clock) -> None:
    async with make_rest(clock, lambda _: answer("x" * 5000), max_body_bytes=1000) as rest:
        with pytest.raises(VenueUnavailable, match="larger than 1000 bytes"):
            await rest.public("AssetPairs")


async def test_private_call_without_a_key_says_so(clock) -> None:
    rest = KrakenRest(
        settings=RestSettings(),
        clock=clock,
        transport=httpx.MockTransport(lambda _: answer({})),
    )
    async with rest:
        with pytest.raises(ConfigError, match="needs an API key"):
            await rest.private("OpenOrders")


def test_credentials_without_nonces_are_refused(clock) -> None:
    with pytest.raises(ConfigError):
        KrakenRest(settings=RestSettings(), clock=clock, credentials=CREDENTIALS)


async def test_calls_wait_for_the_rate_counter_and_refuse_a_long_wait(clock) -> None:
    async with make_rest(clock, lambda _: answer({}), budget_wait_s=10.0) as rest:
        for _ in range(15):
            await rest.private("OpenOrders")
        before = list(clock.slept_s)
        await rest.private("OpenOrders")
        with pytest.raises(VenueUnavailable, match="rate counter is full"):
            await rest.private("TradesHistory")

    assert [] == before
    assert 1 == len(clock.slept_s)


@pytest.mark.parametrize("error", ["EAPI:Rate limit exceeded", "EAuth:Rate limit exceeded"])
async def test_counter_that_an_earlier_process_left_full_costs_one_refused_call(clock, error: str) -> None:
    """Three calls at once meet a venue whose counter is full: the first is refused, the others wait for room."""
    full_at_s = clock.mono()
    answers: list[str] = []

    def handler(_: httpx.Request) -> httpx.Response:
        has_room = 15.0 - 0.33 * (clock.mono() - full_at_s) + 1.0 + answers.count("served") <= 15.0
        answers.append("served" if has_room else "refused")
        return answer({}) if has_room else answer(None, error)

    async with make_rest(clock, handler) as rest:
        with pytest.raises(VenueUnavailable, match=error):
            await rest.private("OpenOrders")

        assert 15.0 == rest.counter.points(clock.mono())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rest.private, "BalanceEx")
            tasks.start_soon(rest.private, "OpenOrders")

    assert ["refused", "served", "served"] == answers
    assert sum(clock.slept_s) >= 3.0


async def test_call_that_waits_for_the_counter_does_not_hold_up_a_token(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that waits must not keep the private stream, and with it every exit, from its token."""
    seen: list[str] = []
    asleep, go_on = anyio.Event(), anyio.Event()

    async def sleep(_clock: object, duration_s: float) -> None:
        asleep.set()
        await go_on.wait()
        clock.mono_s += duration_s

    monkeypatch.setattr(type(clock), "sleep", sleep)

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path.rpartition("/")[2])
        return answer({"token": TOKEN, "expires": 900})

    async with make_rest(clock, handler) as rest:
        for _ in range(3):
            await rest.private("Ledgers")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rest.private, "Ledgers")
            await asleep.wait()
            await rest.websockets_token()
            go_on.set()

    assert ["Ledgers"] * 3 + ["GetWebSocketsToken", "Ledgers"] == seen


async def test_ledger_waits_longer_than_others_and_lets_them_pass(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ladder that settles an unknown order is not held up by the ledger, which has waited longer."""
    seen: list[str] = []

    async def sleep(_clock: object, duration_s: float) -> None:
        until_mono = clock.mono_s + duration_s
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        clock.mono_s = max(clock.mono_s, until_mono)

    monkeypatch.setattr(type(clock), "sleep", sleep)

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path.rpartition("/")[2])
        return answer({})

    async with make_rest(clock, handler, budget_wait_s=25.0) as rest:
        for _ in range(15):
            await rest.private("OpenOrders")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rest.private, "Ledgers")
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(rest.private, "TradesHistory")

    assert ["TradesHistory", "Ledgers"] == seen[15:]


async def test_lockout_stops_all_calls_without_another_one(clock) -> None:
    seen: list[int] = []

    def handler(_: httpx.Request) -> httpx.Response:
        seen.append(1)
        return answer(None, "EGeneral:Temporary lockout")

    async with make_rest(clock, handler) as rest:
        for _ in range(3):
            with pytest.raises(VenueUnavailable, match=r"lockout|locked us out"):
                await rest.private("BalanceEx")

    assert [1] == seen


async def test_token_is_a_secret(clock) -> None:
    async with make_rest(clock, lambda _: answer({"token": TOKEN, "expires": 900})) as rest:
        token = await rest.websockets_token()

    assert (TOKEN, False) == (token.reveal(), TOKEN in f"{token!r}{token}")


@pytest.mark.parametrize("result", [{"token": ["canary-token"]}, {"tokens": "canary-token"}, "canary-token", {}])
async def test_malformed_token_answer_is_unavailable_and_shows_nothing(clock, result: object):
    async with make_rest(clock, lambda _: answer(result)) as rest:
        with pytest.raises(VenueUnavailable) as caught:
            await rest.websockets_token()

    assert TOKEN not in f"{caught.value!r}{caught.value.__cause__!r}"


async def test_key_info_tells_rights_and_expiry(clock) -> None:
    result = {
        "api_key_name": "bot",
        "nonce_window": "0",
        "permissions": ["query-funds", "withdraw-funds"],
        "valid_until": "1800000000",
        "ip_allowlist": [""],
    }
    async with make_rest(clock, lambda _: answer(result)) as rest:
        info = await rest.api_key_info()

    assert ("bot", 0, ()) == (info.name, info.nonce_window, info.ip_allowlist)
    assert info.may_move_funds
    assert info.valid_until is not None
    assert 1_800_000_000 == info.valid_until.timestamp()


async def test_no_log_line_and_no_error_holds_key_signature_or_token(clock, caplog: pytest.LogCaptureFixture):
    """Goal: I15 for REST. Method: everything logs at DEBUG, calls succeed and fail, the text of all of it is read."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 2:
            raise httpx.ReadError("broken", request=request)
        return answer({"token": TOKEN, "expires": 900})

    with caplog.at_level(logging.DEBUG):
        async with make_rest(clock, handler) as rest:
            await rest.websockets_token()
            with pytest.raises(VenueUnavailable) as caught:
                await rest.websockets_token()
    signatures = [request.headers["API-Sign"] for request in seen]
    shown = f"{caplog.text}{caught.value!r}{caught.value.__cause__!r}{rest!r}{vars(rest)!r}"

    assert [] == [secret for secret in (API_KEY, PRIVATE_KEY, TOKEN, *signatures) if secret in shown]
    # nor does the error lead to the request and its headers
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
