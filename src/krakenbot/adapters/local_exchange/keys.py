"""Know API keys, their signatures, nonces and permissions, and the WebSocket tokens issued to them.

REST calls `authenticate` for every private request; the WS sessions resolve tokens. Times are handed in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from decimal import Decimal, InvalidOperation
from random import Random
from typing import Any, Final

from attrs import define, field, frozen

from krakenbot.adapters.local_exchange.matching.accounts import Account
from krakenbot.adapters.local_exchange.matching.tiers import Tier

PERMISSIONS: Final = (
    "query-funds",
    "query-open-trades",
    "query-closed-trades",
    "modify-trades",
    "close-trades",
    "query-ledger",
    "create-ws-token",
)
"""What a key has unless the accounts file says otherwise."""
MORE_PERMISSIONS: Final = ("add-funds", "withdraw-funds", "earn-funds", "export-data")
"""What a key has only if the accounts file says so; nothing here asks for them."""
TOKEN_LIFE_S: Final = 900
MORE_KEY_FIELDS: Final = ("permissions", "nonce_window", "valid_until", "ip_allowlist")
KEY_FIELDS: Final = frozenset({"api_key", "api_secret", *MORE_KEY_FIELDS})
ACCOUNT_KEYS: Final = frozenset({"name", "keys", "balances"})
OPTIONAL_ACCOUNT_KEYS: Final = frozenset({"tier", "volume_usd"})
MAX_AMOUNT: Final = Decimal(10**15)
AMOUNT_DIGITS: Final = 10
INVALID_KEY: Final = "EAPI:Invalid key"
INVALID_SIGNATURE: Final = "EAPI:Invalid signature"
INVALID_NONCE: Final = "EAPI:Invalid nonce"
PERMISSION_DENIED: Final = "EGeneral:Permission denied"


class AccountsFileError(ValueError):
    """The accounts file does not say what it must; the message names the place."""


@define(eq=False, kw_only=True)
class ApiKey:
    """One key of an account; several keys may act for one account."""

    api_key: str
    secret: bytes = field(repr=False)
    permissions: frozenset[str]
    account: Account
    nonce_window: int = 0
    valid_until_s: int = 0
    ip_allowlist: tuple[str, ...] = ()
    is_revoked: bool = False
    last_nonce: int = 0
    created_ns: int = 0
    last_used_ns: int = 0
    _spent: set[int] = field(factory=set)

    def is_valid(self, now_ns: int) -> bool:
        """Tell whether the key is neither revoked nor expired; `valid_until_s` 0 means for ever."""
        return not self.is_revoked and not 0 < self.valid_until_s * 1_000_000_000 <= now_ns

    def allows(self, address: str) -> bool:
        """Tell whether the key may be used from an address; an empty list allows any."""
        return not self.ip_allowlist or address in self.ip_allowlist

    def spend(self, nonce: int) -> bool:
        """Use up a nonce; False when it is old. Inside the window a lower one is good as long as it is new."""
        oldest = self.last_nonce - self.nonce_window
        if nonce in self._spent or nonce <= (oldest if self.nonce_window else self.last_nonce):
            return False
        self.last_nonce = max(self.last_nonce, nonce)
        if self.nonce_window:
            oldest = self.last_nonce - self.nonce_window
            self._spent = {spent for spent in self._spent if spent > oldest} | {nonce}
        return True

    def may(self, *permissions: str) -> bool:
        """Tell whether the key holds one of these permissions."""
        return not self.permissions.isdisjoint(permissions)


@frozen(kw_only=True)
class SignedCall:
    """What a private request brings to prove who sent it; `body` as it came, `nonce` as found inside it."""

    api_key: str
    signature: str
    path: str
    body: bytes
    nonce: str


@define(eq=False)
class Token:
    """A WebSocket token: usable for 15 minutes, and as long as a connection that subscribed with it lives.

    `path` is where it was used first, for the rule that binds it to one; empty before.
    """

    key: ApiKey
    expires_ns: int
    holders: set[object] = field(factory=set)
    path: str = ""


class KeyRing:
    """All keys and tokens."""

    def __init__(self, seed: int) -> None:
        self.keys: dict[str, ApiKey] = {}
        self._tokens: dict[str, Token] = {}
        self._random = Random(f"tokens-{seed}")  # noqa: S311, secrets of a loopback peer for rehearsals

    def add(self, key: ApiKey) -> None:
        """Add a key."""
        self.keys[key.api_key] = key

    def add_entry(self, entry: KeyEntry, account: Account) -> ApiKey:
        """Add a key of the accounts file."""
        key = ApiKey(
            api_key=entry.api_key,
            secret=entry.secret,
            permissions=entry.permissions,
            account=account,
            nonce_window=entry.nonce_window,
            valid_until_s=entry.valid_until_s,
            ip_allowlist=entry.ip_allowlist,
        )
        self.add(key)
        return key

    def revoke(self, api_key: str) -> bool:
        """Revoke a key and so its tokens; False when there is no such key."""
        key = self.keys.get(api_key)
        if key is not None:
            key.is_revoked = True
        return key is not None

    def authenticate(self, call: SignedCall, now_ns: int) -> ApiKey | str:
        """Return the key that signed a request, or the error text; a good request moves the nonce on."""
        key = self.keys.get(call.api_key)
        if key is None or not key.is_valid(now_ns):
            return INVALID_KEY
        nonce = call.nonce
        expected = sign(key.secret, call.path, call.body, nonce)
        if not hmac.compare_digest(expected, call.signature.encode("utf-8", "replace")):
            return INVALID_SIGNATURE
        if not (nonce.isascii() and nonce.isdigit() and len(nonce) <= 20 and int(nonce) < 2**64):
            return INVALID_NONCE
        if not key.spend(int(nonce)):
            return INVALID_NONCE
        key.last_used_ns = now_ns
        return key

    def issue_token(self, key: ApiKey, now_ns: int) -> str:
        """Return a new token for a key; forget those that nobody can use any more."""
        self._tokens = {text: t for text, t in self._tokens.items() if t.holders or t.expires_ns > now_ns}
        text = base64.b64encode(self._random.randbytes(32)).decode().rstrip("=")
        self._tokens[text] = Token(key, now_ns + TOKEN_LIFE_S * 1_000_000_000)
        return text

    def resolve(self, text: str, now_ns: int) -> Token | None:
        """Return a usable token; None when it is unknown or expired, or its key revoked."""
        token = self._tokens.get(text)
        if token is None or not token.key.is_valid(now_ns) or (not token.holders and token.expires_ns <= now_ns):
            return None
        return token

    def expire_tokens(self) -> bool:
        """Let every token be expired, also those in use; False when there is none."""
        had_tokens = bool(self._tokens)
        self._tokens.clear()
        return had_tokens

    def release(self, holder: object) -> None:
        """Forget a closed connection."""
        for token in self._tokens.values():
            token.holders.discard(holder)


def sign(secret: bytes, path: str, body: bytes, nonce: str) -> bytes:
    """Return the base64 signature of a private request (FACTS 13.1)."""
    digest = hashlib.sha256(nonce.encode("utf-8", "replace") + body).digest()
    return base64.b64encode(hmac.new(secret, path.encode() + digest, hashlib.sha512).digest())


@define(kw_only=True)
class KeyEntry:
    """One key of the accounts file."""

    api_key: str
    secret: bytes = field(repr=False)
    permissions: frozenset[str]
    nonce_window: int = 0
    valid_until_s: int = 0
    ip_allowlist: tuple[str, ...] = ()


@define(kw_only=True)
class AccountEntry:
    """One account of the accounts file."""

    name: str
    keys: list[KeyEntry]
    balances: dict[str, Decimal]
    tier: Tier = Tier.PRO
    volume_usd: Decimal = Decimal(0)


def parse_accounts(text: str) -> list[AccountEntry]:
    """Return the accounts of an accounts file.

    Raises AccountsFileError with the place and what is expected there.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AccountsFileError(f"the accounts file is no JSON: {error}") from error
    if not isinstance(document, list) or not document:
        raise AccountsFileError("the accounts file must be a list with at least one account")
    entries = [_account_entry(item, f"accounts[{index}]") for index, item in enumerate(document)]
    names = [entry.name for entry in entries]
    api_keys = [key.api_key for entry in entries for key in entry.keys]
    if len(set(names)) < len(names) or len(set(api_keys)) < len(api_keys):
        raise AccountsFileError("names and API keys must be unique in the accounts file")
    return entries


