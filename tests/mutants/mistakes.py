"""The planted mistakes: those that the reliability design names, each with the suites that are to notice it."""

from __future__ import annotations

from tests.mutants.mistake import Edit, Mistake

EXECUTION = ("tests/unit/domain/execution",)
ENGINE = ("tests/unit/domain/engine",)
STORES = ("tests/contract/stores",)
PRIVATE = ("tests/contract/kraken_private", "tests/integration/kraken_private")
MARKET = ("tests/unit/domain/market/test_book.py", "tests/unit/domain/market/test_books_against_oracle.py")

MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        name="no row before the order",
        breaks="an entry is sent although its row was not committed",
        edits=(
            Edit(
                path="domain/engine/desk.py",
                old='self._sink.emit("entry_not_committed", symbol=entry.symbol, error=str(error))\n'
                "            return False",
                new='self._sink.emit("entry_not_committed", symbol=entry.symbol, error=str(error))\n'
                "            return True",
            ),
        ),
        tests=ENGINE,
    ),
    Mistake(
        name="blind resend",
        breaks="a request whose outcome is unknown is sent once more",
        edits=(
            Edit(
                path="domain/engine/desk.py",
                old='self._event(cl_ord_id, OrderEvent.OUTCOME_UNKNOWN, reason=str(error) or "timeout")\n',
                new='self._event(cl_ord_id, OrderEvent.OUTCOME_UNKNOWN, reason=str(error) or "timeout")\n'
                "            await self._gateway.submit(order)\n",
            ),
        ),
        tests=ENGINE,
    ),
    Mistake(
        name="not found is a rejection",
        breaks="an order that one query does not show counts as absent, before its horizon",
        edits=(
            Edit(
                path="domain/execution/reconcile.py",
                old="count = before + 1 if at >= horizon else 0",
                new="count = proof.ladders",
            ),
        ),
        tests=EXECUTION,
    ),
    Mistake(
        name="one clean ladder is proof",
        breaks="the second look after the horizon is left out",
        edits=(Edit(path="domain/execution/reconcile.py", old="    ladders: int = 2\n", new="    ladders: int = 1\n"),),
        tests=EXECUTION,
    ),
    Mistake(
        name="no exec_id dedupe",
        breaks="a fill that the stream and a query show is booked twice",
        edits=(
            Edit(
                path="domain/execution/tracker.py",
                old="if report.exec_id is not None and report.exec_id in self._exec_ids:",
                new="if report.exec_id is None:",
            ),
        ),
        tests=EXECUTION,
    ),
    Mistake(
        name="sequence gap ignored",
        breaks="reports are taken although one before them was lost",
        edits=(
            Edit(
                path="adapters/kraken/protocol/private.py",
                old="if channel.has_snapshot and channel.sequence is not None and sequence != channel.sequence + 1:",
                new="if channel.has_snapshot and channel.sequence is not None and sequence == channel.sequence:",
            ),
        ),
        tests=PRIVATE,
    ),
    Mistake(
        name="the last 50 fills only",
        breaks="what traded in an outage is not asked of the trade history",
        edits=(
            Edit(
                path="domain/engine/ladder.py",
                old="fills = tuple(await self._query.fills(since))",
                new="fills = tuple(await self._query.fills(since))[-50:]",
            ),
        ),
        tests=(*ENGINE, *EXECUTION, "tests/integration/kraken_private"),
    ),
    Mistake(
        name="stale generation accepted",
        breaks="an entry is inserted on a state that is older than allowed",
        edits=(
            Edit(
                path="adapters/postgres/entry_gate.py",
                old="if age_s > gate.max_generation_age_s:",
                new="if age_s > gate.max_generation_age_s + 1e9:",
            ),
        ),
        tests=STORES,
    ),
    Mistake(
        name="lease not fenced",
        breaks="a process whose lease was taken over inserts an entry",
        edits=(
            Edit(
                path="adapters/postgres/entry_gate.py",
                old="if row is None or row[0] != lease_epoch or row[1] is None or not row[2]:",
                new="if row is None:",
            ),
        ),
        tests=STORES,
    ),
    Mistake(
        name="terminal state left on a late fill",
        breaks="a fill after the cancel opens the order again",
        edits=(
            Edit(
                path="domain/execution/order.py",
                old="        _E.CANCELED: _S.CANCELED,\n        _E.AMENDED: _S.CANCELED,",
                new="        _E.CANCELED: _S.CANCELED,\n        _E.TRADE: _S.PARTIALLY_FILLED,\n"
                "        _E.AMENDED: _S.CANCELED,",
            ),
        ),
        tests=EXECUTION,
    ),
    Mistake(
        name="position from cum_qty twice",
        breaks="the position counts what the order has filled so far, not what this fill adds",
        edits=(
            Edit(
                path="domain/execution/tracker.py",
                old="position = apply_fill(self.position(fill.symbol), fill)",
                new="position = apply_fill(self.position(fill.symbol), evolve(fill, qty=filled.cum_qty))",
            ),
        ),
        tests=EXECUTION,
    ),
    Mistake(
        name="no stop again after the venue cancelled it",
        breaks="a stop that a dead man's switch took away counts as standing",
        edits=(
            Edit(
                path="domain/execution/tracker.py",
                old="        total = self._told.see_total(order.cl_ord_id, cum_qty)\n",
                new="        total = self._told.see_total(order.cl_ord_id, cum_qty)\n"
                '        if order.role == "protective_stop" and end.event == "canceled":\n'
                "            return Applied()\n",
            ),
        ),
        tests=ENGINE,
    ),
    Mistake(
        name="float in the ledger",
        breaks="the cost of a part of a position is computed in floats",
        edits=(
            Edit(
                path="domain/execution/position.py",
                old="cost_out = (position.cost_quote * share).quantize(_COST_QUANTUM, ROUND_HALF_EVEN)",
                new="cost_out = Decimal(float(position.cost_quote) * float(share))",
            ),
        ),
        tests=EXECUTION,
    ),
    Mistake(
        name="book used after a bad checksum",
        breaks="a book whose checksum is wrong stays valid",
        edits=(
            Edit(
                path="domain/market/book.py",
                old='        if self._crc != checksum:\n            return self.invalidate("checksum mismatch")\n',
                new="        if self._crc != checksum:\n            return _GOOD\n",
            ),
        ),
        tests=MARKET,
    ),
    Mistake(
        name="nonce from the wall clock",
        breaks="a clock that is set back makes nonces that were used before",
        edits=(
            Edit(
                path="adapters/kraken/nonce.py",
                old="nonce = max(self._clock.now_ns(), self._last + 1)",
                new="nonce = self._clock.now_ns()",
            ),
        ),
        tests=("tests/unit/adapters/kraken",),
    ),
    Mistake(
        name="no points kept for cancels",
        breaks="entries spend what cancels and exits need of the rate counter",
        edits=(
            Edit(
                path="domain/execution/rate.py",
                old="return self.threshold - self.reserve",
                new="return self.threshold",
            ),
        ),
        tests=(*EXECUTION, *ENGINE),
    ),
)
