"""What the doctor asks the venue: reads only, each answered with facts or the reason why there are none.

Enters: REST access with or without a key, the URL of the public WebSocket. Leaves: facts for `domain.preflight`.
Called by `krakenbot doctor` and the start of execution. VenueUnavailable is raised where waiting may help, so that
the caller decides whether to wait or to report it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Final

import anyio
import msgspec
from attrs import frozen

from krakenbot.adapters.kraken.codec.preflight import (
    decode_bids,
    decode_status_frame,
    decode_volume,
)
from krakenbot.adapters.kraken.codec.rest import AssetPairs, decode_asset_pairs, decode_balances, decode_fee_rates
from krakenbot.adapters.kraken.execution_feed import ExecutionFeedSettings, KrakenExecutionFeed
from krakenbot.adapters.kraken.private_stream import PrivateStream, PrivateStreamSettings
from krakenbot.adapters.kraken.rest import KrakenRest, readable
from krakenbot.adapters.kraken.ws import Connection, ConnectionSettings
from krakenbot.domain.errors import VenueRejected, VenueUnavailable
from krakenbot.domain.execution.reports import VenueBalance
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.preflight.clock import ClockSample
from krakenbot.domain.preflight.keys import KeyFacts
from krakenbot.domain.preflight.venue import FeeFacts
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import Asset, Symbol
from krakenbot.ports.clock import Clock

_CLOCK_SAMPLES: Final = 3
_POLL_S: Final = 0.02
_SYMBOLS_MAX: Final = 100
"""Symbols of which fees and bids are asked for; enough to see a mistake, and one call each."""


@frozen(kw_only=True)
class StatusFrame:
    """What the venue says when a WebSocket opens; `upcoming` None when it does not speak of maintenances."""

    status: str
    upcoming: tuple[str, ...] | None


class _StatusSession:
    """Waits for the status frame, which the venue sends unasked, and is then done."""

    def __init__(self) -> None:
        self.found: StatusFrame | None = None

    def receive(self, text: str | bytes, now_mono: float) -> None:  # noqa: ARG002  # the protocol of sessions
        status = decode_status_frame(text)
        if status is not None:
            self.found = StatusFrame(status=status[0], upcoming=status[1])

    def to_send(self) -> list[str]:
        return []

    def next_deadline(self) -> float | None:
        return None

    def on_deadline(self, now_mono: float) -> None:
        pass

    @property
    def close_reason(self) -> str | None:
        return "status read" if self.found is not None else None


async def read_status(url: str, clock: Clock, timeout_s: float) -> StatusFrame:
    """Open the public WebSocket and return its status frame; raises VenueUnavailable when none comes in time."""
    session = _StatusSession()
    connection = Connection(url=url, session=session, clock=clock, settings=ConnectionSettings())
    reason = f"no status frame within {timeout_s:g} s"
    with anyio.move_on_after(timeout_s):
        reason = await connection.run()
    if session.found is None:
        raise VenueUnavailable(reason)
    return session.found


class _Reasons:
    """Keeps why the private stream closed: it would try again for ever."""

    def __init__(self) -> None:
        self.last: str | None = None

    def emit(self, name: str, **fields: object) -> None:
        if name == "private_stream_closed":
            self.last = str(fields["reason"])


class KrakenPreflight:
    """The doctor's questions over one REST client; names of pairs are read once."""

    def __init__(self, *, rest: KrakenRest, clock: Clock) -> None:
        self._rest = rest
        self._clock = clock
        self._pairs: AssetPairs | None = None

    async def clock_samples(self, pause_s: float) -> tuple[ClockSample, ...]:
        """Ask for the venue's time a few times; with pauses between, whole seconds tell more than one of them does."""
        samples = [await self._clock_sample()]
        while len(samples) < _CLOCK_SAMPLES:
            await self._clock.sleep(pause_s)
            samples.append(await self._clock_sample())
        return tuple(samples)

    async def key(self, process: str, api_key: Secret, *, with_token: bool) -> KeyFacts:
        """Return what the venue says of the key that signs here; two calls in a row try its nonces.

        Raises VenueUnavailable when the venue did not answer. A refused nonce was tried twice, by the REST client.
        """
        digest = hashlib.sha256(b"krakenbot key " + api_key.reveal().encode()).hexdigest()[:16]
        try:
            await self._rest.api_key_info()
            rights = await self._rest.api_key_info()
        except VenueRejected as error:
            return KeyFacts(process=process, fingerprint=digest, refused=error.reason)
        token = await self._token() if with_token else None
        return KeyFacts(process=process, fingerprint=digest, rights=rights, token=token)

    async def instruments(self) -> dict[Symbol, Instrument]:
        """Return all pairs by symbol."""
        return {one.symbol: one for one in (await self._asset_pairs()).instruments}

    async def bids(self, symbols: Sequence[Symbol]) -> dict[Symbol, Decimal]:
        """Return best bids of those symbols that the venue lists."""
        pairs = await self._asset_pairs()
        named = self._named(pairs, symbols)
        if not named:
            return {}
        result = await self._rest.public("Ticker", {"pair": ",".join(named)})
        return readable(partial(decode_bids, names=pairs.names), result)

    async def fees(self, symbols: Sequence[Symbol]) -> FeeFacts:
        """Return the account's fees of those symbols that the venue lists, and its volume."""
        pairs = await self._asset_pairs()
        result = await self._rest.private("TradeVolume", {"pair": ",".join(self._named(pairs, symbols))})
        rates = readable(partial(decode_fee_rates, names=pairs.names), result)
        volume, currency = readable(decode_volume, result)
        return FeeFacts(
            rates={symbol: (rate.maker_bps, rate.taker_bps) for symbol, rate in rates.items()},
            volume=volume,
            volume_asset=pairs.names.asset_of(currency) if currency else "",
        )

    async def balances(self) -> dict[Asset, VenueBalance]:
        """Return all balances with holds."""
        names = (await self._asset_pairs()).names
        result: msgspec.Raw = await self._rest.private("BalanceEx")
        return readable(partial(decode_balances, names=names), result)

    async def max_ratecount(self, url: str, timeout_s: float) -> int:
        """Subscribe to the account's executions and return the trading counter's threshold that the venue states.

        Raises VenueUnavailable when the stream does not answer in time, or says nothing of a threshold.
        """
        told = _Reasons()
        stream = PrivateStream(
            url=url,
            tokens=self._rest.websockets_token,
            clock=self._clock,
            events=told,
            settings=PrivateStreamSettings(),
        )
        feed = KrakenExecutionFeed(stream=stream, settings=ExecutionFeedSettings())
        with anyio.move_on_after(timeout_s):
            async with feed.open():
                while feed.max_ratecount is None and told.last is None:
                    await self._clock.sleep(_POLL_S)
                if feed.max_ratecount is not None:
                    return feed.max_ratecount
        raise VenueUnavailable(told.last or f"no acknowledgement with a threshold within {timeout_s:g} s")

    async def _clock_sample(self) -> ClockSample:
        sent_at = self._clock.now()
        venue_at = await self._rest.server_time()
        return ClockSample(sent_at=sent_at, received_at=self._clock.now(), venue_at=venue_at)

    async def _token(self) -> str:
        try:
            await self._rest.websockets_token()
        except VenueRejected as error:
            return error.reason
        return ""

    async def _asset_pairs(self) -> AssetPairs:
        if self._pairs is None:
            self._pairs = readable(decode_asset_pairs, await self._rest.public("AssetPairs"))
        return self._pairs

    @staticmethod
    def _named(pairs: AssetPairs, symbols: Sequence[Symbol]) -> list[str]:
        known = pairs.names.rest_name_by_symbol
        return [known[symbol] for symbol in symbols if symbol in known][:_SYMBOLS_MAX]
