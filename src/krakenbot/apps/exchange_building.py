"""Build an exchange from its options: venue, accounts, keys, record and flow, with open books.

`krakenbot exchange` calls it, and tests that serve an exchange in their own process.
"""

from __future__ import annotations

import base64
from decimal import Decimal
from random import Random
from typing import BinaryIO

import attrs

from krakenbot.adapters.local_exchange.flow.instruments import choose_symbols, load_assets, load_instruments
from krakenbot.adapters.local_exchange.flow.market import Flow, Market
from krakenbot.adapters.local_exchange.flow.recorded import RecordedFlow
from krakenbot.adapters.local_exchange.flow.recording import find_recordings
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.flow.still import StillFlow
from krakenbot.adapters.local_exchange.keys import (
    PERMISSIONS,
    AccountEntry,
    KeyEntry,
    KeyRing,
    parse_accounts,
)
from krakenbot.adapters.local_exchange.limits.settings import LimitSettings
from krakenbot.adapters.local_exchange.matching.fees import parse_pair_fees
from krakenbot.adapters.local_exchange.matching.settings import VenueSettings, parse_rules
from krakenbot.adapters.local_exchange.matching.venue import Venue
from krakenbot.adapters.local_exchange.pacing import PacedFlow
from krakenbot.adapters.local_exchange.playback.catalog import Catalog, survey
from krakenbot.adapters.local_exchange.playback.flow import PlaybackFlow, make_playback_markets
from krakenbot.adapters.local_exchange.playback.reader import Recording
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.record import RecordOfTruth
from krakenbot.adapters.local_exchange.venue_clock import RunningClock, VenueClock
from krakenbot.apps.exchange_options import ExchangeOptions

PPM_PER_BP = 100


def build(
    options: ExchangeOptions,
    entries: list[AccountEntry],
    clock: VenueClock,
    record_file: BinaryIO | None,
) -> tuple[Exchange, PacedFlow]:
    """Return an exchange with open books, ready to be served."""
    catalog = survey(Recording(options.recording)) if options.flow == "playback" and options.recording else None
    settings = VenueSettings(
        seed=options.seed,
        maker_ppm=round(options.maker_fee_bps * PPM_PER_BP),
        taker_ppm=round(options.taker_fee_bps * PPM_PER_BP),
        fees=options.fees,
        pair_fees=parse_pair_fees(options.pair_fees),
        stop_holds=options.stop_holds,
        post_only_reject=options.post_only_reject,
        keep_closed=options.keep_closed,
    )
    settings = attrs.evolve(settings, **parse_rules(options.rules))
    if catalog is None:
        listed = load_instruments()
        venue = Venue({symbol: listed[symbol] for symbol in choose_symbols(options.symbols)}, settings)
    else:
        venue = Venue(catalog.rules, settings)
        make_playback_markets(venue)
    _check_assets(entries, venue)
    keys = KeyRing(options.seed)
    for entry in entries:
        account = venue.open_account(entry.name, entry.balances, tier=entry.tier, volume_usd=entry.volume_usd)
        for key in entry.keys:
            keys.add_entry(key, account)
    record = RecordOfTruth(venue, record_file)
    built = Exchange(venue, keys, record, clock, LimitSettings.of(options.limits))
    flow = PacedFlow(_make_flow(options, built, catalog))
    venue.open(flow, clock.now_ns())
    record.deposits()
    return built, flow


def account_entries(options: ExchangeOptions) -> list[AccountEntry]:
    """Return the accounts of the file, or the demo account; raises ValueError or OSError when it cannot be read."""
    if options.accounts is not None:
        try:
            return parse_accounts(options.accounts.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{options.accounts}: {error}") from error
    random = Random(f"demo-{options.seed}")  # noqa: S311, a key of a loopback peer
    key = KeyEntry(
        api_key=base64.b64encode(random.randbytes(42)).decode(),
        secret=random.randbytes(64),
        permissions=frozenset(PERMISSIONS),
    )
    return [AccountEntry(name="demo", keys=[key], balances={"USD": Decimal(25_000)})]


def steady_clock() -> RunningClock:
    """Return a clock of real time."""
    return RunningClock()


def _check_assets(entries: list[AccountEntry], venue: Venue) -> None:
    known = set(load_assets()).union(*((market.rules.base, market.rules.quote) for market in venue.markets.values()))
    for entry in entries:
        unknown = sorted(set(entry.balances) - known)
        if unknown:
            names = "names are those of WebSocket v2, such as BTC and USD, not XBT and ZUSD"
            raise ValueError(f"account {entry.name}: no asset {', '.join(unknown)}; {names}")


def _make_flow(options: ExchangeOptions, built: Exchange, catalog: Catalog | None) -> Flow:
    if catalog is not None:
        return PlaybackFlow(
            built.venue,
            built.public,
            catalog,
            at_end=options.at_end,
            seed=options.seed,
            profile=options.profile,
            starts_after_ns=round(options.start_after_s * 1e9),
        )
    markets: dict[str, Market] = dict(built.venue.markets)
    if options.flow != "recorded":
        seeded = SeededFlow(markets, profile=options.profile, seed=options.seed, activity=options.activity)
        return StillFlow(seeded) if options.flow == "still" else seeded
    folder = find_recordings(options.recording)
    return RecordedFlow(markets, recording_dir=folder, seed=options.seed, profile=options.profile)
