"""Run own PostgreSQL clusters: made, started, stopped with the program, recovered after kill -9.

Enters: a data directory and the name of a cluster. Leaves: URLs of its logins. Theory: `postgres` is a direct child
that we wait for; a file lock of our own says that a living krakenbot runs the cluster, so whatever postmaster.pid
says otherwise is left over from a dead one. Unix socket only, scram with random passwords, no TCP port.
"""

from __future__ import annotations

import enum
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import quote

import anyio
import anyio.to_thread
import psycopg
from psycopg import sql

from krakenbot.adapters.postgres import launch
from krakenbot.adapters.postgres.binaries import PostgresBinaries, find_binaries
from krakenbot.domain.errors import ConfigError, StoreUnavailable

DATABASE = "krakenbot"
_SUPERUSER = "postgres"
_MAX_SOCKET_PATH = 106
_MIN_FREE_BYTES = 120 * 1024 * 1024
_START_WAIT_S = 60.0
_ORPHAN_WAIT_S = 20.0
_STOP_WAIT_S = 30.0
_POLL_S = 0.02
_PORT = 5432
_MAX_LOG_BYTES = 5_000_000
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    # A system that is read-only outside the clone and HOME may have no /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "max_connections": "60",
    "shared_buffers": "256MB",
    "max_wal_size": "512MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}


class Login(enum.StrEnum):
    """Logins of an embedded cluster; OWNER is a member of the other three and does migrations."""

    OWNER = "krakenbot_owner"
    INGEST = "krakenbot_ingest"
    EXECUTION = "krakenbot_execution"
    STATUS = "krakenbot_status"


