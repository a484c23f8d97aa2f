"""All settings of krakenbot in one frozen tree, and where they come from.

Order of precedence, later wins: defaults, TOML file, environment, credential files. An unknown key is refused with the
nearest known one. Secrets are `Secret` and print masked.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import platformdirs
import psycopg
from attrs import Attribute, Factory, field, frozen, validators
from psycopg.conninfo import conninfo_to_dict

from krakenbot.apps.settings_loader import from_credentials, from_environment, from_toml, load
from krakenbot.domain.decision.inputs import DecisionSettings
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.ingest_settings import IngestSettings
from krakenbot.domain.engine.probes import ProbeSettings
from krakenbot.domain.engine.refresh import RefreshSettings
from krakenbot.domain.engine.trade_refill import RefillSettings
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.preflight.settings import DoctorSettings
from krakenbot.domain.secret import Secret
from krakenbot.domain.state.retention import RetentionSettings, RunSettings
from krakenbot.domain.state.standing import StandingSettings
from krakenbot.domain.state.universe import UniverseSettings
from krakenbot.domain.state.windows import Windows

PREFIX = "KRAKENBOT_"
ALIASES = {
    "DATABASE_URL": "database.url",
    "DECISION_DATABASE_URL": "database.decision_url",
    "EXECUTION_ONLY": "process.execution_only",
}
RESERVED = frozenset({"KRAKENBOT_CONFIG", "KRAKENBOT_RECORDINGS"})
CREDENTIALS = {
    "database_url": "database.url",
    "decision_database_url": "database.decision_url",
    "ingest_api_key": "keys.ingest_api_key",
    "ingest_api_secret": "keys.ingest_api_secret",
    "execution_api_key": "keys.execution_api_key",
    "execution_api_secret": "keys.execution_api_secret",
}
KRAKEN_HOST_SUFFIX = ".kraken.com"
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class LogFormat(enum.StrEnum):
    """How event lines look: AUTO is for people on a terminal and JSON elsewhere."""

    AUTO = "auto"
    HUMAN = "human"
    JSON = "json"


def _venue_url(_: object, attribute: Attribute[str], value: str) -> None:
    """Allow Kraken's hosts over TLS, and loopback."""
    plain, tls = ("http", "https") if attribute.name == "rest_url" else ("ws", "wss")
    if "@" in value:  # not shown: what stands before it is a password
        raise ValueError(f"{attribute.name} = ****: a user or password in the URL is not allowed")
    allowed = f"allowed are {tls}:// with a host of kraken.com, and {plain}:// or {tls}:// with a loopback host"
    try:
        url = urlsplit(value)
        host, _port = url.hostname or "", url.port
    except ValueError as exc:
        raise ValueError(f"{attribute.name} = {value}: {exc}; {allowed}") from None
    kraken = url.scheme == tls and host.endswith(KRAKEN_HOST_SUFFIX)
    loopback = url.scheme in {plain, tls} and host in LOOPBACK_HOSTS
    if not kraken and not loopback:
        raise ValueError(f"{attribute.name} = {value}: {allowed}")


def _database_url(_: object, attribute: Attribute[Secret | None], value: Secret | None) -> None:
    """Refuse what the driver cannot read: its own message would show the text, password and all."""
    if value is None:
        return
    try:
        parts = conninfo_to_dict(value.reveal())
    except psycopg.ProgrammingError:
        parts = None
    if parts is None or "@" in str(parts.get("host", "")):
        raise ValueError(
            f"{attribute.name} = ****: allowed is postgresql://user:password@host:port/database, "
            "with special characters percent-encoded (@ is %40)"
        )


@frozen(kw_only=True)
class VenueSettings:
    """Endpoints; only Kraken's own hosts or loopback are allowed, so that a key never leaves for elsewhere.

    `market_connections_per_10_min` is what the market feed of a process may try of the about 150 connections that
    Kraken allows an address, beside 15 at once; a private stream takes up to 40. More than it leaves gets the address
    banned for ten minutes.
    """

    rest_url: str = field(default="https://api.kraken.com", validator=_venue_url)
    ws_public_url: str = field(default="wss://ws.kraken.com/v2", validator=_venue_url)
    ws_private_url: str = field(default="wss://ws-auth.kraken.com/v2", validator=_venue_url)
    ws_level3_url: str = field(default="wss://ws-l3.kraken.com/v2", validator=_venue_url)
    market_connections_per_10_min: int = field(default=35, validator=[validators.ge(1), validators.le(135)])

    @property
    def host(self) -> str:
        """Return the REST host with its port: part of the venue id."""
        return urlsplit(self.rest_url).netloc


