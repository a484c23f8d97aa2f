"""Settings of the execution engine: one frozen class, checked when it is made."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

from attrs import field, fields, frozen

from krakenbot.domain.errors import ConfigError
from krakenbot.domain.execution.exits import ExitSettings
from krakenbot.domain.execution.rate import AccountTier
from krakenbot.domain.values import Asset, VenueId

_NOT_KNOWN_YET = VenueId("")
_USD = Asset("USD")


@frozen(kw_only=True)
class ExecutionSettings:
    """What the execution engine needs to know; times in seconds.

    `capital_limit_quote` caps equity and has no default; it is in units of `quote_asset`. `venue_id` is filled in from
    host and account; the engine refuses an empty one. `lease_ttl_s` is how long a lease lasts without renewal.
    `ladder_interval_s` and `account_interval_s` fit the lowest tier's REST counter (FACTS 14), and `query_timeout_s`
    leaves room to wait until it has decayed. `tie_out_interval_s` lies between two comparisons with the ledger.
    `request_timeout_s` bounds every request to the venue, `store_timeout_s` every transaction that an order waits for.
    `quiet_s` is how long a symbol rests after the same rejection twice.
    `stop_timeout_s` is shared out among the steps of a clean stop; a process that takes longer than twice as much ends
    all the same, with status 1.
    `journal_dir` is where requests are kept while the decision database is away (not set: the folder `journal` in
    `data_dir`).
    `tier` is the account's verification tier at Kraken, which sets its rate limits; where the venue states a tighter
    one, that holds.
    """

    capital_limit_quote: Decimal
    venue_id: VenueId = _NOT_KNOWN_YET
    quote_asset: Asset = _USD
    holder: str = "execution"
    cycle_s: float = 2.0
    refresh_wait_s: float = 2.0
    deadline_s: float = 5.0
    request_timeout_s: float = 6.0
    store_timeout_s: float = 5.0
    query_timeout_s: float = 30.0
    visibility_margin_s: float = 60.0
    ladder_interval_s: float = 20.0
    reconcile_interval_s: float = 60.0
    account_interval_s: float = 15.0
    tie_out_interval_s: float = 300.0
    max_generation_age_s: float = 30.0
    max_epoch_age_s: float = 120.0
    fills_overdue_s: float = 2.0
    monitor_interval_s: float = 0.25
    lease_ttl_s: float = 15.0
    lease_margin_s: float = 3.0
    stop_timeout_s: float = 15.0
    quiet_s: float = 600.0
    journal_dir: Path | None = None
    tier: AccountTier = AccountTier.STARTER
    exits: ExitSettings = field(factory=ExitSettings)

    def __attrs_post_init__(self) -> None:
        for attribute in fields(ExecutionSettings):
            value = getattr(self, attribute.name)
            if isinstance(value, float) and (not math.isfinite(value) or value <= 0):
                raise ConfigError(f"execution.{attribute.name} = {value}: a number above 0 is allowed")
        if self.capital_limit_quote <= 0:
            raise ConfigError(f"execution.capital_limit_quote = {self.capital_limit_quote}: above 0 is allowed")
        if not 0.5 <= self.deadline_s <= 60:
            raise ConfigError(f"execution.deadline_s = {self.deadline_s}: 0.5 to 60 is allowed")
        if self.lease_margin_s >= self.lease_ttl_s:
            raise ConfigError(f"execution.lease_margin_s = {self.lease_margin_s}: below lease_ttl_s is allowed")
