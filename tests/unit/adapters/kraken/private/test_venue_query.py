from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qs

import httpx
import pytest

from krakenbot.adapters.kraken.nonce import NonceSource
from krakenbot.adapters.kraken.ratelimit import RestTier
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.kraken.venue_query import KrakenVenueQuery, VenueQuerySettings
from krakenbot.domain.errors import VenueUnavailable
from krakenbot.domain.instrument import InstrumentStatus
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import Side, Symbol
from krakenbot.ports.venue_query import FeeRates

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
BTC_USD = Symbol("BTC/USD")


def make_pair(**fields: object) -> dict[str, object]:
    return {
        "altname": "XBTUSD",
        "wsname": "XBT/USD",
        "base": "XXBT",
        "quote": "ZUSD",
        "pair_decimals": 1,
        "lot_decimals": 8,
        "cost_decimals": 5,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": "0.1",
        "status": "online",
        **fields,
    }


PAIRS: dict[str, object] = {
    "XXBTZUSD": make_pair(),
    "XDGUSD": make_pair(altname="XDGUSD", wsname="XDG/USD", base="XXDG", pair_decimals=7, tick_size="0.0000001"),
    "USDTZUSD": make_pair(altname="USDTUSD", wsname="USDT/USD", base="USDT", status="a new word"),
}


def make_order(**fields: object) -> dict[str, object]:
    return {
        "status": "open",
        "cl_ord_id": "kb1",
        "opentm": 1_793_500_000.5,
        "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "price": "80000.1", "price2": "0"},
        "vol": "0.00100000",
        "vol_exec": "0.00040000",
        **fields,
    }


def make_trade(order_id: str = "O1", **fields: object) -> dict[str, object]:
    return {
        "ordertxid": order_id,
        "pair": "XXBTZUSD",
        "time": 1_793_500_000.123456,
        "type": "sell",
        "price": "80000.10000",
        "vol": "0.00100000",
        "cost": "80.00010",
        "fee": "0.20000",
        "maker": True,
        **fields,
    }


Results = dict[str, Callable[[dict[str, str]], object]]


