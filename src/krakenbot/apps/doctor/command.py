"""`krakenbot doctor`: look at everything, say what was found, exit 0, 1 or 2.

Enters: settings and options. Leaves: a list or JSON on standard output, and the exit status: 0 when nothing failed,
1 when something did; settings that cannot be used raise ConfigError, which the command line turns into 2.
"""

from __future__ import annotations

import difflib

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.apps.doctor.gather import gather
from krakenbot.apps.doctor.holds import probe_holds, require_trading
from krakenbot.apps.doctor.report import as_json, as_text
from krakenbot.apps.settings import Settings
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.preflight.checkup import Checkup, judge, no_capital, not_configured
from krakenbot.domain.preflight.finding import Finding, Level, warn, worst
from krakenbot.domain.preflight.holds import HoldsFacts, judge_holds
from krakenbot.domain.values import Symbol


async def run_doctor(settings: Settings, *, json: bool, probe_holds_of: str | None = None) -> int:
    """Print the findings and return the exit status.

    With `probe_holds_of`, a symbol, a minimal order is placed and cancelled as well, unless something failed before.
    """
    symbol = None if probe_holds_of is None else Symbol(probe_holds_of.strip().upper())
    if symbol is not None:
        require_trading(settings)
    checkup = await gather(settings, SystemClock())
    if symbol is not None:
        _require_listed(symbol, checkup)
    findings = [*configuration(settings, checkup), *judge(checkup, settings.doctor)]
    if symbol is not None and worst(findings) is not Level.FAIL:
        findings += await probe_holds(settings, symbol)
    elif symbol is not None:
        findings += judge_holds(HoldsFacts(symbol=symbol, reason="something failed above"))
    secrets = settings.secret_texts()
    print(as_json(findings, checkup.at, secrets) if json else as_text(findings, secrets))
    return 1 if worst(findings) is Level.FAIL else 0


def _require_listed(symbol: Symbol, checkup: Checkup) -> None:
    listed = checkup.venue.instruments if checkup.venue is not None else None
    if listed is None or symbol in listed:
        return
    near = difflib.get_close_matches(symbol, list(listed), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"--probe-holds {symbol}: the venue does not list it{hint}")


def configuration(settings: Settings, checkup: Checkup) -> list[Finding]:
    """Return what is not there to be judged: execution, and databases."""
    findings = []
    if settings.execution is None:
        findings.append(no_capital() if settings.keys.execution_api_key else not_configured())
    if not checkup.databases:
        findings.append(
            warn(
                "db",
                "no URL is set, and no embedded cluster runs here",
                "two databases",
                "Start krakenbot run-ingest or run-execution-live, which run embedded clusters, and ask again.",
            )
        )
    return findings
