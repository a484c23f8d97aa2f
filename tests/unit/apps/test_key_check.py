"""A key that may move funds is refused before anything starts."""

from __future__ import annotations

import base64
import io
import json

import httpx
import pytest

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.nonce import NonceSource
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.telemetry.events import StructuredEvents
from krakenbot.apps import processes
from krakenbot.apps.processes import refuse_withdrawal
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.secret import Secret

INFO = {
    "apiKeyName": "bot",
    "apiKey": "shown",
    "nonce": "1",
    "nonceWindow": 0,
    "permissions": ["query-funds", "modify-trades"],
    "iban": "",
    "validUntil": "0",
    "queryFrom": "0",
    "queryTo": "0",
    "createdTime": "1",
    "modifiedTime": "1",
    "ipAllowlist": [],
    "lastUsed": "1",
}


def make_rest(answers: list[httpx.Response]) -> KrakenRest:
    clock = SystemClock()
    return KrakenRest(
        settings=RestSettings(base_url="http://127.0.0.1:1"),
        clock=clock,
        credentials=Credentials(api_key=Secret("k"), private_key=Secret(base64.b64encode(b"s").decode())),
        nonces=NonceSource(clock=clock),
        transport=httpx.MockTransport(lambda _: answers.pop(0)),
    )


def answer(permissions: list[str]) -> httpx.Response:
    return httpx.Response(200, json={"error": [], "result": INFO | {"permissions": permissions}})


async def check(answers: list[httpx.Response]) -> str:
    stream = io.StringIO()
    events = StructuredEvents(clock=SystemClock(), stream=stream, process="t", as_json=True)
    async with make_rest(answers) as rest:
        await refuse_withdrawal(rest, "execution", SystemClock(), events)
    return stream.getvalue()


async def test_a_key_that_trades_only_is_taken() -> None:
    assert await check([answer(["query-funds", "modify-trades", "close-trades"])]) == ""


@pytest.mark.parametrize("right", ["withdraw-funds", "add-funds"])
async def test_a_key_that_may_move_funds_is_refused_by_name(right: str) -> None:
    with pytest.raises(ConfigError, match=rf"execution API key may move funds .*{right}"):
        await check([answer(["query-funds", right])])


async def test_a_key_that_the_venue_refuses_is_said() -> None:
    refused = httpx.Response(200, json={"error": ["EAPI:Invalid key"], "result": None})

    with pytest.raises(ConfigError, match="EAPI:Invalid key"):
        await check([refused])


async def test_a_venue_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "KEY_RETRY_S", 0.0)

    said = await check([httpx.Response(503, text="<html>"), answer(["query-funds"])])

    assert json.loads(said)["event"] == "start_waiting"
