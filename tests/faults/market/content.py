"""Frames that are lost, doubled, wrong or strange."""

from __future__ import annotations

from tests.faults.fault import Dark, Fault
from tests.faults.market.steps import NO_DATA

FAULTS = (
    Fault(name="a book's update comes twice", rules=("5 times at public.book.update: duplicate",)),
    Fault(name="a trade comes twice", rules=("3 times at public.trade.update: duplicate",), hold_s=8.0),
    Fault(name="a level3 update comes twice", rules=("5 times at level3.level3.update: duplicate",)),
    Fault(name="ten times the tickers", rules=("for 5 s: duplicate public.ticker.update 9 times",), hold_s=6.0),
    # Of the busiest symbol: only a message after it tells that one is missing, and a book that rests has none.
    Fault(name="a book's update is lost", rules=("3 times at public.book.update of {symbol}: lose",), hold_s=5.0),
    Fault(name="a level3 update is lost", rules=("3 times at level3.level3.update of {symbol}: lose",), hold_s=5.0),
    Fault(name="trades are lost", rules=("3 times at public.trade.update: lose",), hold_s=10.0),
    Fault(name="updates of a book change places", rules=("3 times at public.book.update: swap with next",)),
    Fault(name="a wrong checksum once, book", rules=("once at public.book.update: corrupt checksum",)),
    Fault(name="a wrong checksum once, level3", rules=("once at level3.level3.update: corrupt checksum",)),
    Fault(
        name="wrong checksums for ever, one symbol",
        rules=("at public.book of {symbol}: corrupt checksum", "at level3.level3 of {symbol}: corrupt checksum"),
        hold_s=25.0,
        stays=True,
        channels=("book", "level3"),
    ),
    Fault(
        name="wrong checksums for 40 s, every book",
        rules=("at public.book: corrupt checksum",),
        renew="public",
        hold_s=40.0,
        dark=Dark(epoch_after_s=12.0, blocked_after_s=12.0, codes=NO_DATA),
        # A minute of quarantine, 600 books at ten resyncs a second, a minute until the universe takes them back.
        recover_within_s=200.0,
    ),
    Fault(
        name="a crossed book with a right checksum",
        rules=("once at public.book.snapshot: cross book",),
        renew="public",
    ),
    Fault(name="an empty book", rules=("once at public.book.snapshot: empty book",), renew="public"),
    Fault(
        name="an update before the snapshot",
        rules=("once at public.book.snapshot: insert update",),
        renew="public",
    ),
    Fault(name="half a frame", rules=("3 times at public.book.update: truncate",)),
    Fault(name="half a frame of a trade", rules=("once at public.trade.update of {symbol}: truncate",), hold_s=10.0),
    Fault(name="half a frame of level3", rules=("3 times at level3.level3.update: truncate",)),
    Fault(
        name="text that is no JSON",
        rules=('once at public.frame: insert text "CloudFlare WebSocket proxy restarting"',),
    ),
    Fault(
        name="JSON of no form",
        rules=('3 times at public.frame: insert text "[1,2"', '3 times at public.frame: insert text "[]"'),
    ),
    Fault(name="a binary frame", rules=("3 times at public.book.update: send as binary",)),
    Fault(
        name="unknown fields",
        rules=(
            '50 times at public.book.update: set data.0.mystery to "new"',
            '3 times at public.trade.update: set data.0.mystery to "new"',
        ),
        hold_s=8.0,
    ),
    Fault(name="a field is missing", rules=("once at public.book.update: remove data.0.checksum",)),
    Fault(name="a checksum that is no number", rules=("once at public.book.update: set data.0.checksum to 1e999999",)),
    Fault(
        name="a quantity that is no number",
        rules=('20 times at public.book.update: set data.0.bids.0.qty to "none"',),
    ),
    Fault(
        name="a frame of 1 MB",
        rules=("3 times at public.book.update: bloat to 1024 kb", "once at level3.level3.update: bloat to 1024 kb"),
    ),
    Fault(name="a frame of 8 MB", rules=("once at public.book.update: bloat to 8192 kb",)),
    Fault(name="times an hour back", rules=("3 times at public.book.update: shift timestamps by -1 h",)),
)
