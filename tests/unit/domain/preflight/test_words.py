"""The doctor's own words and its exact limits, where a near miss would look the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from attrs import evolve

from krakenbot.domain.execution.reports import VenueBalance
from krakenbot.domain.preflight.account import AccountFacts, judge_account
from krakenbot.domain.preflight.checkup import Checkup, Purpose, judge
from krakenbot.domain.preflight.database import LeaseFacts, judge_lease
from krakenbot.domain.preflight.disk import DiskFacts, judge_disks
from krakenbot.domain.preflight.finding import Level, some_of, warn
from krakenbot.domain.preflight.keys import KeyFacts, KeyRights, judge_keys
from krakenbot.domain.preflight.settings import DoctorSettings
from krakenbot.domain.preflight.venue import FeeFacts, VenueFacts, judge_venue
from krakenbot.domain.values import Asset, Symbol

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
USD = Asset("USD")
GIB = 1 << 30


def fees(volume: Decimal | None, **rates: tuple[int, int]) -> str:
    found = {Symbol(f"{base}/USD"): (Decimal(maker), Decimal(taker)) for base, (maker, taker) in rates.items()}
    facts = VenueFacts(fees=FeeFacts(rates=found, volume=volume, volume_asset="USD"))
    [finding] = judge_venue(facts, quote=USD, capital_quote=None, symbol_share=Decimal(1))
    return f"{finding.level}: {finding.found}"


def test_fees_are_told_with_their_range_and_the_volume() -> None:
    assert "ok: maker 25 bps, taker 40 bps of 1 symbols, 30-day volume 12.50 USD" == fees(Decimal("12.5"), BTC=(25, 40))
    assert "ok: maker 20 to 25 bps, taker 35 to 40 bps of 2 symbols, 30-day volume not stated" == fees(
        None, BTC=(25, 40), ETH=(20, 35)
    )
    assert "warn: not stated for any symbol" == fees(None)


@pytest.mark.parametrize(("seconds", "level"), [(-1, Level.FAIL), (0, Level.OK)])
def test_a_key_may_expire_on_the_very_day_that_is_set(seconds: int, level: Level) -> None:
    until = AT + timedelta(days=3, seconds=seconds)
    rights = KeyRights(
        permissions=frozenset(), expires=True, valid_until=until, ip_allowlist=("192.0.2.1",), nonce_window=10
    )
    facts = [KeyFacts(process="execution", fingerprint="one", rights=rights)]
    findings = {one.check: one for one in judge_keys(facts, AT, DoctorSettings(key_days_min=3.0))}

    assert level is findings["key.execution.expiry"].level
    assert "at least 3 days" == findings["key.execution.expiry"].limit
    assert "two nonces in a row accepted, window 10" == findings["key.execution.nonce"].found


def test_five_names_are_shown_and_the_others_counted() -> None:
    assert "a, b, c, d, e" == some_of("abcde")
    assert "a, b, c, d, e and 1 more" == some_of("abcdef")
    assert "a, b and 4 more" == some_of("abcdef", 2)
    assert not some_of([])


def test_a_free_lease_says_who_held_it_last() -> None:
    lease = LeaseFacts(holder="execution@host:7", lease_epoch=3, expires_at=AT, is_in_force=False)

    assert "free, epoch 3; last held by execution@host:7" == judge_lease(lease).found
    assert "free, epoch 3" == judge_lease(evolve(lease, holder=None)).found
    assert "held by this process until 12:00:00 UTC, epoch 3" == (
        judge_lease(evolve(lease, is_in_force=True), own_holder="execution@host:7").found
    )


@pytest.mark.parametrize(
    ("free", "level"), [(GIB - 1, Level.FAIL), (GIB, Level.WARN), (5 * GIB - 1, Level.WARN), (5 * GIB, Level.OK)]
)
def test_space_is_judged_at_its_very_limits(free: int, level: Level) -> None:
    settings = DoctorSettings(disk_fail_bytes=GIB, disk_warn_bytes=5 * GIB)
    [finding] = judge_disks([DiskFacts(purpose="data", path="data", free_bytes=free)], settings)

    assert level is finding.level
    assert ("at least 1.0 GiB free" if level is Level.FAIL else "at least 5.0 GiB free") == finding.limit


def test_an_empty_wallet_is_not_named() -> None:
    names = ("BTC.B", "ETH")
    balances = {Asset(n): VenueBalance(asset=Asset(n), balance=Decimal(0), held=Decimal(0)) for n in names}
    findings = judge_account(AccountFacts(balances=balances), quote=USD, capital_quote=None)

    assert ["account.quote"] == [finding.check for finding in findings]


def test_whoever_may_start_without_the_venue_is_warned_of_each_silence() -> None:
    purpose = Purpose(needs_keys=(), quote=USD, capital_quote=None, symbol_share=Decimal(1))
    checkup = Checkup(
        at=AT,
        purpose=purpose,
        keys=(),
        clock_error="no answer",
        venue=VenueFacts(errors={"instruments": "no answer"}),
        account=AccountFacts(error="no answer"),
    )
    checks = ["clock", "exchange.instruments", "account.balances"]

    assert [(check, Level.FAIL) for check in checks] == [
        (one.check, one.level) for one in judge(checkup, DoctorSettings())
    ]
    assert [(check, Level.WARN) for check in checks] == [
        (one.check, one.level) for one in judge(checkup, DoctorSettings(), away=warn)
    ]