class EmbeddedCluster:
    """One cluster under `data_dir`/`name`, run by this process while started.

    `fsync` False is for tests only. `notes` holds what a person should know about the last start.
    """

    def __init__(self, data_dir: Path, name: str, *, bindir: Path | None = None, fsync: bool = True) -> None:
        self.name = name
        self.notes: list[str] = []
        self._home = data_dir.absolute() / name
        self._pgdata = self._home / "pgdata"
        self._bindir = bindir
        self._fsync = fsync
        self._mode = ""
        self._binaries: PostgresBinaries | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._socket_dir = self._home / "run"
        self._own_socket_dir: Path | None = None
        self._passwords: dict[str, str] = {}

    @property
    def binaries(self) -> PostgresBinaries:
        """Return the programs in use; only after `start`."""
        if self._binaries is None:
            raise StoreUnavailable(f"cluster {self.name} was not started")
        return self._binaries

    @property
    def pid(self) -> int | None:
        """Return the process id of postgres; None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def url(self, login: Login = Login.OWNER, database: str = DATABASE) -> str:
        """Return the URL of a login; it holds a password."""
        return self._url(login.value, database)

    async def start(self) -> None:
        """Make the cluster if it is new, start it, and wait until it answers.

        Raises ConfigError when it cannot be run here, or another process runs it; StoreUnavailable when it does not
        start, naming the reason from its log.
        """
        self.notes.clear()
        self._binaries = await anyio.to_thread.run_sync(find_binaries, self._bindir)
        self._prepare_home()
        self._take_lock()
        try:
            self._mode = self._pick_mode()
            self._load_passwords()
            self._pick_socket_dir()
            await self._wait_for_orphan()
            if not (self._pgdata / "PG_VERSION").exists():
                await self._initdb()
            self._check_data_version()
            await self._start_postgres()
            await self._ensure_logins()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.stop()
            raise

    async def stop(self) -> None:
        """Stop fast (clients are disconnected, nothing committed is lost) and wait; harmless when not running."""
        with anyio.CancelScope(shield=True):
            process, self._process = self._process, None
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
                if not await _ended(process, _STOP_WAIT_S):
                    process.send_signal(signal.SIGQUIT)
                    if not await _ended(process, _STOP_WAIT_S):
                        process.kill()
                        await _ended(process, _STOP_WAIT_S)
            if self._own_socket_dir is not None:
                shutil.rmtree(self._own_socket_dir, ignore_errors=True)
                self._own_socket_dir = None
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def kill(self) -> None:
        """Kill postgres at once and reap it, as a crash would; `start` recovers."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_STOP_WAIT_S)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # -- what start does, in order ------------------------------------------------------------------------------

    def _prepare_home(self) -> None:
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._home.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"data directory {self._home}: {error.strerror}; choose one that can be written"
            ) from error

    def _take_lock(self) -> None:
        lock = (self._home / "lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            lock.close()
            raise ConfigError(
                f"cluster {self.name} in {self._home} is already run by process {holder}; "
                "stop that process, attach to it by URL, or use another data directory"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _pick_mode(self) -> str:
        if os.geteuid() != 0:
            return "plain"
        failures = []
        for mode in ("namespace", "user"):
            probe = subprocess.run(  # noqa: S603 # our own launcher
                self._command(mode, "postgres", "--version"), capture_output=True, text=True, timeout=30, check=False
            )
            if probe.returncode == 0:
                if mode == "user":
                    self._give_to_user()
                return mode
            failures.append(probe.stderr.strip()[-200:])
        raise ConfigError(
            "PostgreSQL does not run as root, and neither a user namespace nor the account nobody could be used "
            f"({'; '.join(failures)}): run krakenbot as an ordinary user, or give DATABASE_URL"
        )

    def _give_to_user(self) -> None:
        user = launch.unprivileged_user()
        self.notes.append(f"{self._home} belongs to {user.pw_name}: user namespaces are not allowed here")
        for path in (self._home, *self._home.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)

    def _load_passwords(self) -> None:
        path = self._home / "credentials.json"
        if not path.exists():
            fresh = {name: secrets.token_hex(24) for name in (_SUPERUSER, *Login)}
            part = path.with_suffix(".part")
            part.unlink(missing_ok=True)
            with _open_private(part, "w") as file:
                json.dump(fresh, file)
            part.rename(path)
        self._passwords = json.loads(path.read_text(encoding="ascii"))

    def _pick_socket_dir(self) -> None:
        name = f".s.PGSQL.{_PORT}"
        if len(os.fsencode(self._socket_dir / name)) <= _MAX_SOCKET_PATH:
            self._socket_dir.mkdir(mode=0o700, exist_ok=True)
            self._socket_dir.chmod(0o700)
        else:
            self._own_socket_dir = Path(tempfile.mkdtemp(prefix="kb-"))
            self.notes.append(f"the path of {self._home} is too long for a socket; it is in {self._own_socket_dir}")
            self._socket_dir = self._own_socket_dir
            if len(os.fsencode(self._socket_dir / name)) > _MAX_SOCKET_PATH:
                raise ConfigError(
                    f"no path short enough for a unix socket: {self._socket_dir}; set TMPDIR to a short one"
                )
        if self._mode == "user":
            user = launch.unprivileged_user()
            os.chown(self._socket_dir, user.pw_uid, user.pw_gid)

    async def _wait_for_orphan(self) -> None:
        # Our lock is free, so no krakenbot runs this cluster; a postgres told to stop by its parent's death may
        # still be writing its last checkpoint.
        pid_file = self._pgdata / "postmaster.pid"
        with anyio.move_on_after(_ORPHAN_WAIT_S):
            while (pid := _pid_in(pid_file)) is not None and _is_postgres(pid, self._pgdata):
                await anyio.sleep(_POLL_S)
            # A stale file whose number now belongs to another process would keep postgres from starting.
            pid_file.unlink(missing_ok=True)
            return
        raise ConfigError(
            f"cluster {self.name}: a postgres left over from an earlier run (process {pid}) still uses "
            f"{self._pgdata}; stop it with: kill -INT {pid}"
        )

    async def _initdb(self) -> None:
        free = shutil.disk_usage(self._home).free
        if free < _MIN_FREE_BYTES:
            raise StoreUnavailable(_disk_full(self._home, free))
        part = self._home / "pgdata.part"
        shutil.rmtree(part, ignore_errors=True)
        password_file = self._home / "initdb.password"
        password_file.unlink(missing_ok=True)
        with _open_private(password_file, "w") as file:
            file.write(self._passwords[_SUPERUSER])
        if self._mode == "user":
            self._give_to_user()
        arguments = ["-D", str(part), "-U", _SUPERUSER, "-E", "UTF8", "--locale=C", "-A", "scram-sha-256"]
        arguments += ["--pwfile", str(password_file), *([] if self._fsync else ["--no-sync"])]
        try:
            result = await anyio.to_thread.run_sync(self._run, "initdb", arguments)
            if result.returncode != 0:
                output = (result.stderr + result.stdout).strip()
                if "No space left" in output:
                    raise StoreUnavailable(_disk_full(self._home, shutil.disk_usage(self._home).free))
                raise StoreUnavailable(f"initdb of cluster {self.name} in {self._home} failed: {output[-600:]}")
            part.rename(self._pgdata)
        finally:
            password_file.unlink(missing_ok=True)
            shutil.rmtree(part, ignore_errors=True)

    def _check_data_version(self) -> None:
        made_by = (self._pgdata / "PG_VERSION").read_text(encoding="ascii").strip()
        if made_by != str(self.binaries.major):
            raise ConfigError(
                f"cluster {self.name} in {self._pgdata} was made by PostgreSQL {made_by}, but {self.binaries.origin} "
                f"has {self.binaries.version}: move that folder away, or set database.bindir to PostgreSQL {made_by}"
            )

    async def _start_postgres(self) -> None:
        with anyio.move_on_after(_START_WAIT_S):
            while True:
                log_from = self._spawn()
                reason = await self._answers_or_reason(log_from)
                if reason is None:
                    return
                # After kill -9 of postgres its children need a moment to notice and leave the shared memory.
                if "still in use" not in reason:
                    break
                await anyio.sleep(0.2)
            text = _disk_full(self._home, 0) if "No space left" in reason else reason
            raise StoreUnavailable(f"cluster {self.name} did not start: {text}")
        raise StoreUnavailable(f"cluster {self.name} did not answer within {_START_WAIT_S:.0f} s; see {self._log}")

    def _spawn(self) -> int:
        settings = {
            **_SETTINGS,
            "unix_socket_directories": str(self._socket_dir),
            "fsync": "on" if self._fsync else "off",
            "port": str(_PORT),
        }
        arguments = ["-D", str(self._pgdata)]
        for key, value in settings.items():
            arguments += ["-c", f"{key}={value}"]
        too_long = self._log.exists() and self._log.stat().st_size > _MAX_LOG_BYTES
        with _open_private(self._log, "w" if too_long else "a") as log:
            log_from = log.seek(0, os.SEEK_END)
            self._process = subprocess.Popen(  # noqa: S603 # our own launcher
                self._command(self._mode, "postgres", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                env=_ENVIRONMENT,
                # A Ctrl-C at the terminal is for the program, which stops its clusters last.
                start_new_session=True,
            )
        return log_from

    async def _answers_or_reason(self, log_from: int) -> str | None:
        process = self._process
        while process is not None and process.poll() is None:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._url(_SUPERUSER, "postgres"), autocommit=True, connect_timeout=5
                )
            except psycopg.OperationalError:
                await anyio.sleep(_POLL_S)
            else:
                await connection.close()
                return None
        self._process = None
        with self._log.open("rb") as log:
            log.seek(log_from)
            lines = log.read().decode(errors="replace").strip().splitlines()
        fatal = [line for line in lines if re.search(r"FATAL|PANIC|ERROR|launch:", line)]
        return " | ".join(fatal or lines[-3:])[-600:] or f"see {self._log}"

    async def _ensure_logins(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._url(_SUPERUSER, "postgres"), autocommit=True, connect_timeout=10
        ) as connection:
            existing = {row[0] for row in await (await connection.execute("SELECT rolname FROM pg_roles")).fetchall()}
            for login in Login:
                if login not in existing:
                    await connection.execute(
                        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                            sql.Identifier(login.value), sql.Literal(self._passwords[login])
                        )
                    )
            for login in (Login.INGEST, Login.EXECUTION, Login.STATUS):
                await connection.execute(
                    sql.SQL("GRANT {} TO {}").format(sql.Identifier(login.value), sql.Identifier(Login.OWNER.value))
                )
            found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if await found.fetchone() is None:
                await connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(
                        sql.Identifier(DATABASE), sql.Identifier(Login.OWNER.value)
                    )
                )

    # -- small parts --------------------------------------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self._home / "postgres.log"

    @property
    def superuser_url(self) -> str:
        """Return the URL of the cluster's superuser, for making databases in tests."""
        return self._url(_SUPERUSER, "postgres")

    def _url(self, user: str, database: str) -> str:
        return _socket_url(user, self._passwords[user], database, self._socket_dir)

    def _command(self, mode: str, program: str, *arguments: str) -> list[str]:
        launcher = [sys.executable, "-I", "-S", str(Path(launch.__file__)), mode, str(os.getpid())]
        return [*launcher, self.binaries.program(program), *arguments]

    def _run(self, program: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 # our own launcher
            self._command(self._mode, program, *arguments),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self._home,
            env=_ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is for us, who stop in order
        )


