"""Every judgement of the doctor, from facts alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from krakenbot.domain.execution.rate import AccountTier
from krakenbot.domain.execution.reports import VenueBalance
from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.preflight.account import AccountFacts, judge_account
from krakenbot.domain.preflight.checkup import Checkup, Purpose, judge
from krakenbot.domain.preflight.clock import ClockSample, judge_clock, offset_of
from krakenbot.domain.preflight.database import DatabaseFacts, LeaseFacts, SchemaFacts, judge_databases, judge_lease
from krakenbot.domain.preflight.disk import DiskFacts, judge_disks
from krakenbot.domain.preflight.finding import Finding, Level, fail, ok, refusal, warn, worst
from krakenbot.domain.preflight.grants import Grant, RolePower, judge_grants
from krakenbot.domain.preflight.keys import KeyFacts, KeyRights, judge_keys
from krakenbot.domain.preflight.settings import DoctorSettings, OnEmptyIpList
from krakenbot.domain.preflight.venue import FeeFacts, VenueFacts, judge_venue
from krakenbot.domain.values import Asset, Symbol

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = DoctorSettings()
USD, BTC = Asset("USD"), Symbol("BTC/USD")
TRADE = frozenset(
    {"query-funds", "query-open-trades", "query-closed-trades", "modify-trades", "close-trades", "create-ws-token"}
)
GOOD = KeyRights(
    permissions=TRADE | {"query-ledger"},
    expires=False,
    valid_until=None,
    ip_allowlist=("192.0.2.1",),
    nonce_window=0,
)


def level_of(findings: list[Finding], check: str) -> Level:
    return worst(finding for finding in findings if finding.check == check)


def found_of(findings: list[Finding], check: str) -> str:
    return "; ".join(finding.found for finding in findings if finding.check == check)


def key(process: str = "execution", fingerprint: str = "one", **changes: Any) -> list[Finding]:
    facts = KeyFacts(process=process, fingerprint=fingerprint, rights=evolve(GOOD, **changes))
    return judge_keys([facts], AT, SETTINGS)


def test_a_key_with_what_is_needed_has_nothing_to_mend() -> None:
    assert {Level.OK} == {finding.level for finding in key()}


@pytest.mark.parametrize("right", ["withdraw-funds", "add-funds", "Withdraw Funds", "deposit-funds"])
def test_a_key_that_may_move_funds_is_refused_with_the_right_named(right: str) -> None:
    findings = key(permissions=TRADE | {right})

    assert level_of(findings, "key.execution.rights") is Level.FAIL
    assert right in found_of(findings, "key.execution.rights")


@pytest.mark.parametrize("right", sorted(TRADE))
def test_each_missing_right_is_named_and_refused(right: str) -> None:
    findings = key(permissions=TRADE - {right})

    assert level_of(findings, "key.execution.rights") is Level.FAIL
    assert f"lacks {right}" in found_of(findings, "key.execution.rights")


def test_a_key_without_ledger_is_a_warning() -> None:
    assert level_of(key(permissions=TRADE), "key.execution.rights") is Level.WARN


def test_a_key_of_ingest_that_may_trade_is_a_warning_and_one_for_tokens_alone_is_right() -> None:
    assert level_of(key("ingest", permissions=TRADE), "key.ingest.rights") is Level.WARN
    assert level_of(key("ingest", permissions=frozenset({"create-ws-token"})), "key.ingest.rights") is Level.OK


@pytest.mark.parametrize(("days", "level"), [(6.99, Level.FAIL), (7.0, Level.OK), (-1.0, Level.FAIL)])
def test_a_key_that_expires_within_a_week_is_refused(days: float, level: Level) -> None:
    findings = key(expires=True, valid_until=AT + timedelta(days=days))

    assert level is level_of(findings, "key.execution.expiry")


def test_what_the_venue_does_not_say_is_never_taken_for_good() -> None:
    findings = key(expires=None, ip_allowlist=None, nonce_window=None)

    assert level_of(findings, "key.execution.expiry") is Level.WARN
    assert level_of(findings, "key.execution.ip_list") is Level.WARN
    assert "the venue did not say" == found_of(findings, "key.execution.ip_list")


@pytest.mark.parametrize(("rule", "level"), [(OnEmptyIpList.WARN, Level.WARN), (OnEmptyIpList.REFUSE, Level.FAIL)])
def test_an_empty_ip_list_is_what_the_setting_says(rule: OnEmptyIpList, level: Level) -> None:
    facts = KeyFacts(process="execution", fingerprint="one", rights=evolve(GOOD, ip_allowlist=()))

    findings = judge_keys([facts], AT, DoctorSettings(empty_ip_list=rule))

    assert level is level_of(findings, "key.execution.ip_list")


def test_one_key_for_two_processes_is_refused() -> None:
    facts = [KeyFacts(process=process, fingerprint="same", rights=GOOD) for process in ("ingest", "execution")]

    assert level_of(judge_keys(facts, AT, SETTINGS), "keys.distinct") is Level.FAIL
    assert (
        level_of(judge_keys([facts[0], evolve(facts[1], fingerprint="x")], AT, SETTINGS), "keys.distinct") is Level.OK
    )


def test_a_refused_nonce_is_told_from_a_refused_key() -> None:
    nonce = judge_keys([KeyFacts(process="execution", fingerprint="", refused="EAPI:Invalid nonce")], AT, SETTINGS)
    other = judge_keys([KeyFacts(process="execution", fingerprint="", refused="EAPI:Invalid key")], AT, SETTINGS)

    assert [("key.execution.nonce", Level.FAIL)] == [(one.check, one.level) for one in nonce]
    assert [("key.execution", Level.FAIL)] == [(one.check, one.level) for one in other]


def test_a_key_without_a_token_is_refused() -> None:
    facts = KeyFacts(process="execution", fingerprint="", rights=GOOD, token="EGeneral:Permission denied")

    assert level_of(judge_keys([facts], AT, SETTINGS), "key.execution.token") is Level.FAIL


def sample(sent_s: float, venue_s: int, trip_s: float = 0.1) -> ClockSample:
    sent_at = AT + timedelta(seconds=sent_s)
    return ClockSample(
        sent_at=sent_at, received_at=sent_at + timedelta(seconds=trip_s), venue_at=AT + timedelta(seconds=venue_s)
    )


def test_samples_narrow_the_offset_to_what_all_allow() -> None:
    offset = offset_of([sample(0.0, 0), sample(0.6, 0), sample(0.95, 1)])

    assert offset is not None
    assert offset.low_s == pytest.approx(-0.05)
    assert offset.high_s == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("venue_s", "level"), [(0, Level.OK), (-1, Level.OK), (1, Level.OK), (3, Level.FAIL), (-3, Level.FAIL)]
)
def test_a_clock_is_refused_only_when_the_round_trip_cannot_explain_it(venue_s: int, level: Level) -> None:
    assert level is judge_clock([sample(0.0, venue_s)], None, SETTINGS).level


def test_a_clock_is_said_to_be_behind_or_ahead() -> None:
    assert " s behind the venue's" in judge_clock([sample(0.0, 3)], None, SETTINGS).found
    assert " s ahead of the venue's" in judge_clock([sample(0.0, -3)], None, SETTINGS).found


def test_a_slow_answer_tells_no_time_and_says_so() -> None:
    assert judge_clock([sample(0.0, 0, trip_s=3.0)], None, SETTINGS).level is Level.WARN


def test_one_quick_answer_among_slow_ones_tells_the_time() -> None:
    found = judge_clock([sample(0.0, 0, trip_s=3.0), sample(0.1, 0)], None, SETTINGS)

    assert Level.OK is found.level
    assert "round trip 100 ms" in found.found


def test_samples_that_contradict_each_other_are_a_warning() -> None:
    assert judge_clock([sample(0.0, 0), sample(0.5, 10)], None, SETTINGS).level is Level.WARN


def test_a_clock_that_cannot_be_compared_is_what_the_caller_says() -> None:
    assert judge_clock((), "no answer", SETTINGS).level is Level.FAIL
    assert judge_clock((), "no answer", SETTINGS, away=warn).level is Level.WARN


def instrument(symbol: str = "BTC/USD", **changes: Any) -> Instrument:
    base, _, quote = symbol.partition("/")
    made = Instrument(
        symbol=Symbol(symbol),
        base=Asset(base),
        quote=Asset(quote),
        status=InstrumentStatus.ONLINE,
        price_precision=1,
        qty_precision=8,
        cost_precision=5,
        price_increment=Decimal("0.1"),
        qty_increment=Decimal("0.00000001"),
        qty_min=Decimal("0.0001"),
        cost_min=Decimal("0.5"),
    )
    return evolve(made, **changes)


def at_venue(capital: str = "1000", **changes: Any) -> list[Finding]:
    facts = VenueFacts(
        **{
            "status": "online",
            "upcoming": (),
            "instruments": {BTC: instrument()},
            "symbols": (BTC,),
            "bids": {BTC: Decimal(50_000)},
            **changes,
        }
    )
    return judge_venue(facts, quote=USD, capital_quote=Decimal(capital), symbol_share=Decimal("0.1"))


def test_a_venue_in_order_has_nothing_to_mend() -> None:
    assert {Level.OK} == {finding.level for finding in at_venue()}


@pytest.mark.parametrize("status", ["maintenance", "cancel_only", "post_only", "half_open"])
def test_a_mode_in_which_nothing_is_bought_is_a_warning(status: str) -> None:
    assert level_of(at_venue(status=status), "exchange.status") is Level.WARN


def test_a_planned_maintenance_is_named() -> None:
    findings = at_venue(upcoming=("engine upgrade, 14:00 to 15:00",))

    assert level_of(findings, "exchange.maintenance") is Level.WARN
    assert "engine upgrade" in found_of(findings, "exchange.maintenance")


def test_a_symbol_that_is_not_listed_is_refused_with_the_nearest_one() -> None:
    [finding] = [one for one in at_venue(symbols=(Symbol("BTC/USDX"),)) if one.level is Level.FAIL]

    assert "BTC/USDX is not listed" in finding.found
    assert "BTC/USD in" in finding.fix


def test_a_symbol_that_does_not_trade_is_a_warning() -> None:
    findings = at_venue(instruments={BTC: instrument(status=InstrumentStatus.CANCEL_ONLY)})

    assert "BTC/USD cancel_only" in found_of(findings, "exchange.instruments")
    assert level_of(findings, "exchange.instruments") is Level.WARN


def test_a_symbol_that_takes_limit_orders_alone_is_open() -> None:
    findings = at_venue(instruments={BTC: instrument(status=InstrumentStatus.LIMIT_ONLY)})

    assert level_of(findings, "exchange.instruments") is Level.OK


def test_smallest_entry_is_also_bound_by_the_least_cost() -> None:
    findings = at_venue(capital="499", instruments={BTC: instrument(cost_min=Decimal(10))})

    assert "BTC/USD needs 50.00" in found_of(findings, "exchange.minimums")


@pytest.mark.parametrize(
    ("stated", "setting", "level"),
    [(60, "pro", Level.WARN), (60, "starter", Level.OK), (180, "starter", Level.OK), (180, None, Level.OK)],
)
def test_a_tier_set_wider_than_the_venue_states_is_a_warning(stated: int, setting: str | None, level: Level) -> None:
    findings = at_venue(max_ratecount=stated, tier=None if setting is None else AccountTier(setting))

    assert level is level_of(findings, "exchange.tier")


def test_a_symbol_whose_smallest_entry_is_too_large_is_named() -> None:
    findings = at_venue(capital="249")

    assert level_of(findings, "exchange.minimums") is Level.WARN
    assert "BTC/USD needs 25.00" in found_of(findings, "exchange.minimums")
    assert level_of(at_venue(capital="250"), "exchange.minimums") is Level.OK


def test_without_configured_symbols_one_must_be_listed_against_the_quote() -> None:
    assert level_of(at_venue(symbols=()), "exchange.instruments") is Level.OK
    assert level_of(at_venue(symbols=(), instruments={}), "exchange.instruments") is Level.FAIL
    closed = {BTC: instrument(status=InstrumentStatus.MAINTENANCE)}
    assert level_of(at_venue(symbols=(), instruments=closed), "exchange.instruments") is Level.WARN


def test_a_pair_without_a_makers_discount_is_named() -> None:
    rates = {BTC: (Decimal(20), Decimal(20)), Symbol("ETH/USD"): (Decimal(25), Decimal(40))}
    findings = at_venue(fees=FeeFacts(rates=rates, volume=Decimal("12.5"), volume_asset="USD"))

    assert level_of(findings, "exchange.fees") is Level.WARN
    assert "no maker's discount: BTC/USD" in found_of(findings, "exchange.fees")
    assert "maker 20 to 25 bps" in found_of(findings, "exchange.fees")


def test_what_the_venue_did_not_answer_is_what_the_caller_says() -> None:
    findings = judge_venue(
        VenueFacts(errors={"instruments": "HTTP 503"}),
        quote=USD,
        capital_quote=None,
        symbol_share=Decimal("0.1"),
        away=warn,
    )

    assert [("exchange.instruments", Level.WARN)] == [(one.check, one.level) for one in findings]
    assert "endpoints into reach" in findings[0].fix


def test_a_private_stream_that_is_away_may_be_for_the_key() -> None:
    [finding] = [one for one in at_venue(errors={"private_stream": "refused"}) if one.level is Level.FAIL]

    assert "execution key" in finding.fix


def balances(**amounts: str) -> dict[Asset, VenueBalance]:
    return {
        Asset(name.replace("_", ".")): VenueBalance(
            asset=Asset(name.replace("_", ".")), balance=Decimal(amount), held=Decimal(0)
        )
        for name, amount in amounts.items()
    }


def test_earn_and_foreign_coins_are_named_and_own_positions_taken_off() -> None:
    facts = AccountFacts(
        balances=balances(USD="1000", BTC="3", BTC_F="2", SOL="5"), positions={Asset("BTC"): Decimal(1)}
    )

    findings = judge_account(facts, quote=USD, capital_quote=Decimal(500))

    assert found_of(findings, "account.earn").endswith("2 BTC.F")
    assert found_of(findings, "account.foreign").endswith("2 BTC, 5 SOL")
    assert level_of(findings, "account.quote") is Level.OK


@pytest.mark.parametrize(("usd", "level"), [("0", Level.WARN), ("499.99", Level.WARN), ("500", Level.OK)])
def test_less_quote_than_capital_is_a_warning(usd: str, level: Level) -> None:
    findings = judge_account(AccountFacts(balances=balances(USD=usd)), quote=USD, capital_quote=Decimal(500))

    assert level is level_of(findings, "account.quote")


@pytest.mark.parametrize("held", [{"BTC": "0.5"}, {"BTC": "0"}, {}])
def test_a_position_above_the_balance_is_named(held: dict[str, str]) -> None:
    facts = AccountFacts(balances=balances(USD="1000", **held), positions={Asset("BTC"): Decimal(1)})

    findings = judge_account(facts, quote=USD, capital_quote=Decimal(500))

    assert level_of(findings, "account.positions") is Level.WARN
    assert f"own position 1 BTC, balance {held.get('BTC', '0')}" == found_of(findings, "account.positions")


def test_every_wallet_that_is_not_spot_is_named_as_earn_and_no_more_than_eight() -> None:
    wallets = {f"C{number}_{kind}": "1" for number, kind in enumerate("FBMSPTFBM")}

    findings = judge_account(AccountFacts(balances=balances(USD="1", **wallets)), quote=USD, capital_quote=None)

    shown = "1 C0.F, 1 C1.B, 1 C2.M, 1 C3.S, 1 C4.P, 1 C5.T, 1 C6.F, 1 C7.B and 1 more"
    assert f"not counted, not touched: {shown}" == found_of(findings, "account.earn")
    assert "account.foreign" not in {one.check for one in findings}


def test_quote_that_orders_hold_is_said() -> None:
    held = {USD: VenueBalance(asset=USD, balance=Decimal(1000), held=Decimal("250.50"))}

    findings = judge_account(AccountFacts(balances=held), quote=USD, capital_quote=Decimal(500))

    assert "1000 USD, 250.5 of it held by orders" == found_of(findings, "account.quote")


DATABASE = DatabaseFacts(
    name="decision",
    parts=frozenset({"decision"}),
    server_major=18,
    server_major_min=15,
    login="trader",
    identity="a",
    schema=SchemaFacts(applied=7),
    settings={"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"},
)


def test_a_database_in_order_has_nothing_to_mend() -> None:
    assert {Level.OK} == {finding.level for finding in judge_databases([DATABASE])}


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"error": "connection refused"}, "reachable", "connection refused"),
        ({"server_major": 14}, "reachable", "PostgreSQL 14"),
        ({"is_read_only": True}, "reachable", "read-only"),
        ({"schema": SchemaFacts(is_readable=False)}, "schema", "none that trader may read"),
        (
            {"schema": SchemaFacts(missing=("decision/0009_x",))},
            "schema",
            "older than this program: lacks decision/0009_x",
        ),
        ({"schema": SchemaFacts(newer=("decision/0099_x",))}, "schema", "newer than this program"),
        ({"schema": SchemaFacts(changed=("both/0001_x",))}, "schema", "changed after it was applied"),
        ({"lacks": ("INSERT on fills",)}, "rights", "INSERT on fills"),
        ({"settings": {**DATABASE.settings, "fsync": "off"}}, "durability", "fsync = off"),
        ({"settings": {**DATABASE.settings, "full_page_writes": "off"}}, "durability", "full_page_writes = off"),
        ({"settings": {**DATABASE.settings, "synchronous_commit": "off"}}, "durability", "synchronous_commit = off"),
    ],
)
def test_each_fault_of_the_decision_database_is_refused(changes: dict[str, Any], check: str, words: str) -> None:
    findings = judge_databases([evolve(DATABASE, **changes)])

    assert level_of(findings, f"db.decision.{check}") is Level.FAIL
    assert words in found_of(findings, f"db.decision.{check}")
    assert all(finding.fix for finding in findings if finding.level is Level.FAIL)


def test_samples_may_be_committed_asynchronously_but_not_without_fsync() -> None:
    ingest = evolve(DATABASE, name="ingest", parts=frozenset({"ingest"}))
    lazy = evolve(ingest, settings={**DATABASE.settings, "synchronous_commit": "off"})
    unsafe = evolve(ingest, settings={**DATABASE.settings, "fsync": "off"})

    assert level_of(judge_databases([lazy]), "db.ingest.durability") is Level.OK
    assert level_of(judge_databases([unsafe]), "db.ingest.durability") is Level.WARN


def test_durability_that_the_server_does_not_show_is_not_taken_for_good() -> None:
    findings = judge_databases([evolve(DATABASE, settings={"fsync": "on", "synchronous_commit": "on"})])

    assert level_of(findings, "db.decision.durability") is Level.WARN
    assert "not shown: full_page_writes" == found_of(findings, "db.decision.durability")


def test_two_urls_to_one_cluster_are_refused_and_single_mode_is_said() -> None:
    ingest = evolve(DATABASE, name="ingest", parts=frozenset({"ingest"}))
    single = evolve(DATABASE, name="both", parts=frozenset({"ingest", "decision"}))

    assert level_of(judge_databases([ingest, DATABASE]), "db.clusters") is Level.FAIL
    assert level_of(judge_databases([evolve(ingest, identity="b"), DATABASE]), "db.clusters") is Level.OK
    assert "single-database mode" in found_of(judge_databases([single]), "db.clusters")


def test_a_superuser_is_a_warning() -> None:
    assert level_of(judge_databases([evolve(DATABASE, is_superuser=True)]), "db.decision.login") is Level.WARN


@pytest.mark.parametrize(
    "grant",
    [
        Grant(role="krakenbot_execution", relation="fills", right="UPDATE"),
        Grant(role="krakenbot_execution", relation="fills", right="DELETE"),
        Grant(role="krakenbot_execution", relation="execution_order_events", right="UPDATE"),
        Grant(role="krakenbot_execution", relation="execution_orders", right="DELETE"),
        Grant(role="krakenbot_execution", relation="journal_rows", right="UPDATE"),
        Grant(role="krakenbot_execution", relation="l2_snap_metrics", right="SELECT"),
        Grant(role="krakenbot_execution", relation="run_symbol_state", right="UPDATE"),
        Grant(role="krakenbot_ingest", relation="execution_orders", right="INSERT"),
        Grant(role="krakenbot_ingest", relation="fills", right="SELECT"),
        Grant(role="krakenbot_ingest", relation="made_by_execution", right="SELECT"),
        Grant(role="krakenbot_ingest", relation="leases", right="UPDATE"),
        Grant(role="krakenbot_status", relation="execution_orders", right="SELECT"),
        Grant(role="krakenbot_status", relation="status_orders", right="UPDATE"),
        Grant(role="PUBLIC", relation="status_orders", right="SELECT"),
        Grant(role="krakenbot_ingest", relation="run_symbol_state", right="TRUNCATE"),
    ],
)
def test_each_right_too_many_is_refused(grant: Grant) -> None:
    needed = [
        Grant(role="krakenbot_execution", relation="made_by_execution", right="INSERT"),
        Grant(role="krakenbot_execution", relation="process_status", right="UPDATE"),
        Grant(role="krakenbot_ingest", relation="process_status", right="UPDATE"),
        Grant(role="krakenbot_ingest", relation="run_symbol_state", right="UPDATE"),
        Grant(role="krakenbot_ingest", relation="positions", right="SELECT"),
        Grant(role="krakenbot_status", relation="status_orders", right="SELECT"),
    ]

    assert [Level.OK] == [one.level for one in judge_grants("roles", needed, {"journal_rows"}, ())]
    [finding] = judge_grants("roles", [*needed, grant], {"journal_rows"}, ())
    assert finding.level is Level.FAIL
    assert f"{grant.right} on {grant.relation}" in finding.found


def test_a_role_that_may_do_more_in_the_cluster_is_refused() -> None:
    [finding] = judge_grants("roles", [], (), [RolePower(role="krakenbot_execution", power="acts as krakenbot_owner")])

    assert finding.level is Level.FAIL
    assert "acts as krakenbot_owner" in finding.found


def test_the_lease_names_its_holder_only_while_it_is_in_force() -> None:
    lease = LeaseFacts(holder="execution@host:7", lease_epoch=3, expires_at=AT, is_in_force=True)

    assert "held by execution@host:7" in judge_lease(lease).found
    assert judge_lease(evolve(lease, is_in_force=False)).found.startswith("free, epoch 3")


@pytest.mark.parametrize(("free", "level"), [(1 << 20, Level.FAIL), (1 << 30, Level.WARN), (1 << 40, Level.OK)])
def test_little_space_is_a_warning_and_none_is_refused(free: int, level: Level) -> None:
    [finding] = judge_disks([DiskFacts(purpose="data", path="data", free_bytes=free)], SETTINGS)

    assert level is finding.level


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    [finding] = judge_disks([DiskFacts(purpose="spool", path="x", free_bytes=1 << 40, error="no")], SETTINGS)

    assert finding.level is Level.FAIL


def test_a_refusal_holds_every_failure_with_its_fix_and_nothing_else() -> None:
    findings = [
        ok("a", "fine"),
        warn("b", "so so", "", "look"),
        fail("c", "bad", "good", "Mend it."),
        fail("d", "x", "y", "Do."),
    ]

    assert refusal(findings) == "c: bad (good): Mend it.; d: x (y): Do."
    assert refusal(findings[:2]) is None


def test_a_process_without_its_key_is_named() -> None:
    purpose = Purpose(
        quote=USD, capital_quote=Decimal(1), symbol_share=Decimal("0.1"), needs_keys=("ingest", "execution")
    )

    findings = judge(Checkup(at=AT, purpose=purpose), SETTINGS)

    assert {"key.ingest": Level.WARN, "key.execution": Level.FAIL} == {one.check: one.level for one in findings}
