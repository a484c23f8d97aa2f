"""Subscriptions that went silent while something else says that there was something to tell.

Enters: hints that a symbol moved, and when it was last heard. Leaves: symbols whose subscription is dead though the
connection lives. Called by the public and level3 sessions. A quiet market gives no hints, so it is never taken for a
dead one.
"""

from __future__ import annotations

from collections.abc import Callable

from krakenbot.domain.values import Symbol

_TOGETHER_S = 2.0


class SilenceWatch:
    """Hints of one channel: a symbol is silent when a hint has gone unanswered for `patience_s`.

    A message up to 2 s before the hint answers it too: the venue does not send two channels in step.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._hinted_mono: dict[Symbol, float] = {}

    def hint(self, symbol: Symbol, now_mono: float) -> None:
        """Take notice that the symbol moved."""
        self._hinted_mono.setdefault(symbol, now_mono)

    def clear(self, symbol: Symbol) -> None:
        """Forget the hints of a symbol."""
        self._hinted_mono.pop(symbol, None)

    def silent(self, heard_mono: Callable[[Symbol], float | None], now_mono: float) -> list[Symbol]:
        """Return the silent symbols and forget their hints; `heard_mono` gives None for what is not to be watched."""
        found: list[Symbol] = []
        for symbol, hinted_mono in list(self._hinted_mono.items()):
            heard = heard_mono(symbol)
            if heard is None or heard >= hinted_mono - _TOGETHER_S:
                del self._hinted_mono[symbol]
            elif now_mono - hinted_mono >= self._patience_s:
                del self._hinted_mono[symbol]
                found.append(symbol)
        return found