_ENVIRONMENT: Mapping[str, str] = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
"""Nothing of ours reaches PostgreSQL's environment: keys live there."""


def running_url(data_dir: Path, name: str, login: Login) -> str | None:
    """Return the URL of a cluster that another process runs; None when none seems to."""
    home = data_dir.absolute() / name
    try:
        socket_dir = (home / "pgdata" / "postmaster.pid").read_text(encoding="utf-8").splitlines()[4]
        passwords = json.loads((home / "credentials.json").read_text(encoding="ascii"))
    except (OSError, IndexError):
        return None
    return _socket_url(login.value, passwords[login.value], DATABASE, Path(socket_dir))


def _socket_url(user: str, password: str, database: str, socket_dir: Path) -> str:
    return f"postgresql://{user}:{password}@/{database}?host={quote(str(socket_dir), safe='')}&port={_PORT}"


def _open_private(path: Path, mode: str) -> IO[str]:
    truncate = os.O_TRUNC if mode == "w" else os.O_APPEND
    return os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | truncate, 0o600), mode, encoding="ascii")


def _disk_full(path: Path, free: int) -> str:
    return f"the disk is full: {path} has {free // 2**20} MB free, a cluster needs {_MIN_FREE_BYTES // 2**20} MB"


def _pid_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text(encoding="ascii").splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _is_postgres(pid: int, pgdata: Path) -> bool:
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return os.fsencode(pgdata) in (proc / str(pid) / "cmdline").read_bytes()
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def _ended(process: subprocess.Popen[bytes], wait_s: float) -> bool:
    with anyio.move_on_after(wait_s):
        while process.poll() is None:
            await anyio.sleep(_POLL_S)
    return process.poll() is not None
