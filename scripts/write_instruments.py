"""Write the instrument, asset and reference price tables of the local exchange.

Reads `instrument-snapshot.json` from the recordings folder (first argument, or KRAKENBOT_RECORDINGS, or
`../shared/kraken` beside the project) and writes tab-separated text with exact decimals. Reference prices are
not the venue's: they are derived from `qty_min`, which Kraken sets near five US dollars for a base.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path

from krakenbot.adapters.local_exchange.flow.recording import find_recordings

TABLES = Path(__file__).parents[1] / "src/krakenbot/adapters/local_exchange/flow"
PAIR_COLUMNS = (
    "symbol",
    "base",
    "quote",
    "status",
    "price_precision",
    "qty_precision",
    "cost_precision",
    "price_increment",
    "qty_increment",
    "qty_min",
    "cost_min",
    "has_index",
)
ASSET_COLUMNS = ("id", "precision", "precision_display", "status")
MINIMUM_WORTH_USD = Decimal(6)
# Rounded rates for what is not priced by a minimum: money, and coins that promise to be money.
MONEY_USD = {
    "USD": "1", "EUR": "1.08", "GBP": "1.27", "CHF": "1.12", "CAD": "0.73", "AUD": "0.66", "JPY": "0.0067",
    "AED": "0.27", "USDT": "1", "USDC": "1", "DAI": "1", "PYUSD": "1", "TUSD": "1", "EURT": "1.08",
}  # fmt: skip


def write_table(path: Path, columns: tuple[str, ...], rows: list[dict[str, object]]) -> None:
    """Write rows as tab-separated text with a header line."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(cell(row[column]) for column in columns) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def cell(value: object) -> str:
    """Return one value as exact text: decimals without an exponent, flags as true or false."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def reference_rows(pairs: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return one US dollar price per base: a fixed rate for money, else six dollars over the minimum."""
    minimums: dict[str, Decimal] = {}
    for pair in sorted(pairs, key=lambda pair: str(pair["quote"]) != "USD"):
        minimums.setdefault(str(pair["base"]), Decimal(str(pair["qty_min"])))
    rows: list[dict[str, object]] = []
    for base in sorted(minimums.keys() | MONEY_USD.keys()):
        price = Decimal(MONEY_USD[base]) if base in MONEY_USD else round_to_two_digits(minimums[base])
        rows.append({"base": base, "price_usd": price, "origin": "rate" if base in MONEY_USD else "qty_min"})
    return rows


def round_to_two_digits(qty_min: Decimal) -> Decimal:
    """Return the dollar price at which `qty_min` is worth about six dollars, to two digits."""
    price = MINIMUM_WORTH_USD / qty_min
    return round(price, 1 - price.adjusted())


def main() -> None:
    """Read the snapshot and write the three tables."""
    recordings = find_recordings(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    text = (recordings / "instrument-snapshot.json").read_text(encoding="utf-8")
    data = json.loads(text, parse_float=Decimal)["data"]
    write_table(TABLES / "instruments.tsv", PAIR_COLUMNS, data["pairs"])
    write_table(TABLES / "assets.tsv", ASSET_COLUMNS, data["assets"])
    write_table(TABLES / "reference_prices.tsv", ("base", "price_usd", "origin"), reference_rows(data["pairs"]))
    print(f"{len(data['pairs'])} pairs, {len(data['assets'])} assets")


if __name__ == "__main__":
    main()
