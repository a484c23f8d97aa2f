"""`krakenbot doctor`: look at everything, say what was found, exit 0, 1 or 2.

Enters: settings and options. Leaves: a list or JSON on standard output, and the exit status: 0 when nothing failed,
1 when something did; settings that cannot be used raise ConfigError, which the command line turns into 2.
"""

from __future__ import annotations

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.apps.doctor.gather import gather
from krakenbot.apps.doctor.holds import probe_holds
from krakenbot.apps.doctor.report import as_json, as_text
from krakenbot.apps.settings import Settings
from krakenbot.domain.preflight.checkup import Checkup, judge, no_capital, not_configured
from krakenbot.domain.preflight.finding import Finding, Level, warn, worst
from krakenbot.domain.preflight.holds import HoldsFacts, judge_holds
from krakenbot.domain.values import Symbol


async def run_doctor(settings: Settings, *, json: bool, probe_holds_of: str | None = None) -> int:
    """Print the findings and return the exit status.

    With `probe_holds_of`, a symbol, a minimal order is placed and cancelled as well, unless something failed before.
    """
    clock = SystemClock()
    checkup = await gather(settings, clock)
    findings = [*configuration(settings, checkup), *judge(checkup, settings.doctor)]
    if probe_holds_of is not None and worst(findings) is not Level.FAIL:
        findings += await probe_holds(settings, Symbol(probe_holds_of.strip().upper()))
    elif probe_holds_of is not None:
        findings += judge_holds(HoldsFacts(symbol=Symbol(probe_holds_of), reason="something failed above"))
    secrets = settings.secret_texts()
    print(as_json(findings, checkup.at, secrets) if json else as_text(findings, secrets))
    return 1 if worst(findings) is Level.FAIL else 0


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
