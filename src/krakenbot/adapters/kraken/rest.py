"""Kraken's REST API over httpx: signed calls, answers checked, errors translated.

Enters: an endpoint's name and parameters. Leaves: the JSON text of its result. Called by venue_query.py, and for
tokens by the private stream. Reads only; orders go over the WebSocket. Raises VenueRejected for a definite refusal,
VenueUnavailable for everything that may be tried again. No error holds a header, a body or a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import anyio
import httpx
import msgspec
from attrs import field, frozen

from krakenbot.adapters.kraken.codec.preflight import decode_key_rights
from krakenbot.adapters.kraken.codec.rest import (
    Answer,
    decode_answer,
    decode_time,
    decode_token,
)
from krakenbot.adapters.kraken.errors import ErrorKind, error_kind, read_error
from krakenbot.adapters.kraken.nonce import NonceSource
from krakenbot.adapters.kraken.ratelimit import RestCounter, RestTier, goes_last
from krakenbot.adapters.kraken.signing import Credentials, sign
from krakenbot.domain.errors import ConfigError, VenueProtocolError, VenueUnavailable
from krakenbot.domain.preflight.keys import KeyRights
from krakenbot.domain.secret import Secret
from krakenbot.ports.clock import Clock

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_OK: Final = 200
_SERVER_ERROR: Final = 500
_MIB: Final = 1024 * 1024
_WAIT_MARGIN_S: Final = 0.05
_LET_PASS_S: Final = 0.5

T = TypeVar("T")


@frozen(kw_only=True)
class RestSettings:
    """Where and how to call; times in seconds.

    `timeout_s` bounds a whole call, `budget_wait_s` how long a private call may wait for the rate counter.
    `last_wait_s` is that of calls that go last: longer than the lowest tier's counter takes to leave them room beside
    everything that the engine asks in turn.
    """

    base_url: str = "https://api.kraken.com"
    user_agent: str = "krakenbot"
    timeout_s: float = 10.0
    connect_timeout_s: float = 5.0
    budget_wait_s: float = 30.0
    last_wait_s: float = 120.0
    max_body_bytes: int = 16 * _MIB
    max_connections: int = 4
    tier: RestTier = field(factory=RestTier)


class KrakenRest:
    """One account's REST access; without credentials only public calls. Close it with `aclose` or `async with`.

    `transport` replaces the network in tests.
    """

    def __init__(
        self,
        *,
        settings: RestSettings,
        clock: Clock,
        credentials: Credentials | None = None,
        nonces: NonceSource | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if (credentials is None) is not (nonces is None):
            raise ConfigError("credentials and a nonce source come together")
        self._settings = settings
        self._clock = clock
        self._credentials = credentials
        self._nonces = nonces
        # private calls of a key go one after the other: Kraken refuses nonces that arrive out of order
        self._in_turn = anyio.Lock()
        # calls that do not go last and have not been sent yet
        self._ahead = 0
        # from zero: what an earlier process left costs one refused read, which fills the counter (`_mind_limits`)
        self.counter = RestCounter(tier=settings.tier, now_mono=clock.mono())
        self._client = httpx.AsyncClient(
            base_url=settings.base_url,
            headers={"User-Agent": settings.user_agent},
            timeout=httpx.Timeout(settings.timeout_s, connect=settings.connect_timeout_s),
            limits=httpx.Limits(max_connections=settings.max_connections),
            http2=False,
            follow_redirects=False,
            trust_env=urlsplit(settings.base_url).hostname not in _LOOPBACK,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def mono(self) -> float:
        """Return the time by which the rate counter counts."""
        return self._clock.mono()

    async def public(self, endpoint: str, params: Mapping[str, str] | None = None) -> msgspec.Raw:
        """Call a public endpoint and return its result."""
        request = self._client.build_request("GET", f"/0/public/{endpoint}", params=dict(params or {}))
        return _result_of(await self._send(request, endpoint), endpoint)

    async def private(self, endpoint: str, params: Mapping[str, str] | None = None) -> msgspec.Raw:
        """Call a private endpoint that reads, and return its result; the call waits until the rate counter has room.

        A refused nonce is tried once more with a fresh one: the first call did not happen.
        """
        if self._credentials is None or self._nonces is None:
            raise ConfigError(f"{endpoint} needs an API key")
        for _ in range(2):
            self._ahead += not goes_last(endpoint)
            try:
                answer = await self._when_there_is_room(self._credentials, self._nonces, endpoint, params or {})
            finally:
                self._ahead -= not goes_last(endpoint)
            if not answer.errors or error_kind(answer.errors[0]) is not ErrorKind.NONCE:
                break
        return _result_of(answer, endpoint)

    async def websockets_token(self) -> Secret:
        """Return a fresh token for private channels and level3; it must be used within 15 minutes."""
        return readable(decode_token, await self.private("GetWebSocketsToken"))

    async def server_time(self) -> datetime:
        """Return the venue's time, in whole seconds."""
        return readable(decode_time, await self.public("Time"))

    async def api_key_info(self) -> KeyRights:
        """Return the rights and limits of the key."""
        return readable(decode_key_rights, await self.private("GetApiKeyInfo"))

    async def _when_there_is_room(
        self, credentials: Credentials, nonces: NonceSource, endpoint: str, params: Mapping[str, str]
    ) -> Answer:
        """Wait for the counter without holding up calls that may go first, then call.

        Raises VenueUnavailable when that would take longer than `budget_wait_s`, or `last_wait_s`.
        """
        is_last = goes_last(endpoint)
        may_wait_s = self._settings.last_wait_s if is_last else self._settings.budget_wait_s
        waited_s = 0.0
        while True:
            async with self._in_turn:
                wait_s = self.counter.wait_s(endpoint, self._clock.mono())
                if is_last and self._ahead:
                    wait_s = max(wait_s, _LET_PASS_S)
                if wait_s <= 0:
                    return await self._send_signed(credentials, nonces, endpoint, params)
            if waited_s + wait_s > may_wait_s:
                closed_s = self.counter.closed_s(self._clock.mono())
                why = "the venue has locked us out" if closed_s > 0 else "the REST rate counter is full"
                raise VenueUnavailable(f"{endpoint}: {why} for {wait_s:.0f} s")
            # a little more than needed: two that wait for the same room would else meet again and again
            wait_s += _WAIT_MARGIN_S
            waited_s += wait_s
            await self._clock.sleep(wait_s)

    async def _send_signed(
        self, credentials: Credentials, nonces: NonceSource, endpoint: str, params: Mapping[str, str]
    ) -> Answer:
        path = f"/0/private/{endpoint}"
        nonce = nonces.next()
        body = urlencode({"nonce": str(nonce), **params}).encode("ascii")
        request = self._client.build_request(
            "POST",
            path,
            content=body,
            headers={
                "Content-Type": "application/x-www-form-urlencoded",
                "API-Key": credentials.api_key.reveal(),
                "API-Sign": sign(credentials, path=path, nonce=nonce, body=body),
            },
        )
        self.counter.sent(endpoint)
        try:
            answer = await self._send(request, endpoint)
        finally:
            self.counter.ended(self._clock.mono())
        if answer.errors:
            self._mind_limits(answer.errors[0])
        return answer

    def _mind_limits(self, error: str) -> None:
        kind, mono = error_kind(error), self._clock.mono()
        if kind is ErrorKind.LOCKOUT:
            self.counter.locked_out(mono)
        elif kind is ErrorKind.RATE and "Throttled" in error:
            self.counter.throttled(error, self._clock.now().timestamp(), mono)
        elif kind is ErrorKind.RATE:
            self.counter.full(mono)

    async def _send(self, request: httpx.Request, endpoint: str) -> Answer:
        try:
            with anyio.fail_after(self._settings.timeout_s):
                response = await self._client.send(request, stream=True)
                try:
                    body = await self._read(response, endpoint)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise VenueUnavailable(f"{endpoint}: no answer within {self._settings.timeout_s} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # not chained: the httpx error carries the request with its headers
            raise VenueUnavailable(f"{endpoint}: {type(error).__name__}: {error}") from None
        status = response.status_code
        if status >= _SERVER_ERROR:
            raise VenueUnavailable(f"{endpoint}: HTTP {status}")
        try:
            answer = decode_answer(body)
        except VenueProtocolError as error:
            raise VenueUnavailable(f"{endpoint}: HTTP {status}: {error}") from error
        if status != _OK and not answer.errors:
            raise VenueUnavailable(f"{endpoint}: HTTP {status}")
        return answer

    async def _read(self, response: httpx.Response, endpoint: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._settings.max_body_bytes:
                raise VenueUnavailable(f"{endpoint}: answer larger than {self._settings.max_body_bytes} bytes")
            parts.append(part)
        return b"".join(parts)


def readable(decode: Callable[[msgspec.Raw], T], result: msgspec.Raw) -> T:
    """Return `decode(result)`; raises VenueUnavailable, since a read whose answer cannot be read may be repeated."""
    try:
        return decode(result)
    except VenueProtocolError as error:
        raise VenueUnavailable(str(error)) from error


def _result_of(answer: Answer, endpoint: str) -> msgspec.Raw:
    if answer.errors:
        raise read_error(answer.errors[0])
    if not bytes(answer.result):
        raise VenueUnavailable(f"{endpoint}: answer without result")
    return answer.result
