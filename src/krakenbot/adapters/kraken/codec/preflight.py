"""Answers that say whether a process may start: the key's rights, best bids, traded volume, the status frame.

Enters: results of REST calls, one frame of the public WebSocket. Leaves: facts, or VenueProtocolError. A field that
the venue leaves out stays unknown, it is never taken for a good one. GetApiKeyInfo is documented with names in
snake_case; names in camelCase have been seen in examples, and both are read.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from krakenbot.adapters.kraken.codec.envelope import BAD_INPUT, readable
from krakenbot.adapters.kraken.codec.private import bounded
from krakenbot.adapters.kraken.codec.rest import PairNames, decode_as, instant_of
from krakenbot.domain.errors import VenueProtocolError
from krakenbot.domain.preflight.keys import KeyRights
from krakenbot.domain.values import Symbol

_TEXT_MAX: Final = 160
_PLANNED_MAX: Final = 5


class _KeyInfo(msgspec.Struct):
    permissions: list[str]
    api_key_name: str = ""
    nonce_window: int | str | None = None
    nonce_window_camel: int | str | None = msgspec.field(name="nonceWindow", default=None)
    valid_until: int | str | None = None
    valid_until_camel: int | str | None = msgspec.field(name="validUntil", default=None)
    ip_allowlist: list[str] | None = None
    ip_allowlist_camel: list[str] | None = msgspec.field(name="ipAllowlist", default=None)


class _TickerRow(msgspec.Struct):
    b: list[Decimal]


class _Volume(msgspec.Struct):
    currency: str = ""
    volume: Decimal | None = None


class _StatusRow(msgspec.Struct):
    system: str
    upcoming_maintenance: list[dict[str, Any]] | None = None


class _StatusFrame(msgspec.Struct):
    channel: str = ""
    data: list[_StatusRow] | None = None


def decode_key_rights(result: msgspec.Raw) -> KeyRights:
    """Return what GetApiKeyInfo says of the key; raises VenueProtocolError without a list of permissions."""
    info = decode_as(result, _KeyInfo, "GetApiKeyInfo")
    window = _whole(info.nonce_window, info.nonce_window_camel, "nonce_window")
    until = _whole(info.valid_until, info.valid_until_camel, "valid_until")
    addresses = info.ip_allowlist_camel if info.ip_allowlist is None else info.ip_allowlist
    return KeyRights(
        permissions=frozenset(info.permissions),
        expires=None if until is None else until != 0,
        valid_until=instant_of(Decimal(until)) if until else None,
        ip_allowlist=None if addresses is None else tuple(address for address in addresses if address),
        nonce_window=window,
        name=info.api_key_name,
    )


def decode_bids(result: msgspec.Raw, names: PairNames) -> dict[Symbol, Decimal]:
    """Return the best bids of Ticker; a pair without one is left out."""
    rows = decode_as(result, dict[str, _TickerRow], "Ticker")
    return {names.symbol_of(name): bounded(row.b[0]) for name, row in rows.items() if row.b and row.b[0] > 0}


def decode_volume(result: msgspec.Raw) -> tuple[Decimal | None, str]:
    """Return the 30-day volume of TradeVolume and its currency as the venue names it."""
    volume = decode_as(result, _Volume, "TradeVolume")
    return (None if volume.volume is None else bounded(volume.volume)), volume.currency


def decode_status_frame(frame: str | bytes) -> tuple[str, tuple[str, ...] | None] | None:
    """Return the venue's mode and the planned maintenances of a status frame; None for any other frame.

    The maintenances are None when the venue does not speak of them.
    """
    try:
        status = msgspec.json.decode(frame, type=_StatusFrame)
    except BAD_INPUT:
        return None
    if status.channel != "status" or not status.data:
        return None
    row = status.data[0]
    if row.upcoming_maintenance is None:
        return row.system, None
    return row.system, tuple(_planned(one) for one in row.upcoming_maintenance[:_PLANNED_MAX])


def _planned(row: dict[str, Any]) -> str:
    title = str(row.get("title") or row.get("event_id") or "maintenance")
    start, end = row.get("expected_start_utc"), row.get("expected_end_utc")
    return readable(f"{title}, {start or '?'} to {end or '?'}", _TEXT_MAX)


def _whole(snake: int | str | None, camel: int | str | None, name: str) -> int | None:
    value = camel if snake is None else snake
    try:
        return None if value is None or value == "" else int(Decimal(value))
    except (InvalidOperation, ValueError, OverflowError):
        raise VenueProtocolError(f"GetApiKeyInfo not as documented: $.{name}") from None
