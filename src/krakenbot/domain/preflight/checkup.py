"""The whole check-up: everything that was found, judged in a fixed order.

Enters: facts of keys, clock, venue, account, databases and disks. Leaves: findings in the order in which a person
should read them. Called by `krakenbot doctor` and the start of execution, which differ only in what they gather.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.preflight.account import AccountFacts, judge_account
from krakenbot.domain.preflight.clock import ClockSample, judge_clock
from krakenbot.domain.preflight.database import DatabaseFacts, judge_databases, judge_lease
from krakenbot.domain.preflight.disk import DiskFacts, judge_disks
from krakenbot.domain.preflight.finding import Finding, Judge, fail, warn
from krakenbot.domain.preflight.keys import KeyFacts, judge_keys, missing_key
from krakenbot.domain.preflight.settings import DoctorSettings
from krakenbot.domain.preflight.venue import VenueFacts, judge_venue
from krakenbot.domain.values import Asset


@frozen(kw_only=True)
class Purpose:
    """What the account is to be traded with; `capital_quote` None when execution is not configured.

    `symbol_share` is the share of equity that one symbol may take. `needs_keys` are the processes that want a key.
    """

    quote: Asset
    capital_quote: Decimal | None
    symbol_share: Decimal
    needs_keys: tuple[str, ...]


@frozen(kw_only=True)
class Checkup:
    """What was found; None is what was not looked at."""

    at: datetime
    purpose: Purpose
    keys: tuple[KeyFacts, ...] = ()
    clock: tuple[ClockSample, ...] | None = None
    clock_error: str | None = None
    venue: VenueFacts | None = None
    account: AccountFacts | None = None
    databases: tuple[DatabaseFacts, ...] = ()
    disks: tuple[DiskFacts, ...] = ()


def judge(checkup: Checkup, settings: DoctorSettings, *, away: Judge = fail) -> list[Finding]:
    """Return all findings; `away` is what it means that the venue did not answer a question."""
    purpose = checkup.purpose
    have = {key.process for key in checkup.keys}
    findings = [missing_key(process) for process in purpose.needs_keys if process not in have]
    findings += judge_keys(checkup.keys, checkup.at, settings)
    if checkup.clock is not None or checkup.clock_error is not None:
        findings.append(judge_clock(checkup.clock or (), checkup.clock_error, settings, away=away))
    if checkup.venue is not None:
        findings += judge_venue(
            checkup.venue,
            quote=purpose.quote,
            capital_quote=purpose.capital_quote,
            symbol_share=purpose.symbol_share,
            away=away,
        )
    if checkup.account is not None:
        findings += judge_account(checkup.account, quote=purpose.quote, capital_quote=purpose.capital_quote, away=away)
    findings += judge_databases(checkup.databases)
    findings += [judge_lease(one.lease) for one in checkup.databases if one.lease is not None]
    return findings + judge_disks(checkup.disks, settings)


def not_configured() -> Finding:
    """Return the finding of settings with which only ingest can run."""
    return warn(
        "execution",
        "not configured: ingest only",
        "capital and a key",
        "Set execution.capital_limit_quote and the execution key to trade.",
    )


def no_capital() -> Finding:
    """Return the finding of an execution key without a capital limit."""
    return fail(
        "execution.capital",
        "execution.capital_limit_quote is not set",
        "a limit of your own",
        "Say how much of the quote asset may be traded with.",
    )