class Venue:
    """A REST venue that answers from functions of the form, and remembers what it was asked."""

    def __init__(self, results: Results) -> None:
        self._results: Results = {"AssetPairs": lambda _: PAIRS, **results}
        self.asked: list[tuple[str, dict[str, str]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        endpoint = request.url.path.rsplit("/", 1)[1]
        form = {key: values[0] for key, values in parse_qs(request.content.decode()).items()}
        self.asked.append((endpoint, form))
        return httpx.Response(200, json={"error": [], "result": self._results[endpoint](form)})


@pytest.fixture
async def open_query(clock, events):
    rests: list[KrakenRest] = []

    def opener(venue: Venue, **settings) -> KrakenVenueQuery:
        key = Secret(base64.b64encode(b"key").decode())
        rest = KrakenRest(
            settings=RestSettings(tier=RestTier(threshold=1e6)),
            clock=clock,
            credentials=Credentials(api_key=key, private_key=key),
            nonces=NonceSource(clock=clock),
            transport=httpx.MockTransport(venue),
        )
        rests.append(rest)
        return KrakenVenueQuery(rest=rest, events=events, settings=VenueQuerySettings(**settings))

    yield opener
    for rest in rests:
        await rest.aclose()


async def test_instruments_have_new_names_and_exact_figures(open_query) -> None:
    instruments = {row.symbol: row for row in await open_query(Venue({})).instruments()}
    btc = instruments[BTC_USD]

    assert {"BTC/USD", "DOGE/USD", "USDT/USD"} == set(instruments)
    assert ("BTC", "USD", 1, 8, 5) == (
        btc.base,
        btc.quote,
        btc.price_precision,
        btc.qty_precision,
        btc.cost_precision,
    )
    assert ("0.1", "1E-8", "0.00005", "0.5") == (
        str(btc.price_increment),
        str(btc.qty_increment),
        str(btc.qty_min),
        str(btc.cost_min),
    )
    assert not btc.has_index


async def test_status_word_of_tomorrow_allows_no_entry(open_query) -> None:
    instruments = {row.symbol: row for row in await open_query(Venue({})).instruments()}

    assert InstrumentStatus.UNKNOWN is instruments[Symbol("USDT/USD")].status
    assert not instruments[Symbol("USDT/USD")].status.allows_entry


@pytest.mark.parametrize(
    "fields",
    [
        {"tick_size": None},
        {"tick_size": "0"},
        {"costmin": "much"},
        {"wsname": "XBTUSD"},
        {"pair_decimals": -1},
        {"ordermin": "NaN"},
    ],
)
async def test_pair_that_cannot_be_traded_safely_is_left_out_by_name(open_query, events, fields) -> None:
    venue = Venue({"AssetPairs": lambda _: {**PAIRS, "BAD": make_pair(**fields)}})
    instruments = await open_query(venue).instruments()
    name, said = events.said[0]

    assert 3 == len(instruments)
    assert ("instruments_refused", 1, "BAD") == (name, said["count"], said["example"])


async def test_asset_pairs_without_one_usable_row_is_unavailable(open_query) -> None:
    venue = Venue({"AssetPairs": lambda _: {"BAD": {}}})

    with pytest.raises(VenueUnavailable):
        await open_query(venue).instruments()


async def test_balances_keep_earning_wallets_apart_from_what_can_be_sold(open_query) -> None:
    result = {
        "XXBT": {"balance": "1.5000000000", "hold_trade": "0.2500000000"},
        "XBT.F": {"balance": "7.0", "hold_trade": "0"},
        "ZUSD": {"balance": 25435.21, "hold_trade": 8249.76},
        "SOL": {"balance": "2", "credit": "1", "credit_used": "0.5", "hold_trade": "0.25"},
    }
    balances = await open_query(Venue({"BalanceEx": lambda _: result})).balances()

    assert {"BTC": "1.2500000000", "BTC.F": "7.0", "USD": "17185.45", "SOL": "2.25"} == {
        asset: str(row.available) for asset, row in balances.items()
    }
    assert Decimal("1.5") == balances["BTC"].balance


async def test_fees_are_in_bps_and_a_pair_without_maker_fee_pays_the_takers(open_query) -> None:
    result = {
        "currency": "ZUSD",
        "fees": {"XXBTZUSD": {"fee": "0.4000"}, "USDTZUSD": {"fee": "0.2000"}},
        "fees_maker": {"XXBTZUSD": {"fee": "-0.0200"}},
    }
    venue = Venue({"TradeVolume": lambda _: result})
    rates = await open_query(venue).fee_rates([BTC_USD, Symbol("USDT/USD"), Symbol("NOT/LISTED")])

    assert {
        "BTC/USD": FeeRates(maker_bps=Decimal(-2), taker_bps=Decimal(40)),
        "USDT/USD": FeeRates(maker_bps=Decimal(20), taker_bps=Decimal(20)),
    } == rates
    assert "XBTUSD,USDTUSD" == venue.asked[-1][1]["pair"]


async def test_no_fees_asked_costs_no_call(open_query) -> None:
    venue = Venue({})
    rates = await open_query(venue).fee_rates([])

    assert {} == rates
    assert ["AssetPairs"] == [endpoint for endpoint, _ in venue.asked]


async def test_open_order_is_told_in_domain_words(open_query) -> None:
    orders = await open_query(Venue({"OpenOrders": lambda _: {"open": {"O1": make_order()}}})).open_orders()
    order = orders[0]

    assert ("O1", "kb1", BTC_USD, Side.BUY, "open", "limit") == (
        order.order_id,
        order.cl_ord_id,
        order.symbol,
        order.side,
        order.status,
        order.order_type,
    )
    assert ("0.00100000", "0.00040000", "80000.1") == (str(order.qty), str(order.cum_qty), str(order.limit_price))
    assert datetime(2026, 11, 1, 2, 26, 40, 500_000, tzinfo=UTC) == order.opened_at


@pytest.mark.parametrize(
    ("descr", "limit_price", "trigger_price"),
    [
        ({"ordertype": "stop-loss", "price": "79000", "price2": "0"}, None, "79000"),
        ({"ordertype": "stop-loss-limit", "price": "79000", "price2": "78000"}, "78000", "79000"),
        ({"ordertype": "trailing-stop", "price": "+1.5%", "price2": "0"}, None, None),
        ({"ordertype": "stop-loss", "price": "-5%", "price2": "0"}, None, None),
        ({"ordertype": "market", "price": "0", "price2": "0"}, None, None),
        ({"ordertype": "a-new-type", "price": "5", "price2": "0"}, None, None),
    ],
)
async def test_prices_of_an_order_depend_on_its_type(open_query, descr, limit_price, trigger_price) -> None:
    row = make_order(descr={"pair": "XBTUSD", "type": "sell", **descr})
    order = (await open_query(Venue({"OpenOrders": lambda _: {"open": {"O1": row}}})).open_orders())[0]
    prices = tuple(None if price is None else str(price) for price in (order.limit_price, order.trigger_price))

    assert (limit_price, trigger_price) == prices


async def test_order_of_an_unlisted_pair_keeps_the_venues_name(open_query) -> None:
    row = make_order(descr={"pair": "LUNAUSD", "type": "sell", "ordertype": "limit", "price": "1"})
    order = (await open_query(Venue({"OpenOrders": lambda _: {"open": {"O1": row}}})).open_orders())[0]

    assert "LUNAUSD" == order.symbol


@pytest.mark.parametrize(
    "fields", [{"descr": {}}, {"vol": "many"}, {"vol": "-1"}, {"vol_exec": "-1"}, {"status": None}, {"opentm": 1e300}]
)
async def test_one_unreadable_order_refuses_the_whole_answer(open_query, fields) -> None:
    result = {"open": {"O1": make_order(), "O2": make_order(**fields)}}

    with pytest.raises(VenueUnavailable):
        await open_query(Venue({"OpenOrders": lambda _: result})).open_orders()


@pytest.mark.parametrize(
    "fields", [{"price": "0"}, {"vol": "0.0"}, {"cost": "-1"}, {"time": "never"}, {"type": "both"}]
)
async def test_one_unreadable_fill_refuses_the_whole_answer(open_query, fields) -> None:
    result = {"trades": {"T1": make_trade(**fields)}, "count": 1}

    with pytest.raises(VenueUnavailable):
        await open_query(Venue({"TradesHistory": lambda _: result})).fills(SINCE)


def paged(rows: dict[str, object], key: str, *, with_count: bool, size: int = 50) -> Callable[[dict[str, str]], object]:
    def result(form: dict[str, str]) -> object:
        first = int(form["ofs"])
        page = dict(list(rows.items())[first : first + size])
        return {key: page, "count": len(rows)} if with_count else {key: page}

    return result


@pytest.mark.parametrize("with_count", [True, False])
@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 100, 137])
async def test_all_pages_of_fills_are_read(open_query, with_count: bool, count: int):
    rows: dict[str, object] = {f"T{number}": make_trade() for number in range(count)}
    venue = Venue({"TradesHistory": paged(rows, "trades", with_count=with_count)})
    fills = await open_query(venue).fills(SINCE)

    assert list(rows) == [fill.exec_id for fill in fills]
    assert {str(int(SINCE.timestamp()) - 1)} == {form["start"] for name, form in venue.asked if name == "TradesHistory"}