@frozen(kw_only=True)
class DatabaseSettings:
    """PostgreSQL: two URLs for two clusters, one for both roles, or none for embedded clusters.

    `bindir` names a folder with PostgreSQL binaries for the embedded clusters; None looks for them.
    """

    url: Secret | None = field(default=None, validator=_database_url)
    decision_url: Secret | None = field(default=None, validator=_database_url)
    bindir: Path | None = None


@frozen(kw_only=True)
class KeySettings:
    """API keys; ingest's is for level3 only and optional, execution's trades. The same key in both is refused."""

    ingest_api_key: Secret | None = None
    ingest_api_secret: Secret | None = None
    execution_api_key: Secret | None = None
    execution_api_secret: Secret | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse half a key, and one key for two processes: their nonces would collide."""
        for name in ("ingest", "execution"):
            if bool(getattr(self, f"{name}_api_key")) != bool(getattr(self, f"{name}_api_secret")):
                raise ValueError(f"{name}_api_key and {name}_api_secret must be set together")
        if self.ingest_api_key and self.ingest_api_key == self.execution_api_key:
            raise ValueError("ingest_api_key and execution_api_key are the same; use two keys, their nonces collide")


@frozen(kw_only=True)
class ProcessSettings:
    """What this process is; `data_dir` holds embedded clusters, nonces and the spool."""

    data_dir: Path = Factory(lambda: Path(platformdirs.user_data_dir("krakenbot")))
    execution_only: bool = False
    log_format: LogFormat = LogFormat.AUTO


@frozen(kw_only=True)
class WriterSettings:
    """How samples are written, and what happens to them while the ingest database is away.

    `queue_rows` bounds what waits in memory: above it periodic samples are coalesced, above twice that trades are
    dropped and named. After `spool_after_s` without the database what waits goes to disk, at most `spool_bytes_max`, in
    `spool_dir` (not set: the folder `spool` in `data_dir`).
    """

    queue_rows: int = field(default=400_000, validator=validators.ge(1000))
    spool_after_s: float = field(default=2.0, validator=validators.ge(0))
    spool_bytes_max: int = field(default=2 << 30, validator=validators.ge(1 << 20))
    spool_dir: Path | None = None


@frozen(kw_only=True)
class Settings:
    """Everything that can be set."""

    process: ProcessSettings = Factory(ProcessSettings)
    database: DatabaseSettings = Factory(DatabaseSettings)
    venue: VenueSettings = Factory(VenueSettings)
    keys: KeySettings = Factory(KeySettings)
    universe: UniverseSettings = Factory(UniverseSettings)
    standing: StandingSettings = Factory(StandingSettings)
    ingest: IngestSettings = Factory(IngestSettings)
    runs: RunSettings = Factory(RunSettings)
    retention: RetentionSettings = Factory(RetentionSettings)
    writer: WriterSettings = Factory(WriterSettings)
    refill: RefillSettings = Factory(RefillSettings)
    probes: ProbeSettings = Factory(ProbeSettings)
    refresh: RefreshSettings = Factory(RefreshSettings)
    windows: Windows = Factory(Windows)
    decision: DecisionSettings = Factory(DecisionSettings)
    doctor: DoctorSettings = Factory(DoctorSettings)
    execution: ExecutionSettings | None = None

    def require_execution(self) -> ExecutionSettings:
        """Return execution's settings; raises ConfigError when capital has no limit yet."""
        if self.execution is None:
            raise ConfigError(
                "execution.capital_limit_quote is not set: say how much of the quote asset may be traded with"
            )
        return self.execution

    def secret_texts(self) -> list[str]:
        """Return every secret's text, and the passwords within URLs, for masking in logs and messages."""
        urls = [url.reveal() for url in (self.database.url, self.database.decision_url) if url]
        passwords = [str(password) for url in urls if (password := conninfo_to_dict(url).get("password"))]
        keys = (
            self.keys.ingest_api_key,
            self.keys.ingest_api_secret,
            self.keys.execution_api_key,
            self.keys.execution_api_secret,
        )
        return [*urls, *passwords, *map(quote, passwords), *(key.reveal() for key in keys if key)]


def load_settings(
    config: Path | None = None, environment: Mapping[str, str] | None = None
) -> tuple[Settings, dict[str, str]]:
    """Load settings and the origin of every key that was set; raises ConfigError."""
    env = os.environ if environment is None else environment  # noqa: TID251  # the one place that reads it
    origins = []
    file = config or (Path(env["KRAKENBOT_CONFIG"]) if env.get("KRAKENBOT_CONFIG") else None)
    if file is not None:
        if not file.is_file():
            raise ConfigError(f"settings file {file} does not exist or is no file")
        origins += from_toml(file)
    origins += from_environment(env, PREFIX, ALIASES, RESERVED)
    if env.get("CREDENTIALS_DIRECTORY"):
        origins += from_credentials(Path(env["CREDENTIALS_DIRECTORY"]), CREDENTIALS)
    settings, sources = load(Settings, origins)
    return settings, sources
