"""Rhythm and patience of ingest. Enters: what the settings file says. Called by the parts of the ingest engine."""

from __future__ import annotations

from attrs import field, frozen, validators

from krakenbot.domain.values import Symbol


@frozen(kw_only=True)
class IngestSettings:
    """Rhythm of ingest, in seconds, and the symbols it is confined to.

    `symbols` empty means: all that belong to the universe. `first_snapshot_grace_s` is how long the first epoch waits
    for the first books. `volume_max_age_s` is how long a ticker's volume counts: a symbol left out for it is then
    looked at again.
    """

    symbols: tuple[Symbol, ...] = ()
    sample_interval_s: float = field(default=1.0, validator=validators.ge(0.1))
    epoch_interval_s: float = field(default=10.0, validator=validators.ge(1.0))
    status_interval_s: float = field(default=1.0, validator=validators.ge(0.1))
    heartbeat_max_age_s: float = field(default=10.0, validator=validators.gt(0))
    instruments_wait_s: float = field(default=60.0, validator=validators.gt(0))
    volume_max_age_s: float = field(default=3600.0, validator=validators.ge(1.0))
    first_snapshot_grace_s: float = field(default=10.0, validator=validators.ge(0))
