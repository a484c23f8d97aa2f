"""API keys: may they do what is needed, and nothing that costs the account.

Enters: what the venue says of each key. Leaves: findings. Called by `krakenbot doctor` and the start of execution.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attrs import frozen

from krakenbot.domain.preflight.finding import Finding, fail, ok, warn
from krakenbot.domain.preflight.settings import DoctorSettings, OnEmptyIpList

_SECONDS_PER_DAY: Final = 86_400.0
_NEEDED: Final = {
    "execution": (
        "query-funds",
        "query-open-trades",
        "query-closed-trades",
        "modify-trades",
        "close-trades",
        "create-ws-token",
    ),
    "ingest": ("create-ws-token",),
}
_USEFUL: Final = {"execution": {"query-ledger": "fills are then not compared with the account's ledger"}, "ingest": {}}
_TRADING: Final = frozenset({"modify-trades", "close-trades"})
_MOVES_FUNDS: Final = ("withdraw", "add-funds", "deposit")
_INVALID_NONCE: Final = "EAPI:Invalid nonce"


@frozen(kw_only=True)
class KeyRights:
    """What the venue says of the key that asks; None is what it did not say.

    `expires` False is a key that is valid for ever; then `valid_until` is None.
    """

    permissions: frozenset[str]
    expires: bool | None
    valid_until: datetime | None
    ip_allowlist: tuple[str, ...] | None
    nonce_window: int | None
    name: str = ""

    @property
    def moving(self) -> tuple[str, ...]:
        """Return the permissions that let the key withdraw or add funds; such a key is refused."""
        return tuple(sorted(name for name in self.permissions if any(word in name.lower() for word in _MOVES_FUNDS)))

    @property
    def may_move_funds(self) -> bool:
        """Tell whether the key may withdraw or add funds."""
        return bool(self.moving)


@frozen(kw_only=True)
class KeyFacts:
    """One process's key. `fingerprint` tells keys apart and shows nothing of them.

    `refused` holds the venue's words when it refuses the key, `unreachable` why it could not be asked, `unusable`
    why we do not ask with it. `token` is
    None when no token was asked for, else an empty text for a good one, or why there was none.
    """

    process: str
    fingerprint: str
    rights: KeyRights | None = None
    refused: str | None = None
    unreachable: str | None = None
    unusable: str | None = None
    token: str | None = None


def judge_keys(keys: Sequence[KeyFacts], at: datetime, settings: DoctorSettings) -> list[Finding]:
    """Return the findings of all keys, and whether two processes share one."""
    findings = [finding for key in keys for finding in _judge_key(key, at, settings)]
    prints = [key.fingerprint for key in keys]
    if len(set(prints)) < len(prints):
        findings.append(
            fail(
                "keys.distinct",
                f"one key for {' and '.join(key.process for key in keys)}",
                "a key each: their nonces collide",
                "Make a second API key and give each process its own.",
            )
        )
    elif len(keys) > 1:
        findings.append(ok("keys.distinct", "a key each", "a key each"))
    return findings


def missing_key(process: str) -> Finding:
    """Return the finding of a process that has no key: ingest may go without, execution may not."""
    if process == "ingest":
        return warn(
            "key.ingest",
            "none: no order queues (level3)",
            "a key with create-ws-token",
            "Set keys.ingest_api_key and keys.ingest_api_secret, or accept decisions without order queues.",
        )
    return fail(
        f"key.{process}",
        "none",
        "a key that may trade",
        f"Set keys.{process}_api_key and keys.{process}_api_secret.",
    )


def _judge_key(key: KeyFacts, at: datetime, settings: DoctorSettings) -> list[Finding]:
    name = f"key.{key.process}"
    if key.unusable is not None:
        fix = f"Set keys.{key.process}_api_secret as the venue showed it, mend what is named, or make a new key."
        return [fail(name, key.unusable, "a key that can sign", fix)]
    if key.unreachable is not None:
        return [fail(name, key.unreachable, "an answer", "Bring the venue's REST endpoint into reach, then ask again.")]
    if key.refused is not None:
        return [_refused(key.process, key.refused)]
    if key.rights is None:
        return []
    findings = [
        *_rights(key.process, key.rights),
        _expiry(key.process, key.rights, at, settings),
        _addresses(key.process, key.rights, settings),
        _nonce(key.process, key.rights),
    ]
    if key.token:
        findings.append(
            fail(f"{name}.token", key.token, "a WebSocket token", "Give the key the right create-ws-token.")
        )
    elif key.token is not None:
        findings.append(ok(f"{name}.token", "granted", "a WebSocket token"))
    return findings


def _refused(process: str, words: str) -> Finding:
    if words.startswith(_INVALID_NONCE):
        return fail(
            f"key.{process}.nonce",
            words,
            "a nonce above the last",
            "Stop whatever else uses this key and set the clock right, or make a new key.",
        )
    return fail(
        f"key.{process}",
        words,
        "a key that the venue accepts",
        "Check key and secret, its expiry and its IP list, or make a new key.",
    )


def _rights(process: str, rights: KeyRights) -> list[Finding]:
    permissions = rights.permissions
    check = f"key.{process}.rights"
    shown = ", ".join(sorted(permissions)) or "none"
    findings = []
    if rights.may_move_funds:
        findings.append(
            fail(
                check,
                f"may move funds: {', '.join(rights.moving)}",
                "no deposit and withdrawal rights",
                "Make a key without deposit and withdrawal rights, and delete this one.",
            )
        )
    missing = [name for name in _NEEDED[process] if name not in permissions]
    if missing:
        findings.append(
            fail(
                check,
                f"lacks {', '.join(missing)}",
                f"needs {', '.join(_NEEDED[process])}",
                f"Give the {process} key the rights {', '.join(missing)}.",
            )
        )
    findings += [
        warn(check, f"lacks {name}: {effect}", f"better with {name}", f"Give the {process} key the right {name}.")
        for name, effect in _USEFUL[process].items()
        if name not in permissions
    ]
    if process == "ingest" and permissions & _TRADING:
        findings.append(
            warn(
                check,
                f"may trade: {', '.join(sorted(permissions & _TRADING))}",
                "ingest needs create-ws-token alone",
                "Make a key for ingest that cannot trade.",
            )
        )
    return findings or [ok(check, shown, "what the process needs, no moving of funds")]


def _expiry(process: str, rights: KeyRights, at: datetime, settings: DoctorSettings) -> Finding:
    check, limit = f"key.{process}.expiry", f"at least {settings.key_days_min:g} days"
    if rights.expires is None:
        return warn(check, "the venue did not say", limit, "Look the key's expiry up in the venue's settings.")
    if rights.valid_until is None:
        return ok(check, "never", limit)
    days = (rights.valid_until - at).total_seconds() / _SECONDS_PER_DAY
    found = f"{rights.valid_until:%Y-%m-%d %H:%M} UTC, in {days:.1f} days"
    if days < settings.key_days_min:
        return fail(check, found, limit, f"Make a new key for {process} and replace this one.")
    return ok(check, found, limit)


def _addresses(process: str, rights: KeyRights, settings: DoctorSettings) -> Finding:
    check, limit = f"key.{process}.ip_list", "the addresses of this machine only"
    fix = "Name this machine's address in the key's IP list; doctor.empty_ip_list says what an empty one means."
    if rights.ip_allowlist is None:
        return warn(check, "the venue did not say", limit, "Look the key's IP list up in the venue's settings.")
    if rights.ip_allowlist:
        return ok(check, ", ".join(rights.ip_allowlist), limit)
    judge = fail if settings.empty_ip_list is OnEmptyIpList.REFUSE else warn
    return judge(check, "empty: the key works from anywhere", limit, fix)


def _nonce(process: str, rights: KeyRights) -> Finding:
    window = "not stated" if rights.nonce_window is None else f"{rights.nonce_window}"
    return ok(f"key.{process}.nonce", f"two nonces in a row accepted, window {window}", "strictly rising")