def _account_entry(item: Any, place: str) -> AccountEntry:
    if not isinstance(item, dict):
        raise AccountsFileError(f"{place} must be an object")
    unknown, missing = set(item) - ACCOUNT_KEYS - OPTIONAL_ACCOUNT_KEYS, ACCOUNT_KEYS - set(item)
    if unknown or missing:
        found = [f"no {name}" for name in sorted(missing)] + [f"an unknown {name}" for name in sorted(unknown)]
        rule = "must have exactly name, keys and balances, and may have tier and volume_usd"
        raise AccountsFileError(f"{place} has {' and '.join(found)}; it {rule}")
    if item.get("tier", Tier.PRO) not in tuple(Tier):
        raise AccountsFileError(f"{place}.tier must be out of {', '.join(Tier)}")
    if not isinstance(item["name"], str) or not item["name"] or not item["name"].isprintable():
        raise AccountsFileError(f"{place}.name must be a text")
    if not isinstance(item["keys"], list) or not isinstance(item["balances"], dict):
        raise AccountsFileError(f"{place}.keys must be a list and balances an object")
    if any(not asset.isprintable() or asset in ("", "XBT", "XDG") for asset in item["balances"]):
        raise AccountsFileError(f"{place}.balances must name assets as WS v2 does: BTC and DOGE, not XBT and XDG")
    balances = {asset: _amount(amount, f"{place}.balances.{asset}") for asset, amount in item["balances"].items()}
    keys = [_key_entry(key, f"{place}.keys[{index}]") for index, key in enumerate(item["keys"])]
    tier = Tier(item.get("tier", Tier.PRO))
    volume_usd = _amount(item.get("volume_usd", "0"), f"{place}.volume_usd")
    return AccountEntry(name=item["name"], keys=keys, balances=balances, tier=tier, volume_usd=volume_usd)


