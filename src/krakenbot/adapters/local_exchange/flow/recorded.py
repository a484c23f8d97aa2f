"""Recorded order flow: one live session of four symbols, then seeded flow from the books as they stand.

In: markets that are empty, the recordings' folder, a seed and a profile. Out: as `SeededFlow`. Symbols that were
not recorded run seeded from the start. The seam, and everything that had to be reconciled, is reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from krakenbot.adapters.local_exchange.flow.market import Market, Side
from krakenbot.adapters.local_exchange.flow.parameters import Profile, SymbolParameters, describe
from krakenbot.adapters.local_exchange.flow.playback import Playback
from krakenbot.adapters.local_exchange.flow.recording import load_recording
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.flow.symbol_flow import SymbolFlow


class RecordedFlow:
    """Play the recording once, then go on seeded with fitted numbers where they are identified.

    `fit` is in the form of `fitted.json`, which is what None means.

    Raises FileNotFoundError, naming KRAKENBOT_RECORDINGS, when the session is not in `recording_dir`.
    """

    def __init__(
        self,
        markets: Mapping[str, Market],
        *,
        recording_dir: Path,
        seed: int,
        profile: Profile,
        fit: Mapping[str, Any] | None = None,
    ) -> None:
        self._markets = markets
        self._profile: Profile = profile
        self._fit = load_fit() if fit is None else fit
        self._seed = seed
        self._seeded = SeededFlow(markets, profile=profile, seed=seed)
        self._origins: dict[str, str] = {}
        self._recording = load_recording(recording_dir, {symbol: market.rules for symbol, market in markets.items()})
        self._playbacks = {
            symbol: Playback(markets[symbol], recording) for symbol, recording in self._recording.items()
        }
        self._seams: dict[str, dict[str, float]] = {}
        self._opened_at_ns = 0
        for symbol in self._recording:
            self._seeded.symbols[symbol] = self._fitted_symbol_flow(symbol)

    @property
    def seam(self) -> dict[str, dict[str, float]]:
        """Return per recorded symbol when seeded flow took over and what was reconciled; empty before it."""
        return self._seams

    def open(self, now_ns: int) -> None:
        """Build the opening books and schedule the recorded events."""
        self._opened_at_ns = now_ns
        for symbol, flow in self._seeded.symbols.items():
            recording = self._recording.get(symbol)
            if recording is None:
                flow.open(now_ns)
                continue
            self._playbacks[symbol].open()
            self._schedule_next(symbol, 0)

    def next_at_ns(self) -> int:
        """Return when the next event is due."""
        return self._seeded.next_at_ns()

    def step(self, now_ns: int) -> None:
        """Carry out every event due at or before `now_ns`."""
        self._seeded.step(now_ns)

    def last_price_ticks(self, symbol: str) -> int:
        """Return the mid while the recording plays, then the latent price."""
        if symbol in self._recording and symbol not in self._seams:
            return round(self._mid_ticks(symbol))
        return self._seeded.last_price_ticks(symbol)

    def parameters(self) -> dict[str, object]:
        """Return every number with its origin, the fit behind it, and the seam as far as it is known."""
        numbers = {symbol: flow.parameters for symbol, flow in self._seeded.symbols.items()}
        return {
            "flow": "recorded",
            **describe(self._profile, self._seed, numbers, self._origins),
            "fit": self._fit,
            "seam": self._seams,
        }

    def _fitted_symbol_flow(self, symbol: str) -> SymbolFlow:
        state = self._recording[symbol].opening_state()
        numbers, origins = fitted_parameters(symbol, self._fit)
        self._origins |= {f"{symbol}.{name}": origin for name, origin in origins.items()}
        mid = (state.bids[0][0] + state.asks[0][0]) / 2
        return self._seeded.make_symbol_flow(self._markets[symbol], numbers, mid)

    def _schedule_next(self, symbol: str, index: int) -> None:
        events = self._recording[symbol].events
        last = index == len(events)
        at_ns = self._opened_at_ns + (events[-1].at_ns + 1 if last else events[index].at_ns)

        def play(now_ns: int, argument: int) -> None:
            if argument == len(events):
                self._hand_over(symbol, now_ns)
            else:
                self._playbacks[symbol].play(argument)
                self._schedule_next(symbol, argument + 1)

        self._seeded.events.schedule(at_ns, play, index)

    def _hand_over(self, symbol: str, now_ns: int) -> None:
        """Let the seeded participants take over the resting orders and trade on."""
        playback, flow = self._playbacks[symbol], self._seeded.symbols[symbol]
        resting = playback.resting()
        mid = self._mid_ticks(symbol)
        recording = self._recording[symbol]
        final = [state for state in recording.states if state.at_ns <= recording.events[-1].at_ns][-1]
        recorded_mid = (final.bids[0][0] + final.asks[0][0]) / 2
        self._seams[symbol] = {
            "at_s": round((now_ns - self._opened_at_ns) / 1e9, 3),
            "adopted_orders": len(resting),
            "mid_error_bps": round((mid / recorded_mid - 1) * 10_000, 3),
            **playback.counts,
        }
        take_over(flow, now_ns, mid, resting)

    def _mid_ticks(self, symbol: str) -> float:
        market = self._markets[symbol]
        bid, ask = market.best("buy"), market.best("sell")
        if bid is None or ask is None:
            return self._seeded.symbols[symbol].latent.now
        return (bid + ask) / 2


def take_over(flow: SymbolFlow, now_ns: int, mid_ticks: float, resting: list[tuple[int, Side, int]]) -> None:
    """Let seeded participants own the resting orders (order_id, side, price_ticks) and trade on from a mid price."""
    flow.latent.now = mid_ticks
    for order_id, side, price_ticks in resting:
        flow.adopt(now_ns, side, price_ticks, order_id)
    flow.start(now_ns)


@cache
def load_fit() -> dict[str, Any]:
    """Return the committed fit: by symbol what was measured (value, count, interval) and the parameters found."""
    text = resources.files(__package__).joinpath("fitted.json").read_text(encoding="utf-8")
    fit: dict[str, Any] = json.loads(text)
    return fit


def fitted_parameters(symbol: str, fit: Mapping[str, Any]) -> tuple[SymbolParameters, dict[str, str]]:
    """Return a symbol's parameters as the fit has them, and the origin of each: fitted, a printed prior, or chosen."""
    found: dict[str, dict[str, Any]] = fit["parameters"][symbol]
    values: dict[str, Any] = {
        name: tuple(item["value"]) if isinstance(item["value"], list) else item["value"] for name, item in found.items()
    }
    return SymbolParameters(**values), {name: item["origin"] for name, item in found.items()}
