"""Whether an untriggered stop reserves its coins on this account; Kraken's documentation does not say.

Enters: what a minimal stop did to the balance. Leaves: findings. Called by `krakenbot doctor --probe-holds`.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from krakenbot.domain.preflight.finding import Finding, fail, ok, warn
from krakenbot.domain.values import ClOrdId, Symbol


@frozen(kw_only=True)
class HoldsFacts:
    """What the probe saw.

    `reason` is why nothing was learnt, None when the stop stood. `held_before` and `held_after` are what open orders
    held of the coin. `is_left` tells that the venue did not confirm that the stop is gone.
    """

    symbol: Symbol
    reason: str | None = None
    cl_ord_id: ClOrdId | None = None
    qty: Decimal = Decimal(0)
    held_before: Decimal = Decimal(0)
    held_after: Decimal = Decimal(0)
    is_left: bool = False


def judge_holds(facts: HoldsFacts) -> list[Finding]:
    """Return what was learnt, and whether anything is left at the venue."""
    findings = []
    if facts.is_left:
        findings.append(
            fail(
                "holds.cancel",
                f"stop {facts.cl_ord_id} on {facts.symbol} may still stand",
                "always cancelled",
                "Cancel it at the venue, or start execution, which reconciles it.",
            )
        )
    if facts.reason is not None:
        fix = "Mend what is named, then ask again with --probe-holds."
        return [*findings, warn("holds", f"not learnt: {facts.reason}", "a minimal stop that stands", fix)]
    grown = facts.held_after - facts.held_before
    moved = f"held {facts.held_before.normalize():f} -> {facts.held_after.normalize():f}"
    verdict = "reserves its coins" if grown >= facts.qty else "does not reserve its coins"
    return [*findings, ok("holds", f"an untriggered stop {verdict} ({facts.symbol}, {moved})", "known")]
