"""Standing of symbols over time: which ones may trade, be watched or be queued for, after what was seen of them.

Enters: instruments, and the troubles that the feed reports, at each universe refresh. Leaves: what leaves which layer,
each with its reason. Called by the epoch publisher of ingest. Theory: leaving is slow and coming back is slower, so
that a symbol on the edge changes no layer twice in a short time.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from attrs import define, field, frozen
from attrs.validators import ge

from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.values import Symbol


class Layer(enum.StrEnum):
    """What a trouble concerns: the L2 data of a symbol, its L3 queue, or its status at the venue."""

    L2 = "l2"
    L3 = "l3"
    STATUS = "status"


@frozen(kw_only=True)
class StandingSettings:
    """Patience with symbols in trouble; seconds.

    `suspend_after_s`: for how long a trouble was seen when a symbol leaves the execution set. `bar_after_s`: when it
    is no longer subscribed. `rest_s`: how long it then stays away. `clean_after_s`: how long all must be well before a
    trouble counts as over; a shorter break does not end it. `status_patience_s`: how long a symbol that is not online
    stays subscribed.
    """

    suspend_after_s: float = field(default=30.0, validator=ge(0.0))
    bar_after_s: float = field(default=300.0, validator=ge(0.0))
    rest_s: float = field(default=3600.0, validator=ge(1.0))
    clean_after_s: float = field(default=60.0, validator=ge(0.0))
    status_patience_s: float = field(default=900.0, validator=ge(0.0))


@frozen(kw_only=True)
class Trouble:
    """One thing that is wrong with a symbol now; `for_ever` when the venue says that waiting will not help."""

    symbol: Symbol
    layer: Layer
    reason: str
    for_ever: bool = False


@frozen(kw_only=True)
class Standing:
    """Symbols with the reason why: `barred` from every layer, `barred_l3` from L3, `suspended` from execution."""

    barred: Mapping[Symbol, str] = field(factory=dict)
    barred_l3: Mapping[Symbol, str] = field(factory=dict)
    suspended: Mapping[Symbol, str] = field(factory=dict)


@define
class _Case:
    """A trouble from its beginning; `barred_until_mono` once the symbol was sent away."""

    since_mono: float
    seen_mono: float
    reason: str
    barred_until_mono: float | None = None

    @property
    def lasted_s(self) -> float:
        """Return from when to when it was seen: a trouble that is gone grows no older."""
        return self.seen_mono - self.since_mono


class StandingKeeper:
    """Remembers the troubles of every symbol; bounded by the number of symbols that the venue lists."""

    def __init__(self, settings: StandingSettings) -> None:
        self._settings = settings
        self._cases: dict[tuple[Symbol, Layer], _Case] = {}

    def observe(self, instruments: Iterable[Instrument], troubles: Iterable[Trouble], at_mono: float) -> Standing:
        """Take notice of what is wrong now, and return who leaves what.

        A symbol that is not online leaves the execution set at once, and stays subscribed for a while if it was:
        a maintenance should not cost its history. A delisted one is barred at once.
        """
        statuses = {instrument.symbol: instrument.status for instrument in instruments}
        for symbol, status in statuses.items():
            if status is not InstrumentStatus.ONLINE:
                self._see(Trouble(symbol=symbol, layer=Layer.STATUS, reason=f"status {status}"), at_mono)
        for trouble in troubles:
            self._see(trouble, at_mono)
        self._forget(statuses, at_mono)
        barred: dict[Symbol, str] = {}
        barred_l3: dict[Symbol, str] = {}
        suspended: dict[Symbol, str] = {}
        for (symbol, layer), case in self._cases.items():
            is_suspended, is_barred = self._judge(layer, case, at_mono)
            if is_suspended:
                suspended[symbol] = case.reason
            if is_barred:
                (barred_l3 if layer is Layer.L3 else barred)[symbol] = case.reason
        return Standing(barred=barred, barred_l3=barred_l3, suspended=suspended)

    def _see(self, trouble: Trouble, at_mono: float) -> None:
        key = trouble.symbol, trouble.layer
        case = self._cases.get(key)
        if case is None:
            case = self._cases[key] = _Case(since_mono=at_mono, seen_mono=at_mono, reason=trouble.reason)
        case.seen_mono, case.reason = at_mono, trouble.reason
        if trouble.for_ever and case.barred_until_mono is None:
            case.barred_until_mono = at_mono + self._settings.rest_s

    def _forget(self, statuses: Mapping[Symbol, InstrumentStatus], at_mono: float) -> None:
        """Close cases that are over: well again for long enough, rested, or no longer listed at all."""
        for key, case in list(self._cases.items()):
            symbol, layer = key
            if case.barred_until_mono is not None:
                # it is not subscribed, so nothing can be seen of it: only time ends this
                is_over = at_mono >= case.barred_until_mono
            elif layer is Layer.STATUS:
                is_over = case.seen_mono < at_mono
            else:
                is_over = at_mono - case.seen_mono >= self._settings.clean_after_s and case.seen_mono < at_mono
            if is_over or symbol not in statuses:
                del self._cases[key]

    def _judge(self, layer: Layer, case: _Case, at_mono: float) -> tuple[bool, bool]:
        """Return whether a symbol is suspended, and whether it is barred, for one case."""
        settings, lasted_s = self._settings, case.lasted_s
        if layer is Layer.STATUS:
            is_gone = case.reason == f"status {InstrumentStatus.DELISTED}"
            return True, is_gone or lasted_s >= settings.status_patience_s
        if case.barred_until_mono is None and lasted_s >= settings.bar_after_s:
            case.barred_until_mono = at_mono + settings.rest_s
        return layer is Layer.L2 and lasted_s >= settings.suspend_after_s, case.barred_until_mono is not None