def _amount(text: Any, place: str) -> Decimal:
    try:
        amount = Decimal(text)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise AccountsFileError(f"{place} must be a decimal in quotes") from error
    if not isinstance(text, str) or not amount.is_finite() or amount < 0:
        raise AccountsFileError(f"{place} must be a decimal in quotes, not negative")
    # Sums of such amounts stay exact in 28 digits.
    if amount >= MAX_AMOUNT or amount != round(amount, AMOUNT_DIGITS):
        raise AccountsFileError(f"{place} must be below {MAX_AMOUNT:f}, with at most {AMOUNT_DIGITS} decimals")
    return amount


def _key_entry(item: Any, place: str) -> KeyEntry:
    if not isinstance(item, dict) or not {"api_key", "api_secret"} <= set(item) <= KEY_FIELDS:
        raise AccountsFileError(f"{place} must have api_key and api_secret, and may have {', '.join(MORE_KEY_FIELDS)}")
    if not isinstance(item["api_key"], str) or not item["api_key"].isascii() or not item["api_key"].isprintable():
        raise AccountsFileError(f"{place}.api_key must be a printable ASCII text")
    if not item["api_key"].strip():
        raise AccountsFileError(f"{place}.api_key must not be empty")
    permissions = item.get("permissions", list(PERMISSIONS))
    allowed = PERMISSIONS + MORE_PERMISSIONS
    if not isinstance(permissions, list) or not all(name in allowed for name in permissions):
        raise AccountsFileError(f"{place}.permissions must be out of {', '.join(allowed)}")
    try:
        secret = base64.b64decode(item["api_secret"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise AccountsFileError(f"{place}.api_secret must be base64") from error
    allowlist = item.get("ip_allowlist", [])
    if not isinstance(allowlist, list) or not all(isinstance(address, str) for address in allowlist):
        raise AccountsFileError(f"{place}.ip_allowlist must be a list of addresses")
    return KeyEntry(
        api_key=item["api_key"],
        secret=secret,
        permissions=frozenset(permissions),
        nonce_window=_whole(item, "nonce_window", place),
        valid_until_s=_whole(item, "valid_until", place),
        ip_allowlist=tuple(allowlist),
    )


def _whole(item: dict[str, Any], name: str, place: str) -> int:
    value = item.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise AccountsFileError(f"{place}.{name} must be a whole number, not negative")
    return value