async def test_page_shorter_than_usual_is_followed_by_the_next_row_while_the_count_says_more(open_query) -> None:
    rows: dict[str, object] = {f"T{number}": make_trade() for number in range(70)}
    venue = Venue({"TradesHistory": paged(rows, "trades", with_count=True, size=30)})
    fills = await open_query(venue).fills(SINCE)

    assert list(rows) == [fill.exec_id for fill in fills]
    assert ["0", "30", "60"] == [form["ofs"] for name, form in venue.asked if name == "TradesHistory"]


async def test_fill_is_told_in_domain_words(open_query) -> None:
    venue = Venue({"TradesHistory": lambda _: {"trades": {"T1": make_trade()}, "count": 1}})
    fill = (await open_query(venue).fills(SINCE))[0]

    assert ("T1", "O1", BTC_USD, Side.SELL, "USD", True) == (
        fill.exec_id,
        fill.order_id,
        fill.symbol,
        fill.side,
        fill.fee_asset,
        fill.is_maker,
    )
    assert ("80000.10000", "0.00100000", "80.00010", "0.20000") == (
        str(fill.price),
        str(fill.qty),
        str(fill.cost),
        str(fill.fee),
    )
    assert 123456 == fill.at.microsecond


async def test_fills_that_arrive_between_pages_are_neither_lost_nor_doubled(open_query) -> None:
    rows: dict[str, object] = {f"T{number}": make_trade() for number in range(100)}
    grown: dict[str, object] = {"new": make_trade(), **rows}

    def result(form: dict[str, str]) -> object:
        return paged(rows if form["ofs"] == "0" else grown, "trades", with_count=True)(form)

    fills = await open_query(Venue({"TradesHistory": result})).fills(SINCE)
    ids = [fill.exec_id for fill in fills]

    assert set(rows) == set(ids)
    assert len(set(ids)) == len(ids)


