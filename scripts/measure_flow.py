"""Measure the seeded flow of every profile on the exchange's own matching and write the table in docs/flow.md.

The table stands between two marks; nothing in it is typed by hand. Also prints CPU time per event.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from attrs import asdict

from krakenbot.adapters.local_exchange.flow.instruments import choose_symbols, load_instruments
from krakenbot.adapters.local_exchange.flow.measure import FlowReport, measure_flow
from krakenbot.adapters.local_exchange.flow.parameters import PROFILES
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.matching.book import Changes, RestingOrder, Trade
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder

PAGE = Path(__file__).parents[1] / "docs/flow.md"
MARK = "<!-- measured: written by scripts/measure_flow.py -->"
SYMBOLS = 7
DURATION_S = 900
SEEDS = (1, 2, 3)


class QuietDesk:
    """A venue without clients: nothing to settle, nobody to tell."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._number = 0

    def next_number(self) -> int:
        """Return a fresh order number."""
        self._number += 1
        return self._number

    def settle(self, market: VenueMarket, trade: Trade, taker: ClientOrder | None, maker: RestingOrder) -> None:
        """Book nothing: no client takes part."""

    def self_trade(self, taker: ClientOrder, maker: ClientOrder) -> bool:  # noqa: ARG002  # the desk's protocol
        """Refuse: there are no clients."""
        raise AssertionError("no clients here")

    def publish(self, market: VenueMarket, changes: Changes) -> None:
        """Tell nobody."""


def measure(profile: str, seed: int) -> FlowReport:
    """Run one profile and seed over simulated time."""
    rules, desk = load_instruments(), QuietDesk()
    markets = {symbol: VenueMarket(rules[symbol], desk) for symbol in choose_symbols(SYMBOLS)}
    flow = SeededFlow(markets, profile=profile, seed=seed)  # type: ignore[arg-type]
    begin = time.process_time()

    def set_time(now_ns: int) -> None:
        desk.now_ns = now_ns

    report = measure_flow(flow, markets, start_ns=1_700_000_000_000_000_000, duration_s=DURATION_S, set_time=set_time)
    spent = time.process_time() - begin
    print(
        f"{profile} seed {seed}: {1e6 * spent / flow.events.done:.0f} µs per event, {flow.events.done} events",
        file=sys.stderr,
    )
    return report


def table() -> str:
    """Return the markdown tables of all profiles and seeds."""
    lines = [
        MARK,
        f"{SYMBOLS} symbols, {DURATION_S} s of simulated time per seed. Depth is the 5th percentile in USD.",
    ]
    for profile in PROFILES:
        reports = {seed: measure(profile, seed) for seed in SEEDS}
        columns = list(asdict(next(iter(reports[SEEDS[0]].symbols.values()))))
        lines += ["", f"### {profile}", "", "| seed | symbol | " + " | ".join(columns) + " |"]
        lines.append("|" + "---|" * (len(columns) + 2))
        for seed, report in reports.items():
            for symbol, measures in report.symbols.items():
                lines.append(f"| {seed} | {symbol} | " + " | ".join(map(figure, asdict(measures).values())) + " |")
        lines += ["", "Naive maker at the bid, zero fee:", "", "| seed | horizon_s | fills | mean_bps | t |"]
        lines.append("|---|---|---|---|---|")
        for seed, report in reports.items():
            for markout in report.markouts.values():
                lines.append(f"| {seed} | " + " | ".join(map(figure, asdict(markout).values())) + " |")
    return "\n".join(lines) + "\n"


def figure(value: float) -> str:
    """Return a figure with as many digits as it deserves."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def main() -> None:
    """Replace everything behind the mark."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, _ = text.partition(MARK)
    PAGE.write_text(head + table(), encoding="utf-8")


if __name__ == "__main__":
    main()