async def test_history_beyond_the_bound_is_refused_not_cut_short(open_query) -> None:
    rows: dict[str, object] = {f"O{number}": make_order(status="closed") for number in range(150)}
    venue = Venue({"ClosedOrders": paged(rows, "closed", with_count=True)})

    with pytest.raises(VenueUnavailable, match="more than 100 rows"):
        await open_query(venue, max_pages=2).closed_orders(SINCE)


async def test_closed_orders_are_paged_and_keep_reason_and_time(open_query) -> None:
    row = make_order(status="canceled", reason="User requested", closetm=1_793_500_001.0)
    rows: dict[str, object] = {f"O{number}": row for number in range(51)}
    orders = await open_query(Venue({"ClosedOrders": paged(rows, "closed", with_count=True)})).closed_orders(SINCE)

    assert list(rows) == [order.order_id for order in orders]
    assert ("canceled", "User requested") == (orders[0].status, orders[0].reason)
    assert orders[0].closed_at is not None


async def test_names_are_read_once(open_query) -> None:
    venue = Venue({"OpenOrders": lambda _: {"open": {}}})
    query = open_query(venue)
    for _ in range(3):
        await query.open_orders()

    assert 1 == [endpoint for endpoint, _ in venue.asked].count("AssetPairs")


async def test_system_status_is_the_venues_word(open_query) -> None:
    venue = Venue({"SystemStatus": lambda _: {"status": "post_only", "timestamp": "2026-11-01T00:00:00Z"}})

    assert "post_only" == await open_query(venue).system_status()


def make_entry(second: int, asset: str = "ZUSD") -> dict[str, object]:
    return {
        "refid": f"R{second}",
        "time": SINCE.timestamp() + second,
        "type": "trade",
        "subtype": "",
        "asset": asset,
        "amount": "1.0",
        "fee": "0.0",
        "balance": str(second),
    }


class Ledger:
    """A ledger that answers by time, newest first, and not more than `pages` times."""

    def __init__(self, seconds: range) -> None:
        self.rows = {f"L{second}": make_entry(second) for second in seconds}
        self.pages = 1_000

    def __call__(self, form: dict[str, str]) -> object:
        self.pages -= 1
        if self.pages < 0:
            return "broken off"
        start, end, first = float(form["start"]), float(form.get("end", "inf")), int(form["ofs"])
        newest = sorted(self.rows.items(), key=lambda row: str(row[1]["time"]), reverse=True)
        shown = [(name, row) for name, row in newest if start < float(str(row["time"])) <= end]
        return {"ledger": dict(shown[first : first + 50]), "count": len(shown)}


async def test_ledger_that_was_broken_off_goes_on_where_it_ended(open_query) -> None:
    """However many pages it has: each try takes it further, and what comes meanwhile is in it too."""
    ledger = Ledger(range(1, 1001))
    venue = Venue({"Ledgers": ledger})
    query = open_query(venue)
    for n in range(6):
        ledger.pages = 3
        with pytest.raises(VenueUnavailable):
            await query.ledger(SINCE)
        ledger.rows[f"L{1001 + n}"] = make_entry(1001 + n)
    # Entries may appear behind younger ones.
    ledger.rows["late"] = make_entry(930)
    ledger.pages = 10
    read = await query.ledger(SINCE)

    assert set(ledger.rows) == {entry.ledger_id for entry in read}
    assert len(ledger.rows) == len(read)


async def test_ledger_that_was_read_reads_only_its_end_again(open_query) -> None:
    ledger = Ledger(range(1, 1001))
    query = open_query(Venue({"Ledgers": ledger}))
    await query.ledger(SINCE)
    ledger.rows |= {f"L{second}": make_entry(second) for second in range(1001, 1201)}
    ledger.pages = 5
    with pytest.raises(VenueUnavailable):
        await query.ledger(SINCE)
    ledger.pages = 7
    later = SINCE + timedelta(seconds=600)
    read = await query.ledger(later)
    ledger.pages = 30
    from_before = await query.ledger(SINCE)

    assert {f"L{second}" for second in range(600, 1201)} == {entry.ledger_id for entry in read}
    assert set(ledger.rows) == {entry.ledger_id for entry in from_before}
