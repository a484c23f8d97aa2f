"""The runner of own clusters: start, crash, second start, and every way in which it cannot start."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import psycopg
import pytest

from krakenbot.adapters.postgres import binaries, embedded, launch
from krakenbot.adapters.postgres.binaries import find_binaries
from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.domain.errors import ConfigError, StoreUnavailable

pytestmark = pytest.mark.postgres


async def _execute(url, statement):
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else None


def _fake_bindir(folder: Path, script: str) -> Path:
    folder.mkdir()
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


async def test_cluster_is_private_and_keeps_its_data(tmp_path):
    cluster = EmbeddedCluster(tmp_path, "ingest")
    await cluster.start()
    await _execute(cluster.url(), "CREATE TABLE kept AS SELECT 1 AS a")
    settings = dict(await _execute(cluster.url(), "SELECT name, setting FROM pg_settings"))
    home = tmp_path / "ingest"
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (home, home / "run", home / "credentials.json")}
    with pytest.raises(psycopg.OperationalError, match="password"):
        await _execute(cluster.url().replace("krakenbot_owner:", "krakenbot_owner:x"), "SELECT 1")
    await cluster.stop()
    await cluster.start()
    rows = await _execute(cluster.url(Login.OWNER), "SELECT a FROM kept")
    await cluster.stop()
    await cluster.stop()

    assert [(1,)] == rows
    assert {"ingest": 0o700, "run": 0o700, "credentials.json": 0o600} == modes
    assert ("", "on", "on", "UTF8", "C") == (
        settings["listen_addresses"],
        settings["fsync"],
        settings["synchronous_commit"],
        settings["server_encoding"],
        settings.get("lc_collate", "C"),
    )
    assert cluster.pid is None


async def test_committed_rows_survive_kill_9_of_the_server(tmp_path):
    cluster = EmbeddedCluster(tmp_path, "d")
    await cluster.start()
    try:
        await _execute(cluster.url(), "CREATE TABLE kept AS SELECT 1 AS a")
        for _ in range(2):
            cluster.kill()
            await cluster.start()

        assert [(1,)] == await _execute(cluster.url(), "SELECT a FROM kept")
    finally:
        await cluster.stop()


async def test_second_start_on_a_running_cluster_names_the_process(tmp_path):
    cluster = EmbeddedCluster(tmp_path, "d")
    await cluster.start()
    try:
        with pytest.raises(ConfigError, match=f"already run by process {os.getpid()}"):
            await EmbeddedCluster(tmp_path, "d").start()
        assert [(1,)] == await _execute(cluster.url(), "SELECT 1")
    finally:
        await cluster.stop()


async def test_cluster_goes_with_its_killed_owner_and_starts_again(tmp_path):
    """Kill -9 the owning process: postgres ends by itself, and a start right after works."""
    script = (
        "import anyio, sys\nfrom pathlib import Path\n"
        "from krakenbot.adapters.postgres.embedded import EmbeddedCluster\n"
        "async def main():\n"
        "    c = EmbeddedCluster(Path(sys.argv[1]), 'd')\n    await c.start()\n    print(c.pid, flush=True)\n"
        "    await anyio.sleep(60)\nanyio.run(main)\n"
    )
    owner = subprocess.Popen(  # noqa: ASYNC220 # it is read from in a thread
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pid = int(await anyio.to_thread.run_sync(owner.stdout.readline))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    cluster = EmbeddedCluster(tmp_path, "d")
    await cluster.start()
    try:
        assert [(1,)] == await _execute(cluster.url(), "SELECT 1")
        assert pid != cluster.pid
        assert not embedded._is_postgres(pid, tmp_path / "d" / "pgdata")
    finally:
        await cluster.stop()


async def test_stale_pid_file_with_a_number_of_somebody_else_is_no_obstacle(tmp_path):
    cluster = EmbeddedCluster(tmp_path, "d")
    await cluster.start()
    await cluster.stop()
    (tmp_path / "d" / "pgdata" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n0\n5432\n")

    await cluster.start()
    pid = cluster.pid
    await cluster.stop()

    assert pid is not None


async def test_long_path_moves_the_socket_and_says_so(tmp_path):
    cluster = EmbeddedCluster(tmp_path / ("x" * 100), "d")
    await cluster.start()
    try:
        assert [(1,)] == await _execute(cluster.url(), "SELECT 1")
        assert "too long for a socket" in cluster.notes[0]
    finally:
        await cluster.stop()
    # The next start picks a place again.
    await cluster.start()
    await cluster.stop()


async def test_interrupted_initdb_is_done_again(tmp_path):
    part = tmp_path / "d" / "pgdata.part"
    part.mkdir(parents=True)
    (part / "PG_VERSION").write_text("18")
    cluster = EmbeddedCluster(tmp_path, "d")

    await cluster.start()
    await cluster.stop()

    assert not part.exists()


async def test_full_disk_is_named_before_and_during_initdb(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_MIN_FREE_BYTES", 1 << 60)
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await EmbeddedCluster(tmp_path, "a").start()
    full = _fake_bindir(
        tmp_path / "bin",
        'case "$1" in --version) echo "postgres (PostgreSQL) 17.1";; '
        '*) echo "initdb: No space left on device" >&2; exit 1;; esac',
    )
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await EmbeddedCluster(tmp_path, "b", bindir=full).start()


async def test_data_of_another_major_version_is_refused(tmp_path):
    cluster = EmbeddedCluster(tmp_path, "d")
    await cluster.start()
    await cluster.stop()
    (tmp_path / "d" / "pgdata" / "PG_VERSION").write_text("14\n")

    with pytest.raises(ConfigError, match="made by PostgreSQL 14"):
        await cluster.start()


async def test_broken_data_directory_gives_the_servers_own_words(tmp_path):
    cluster = EmbeddedCluster(tmp_path, "d")
    await cluster.start()
    await cluster.stop()
    (tmp_path / "d" / "pgdata" / "global" / "pg_control").unlink()

    with pytest.raises(StoreUnavailable, match=r"did not start.*pg_control"):
        await cluster.start()


def test_too_old_or_missing_programs_say_what_to_do(tmp_path, monkeypatch):
    old = _fake_bindir(tmp_path / "old", 'echo "postgres (PostgreSQL) 13.9"')

    with pytest.raises(ConfigError, match=r"found PostgreSQL 13.9 .* too old \(>= 15 is needed\)"):
        find_binaries(old)
    with pytest.raises(ConfigError, match="has no postgres and no initdb"):
        find_binaries(tmp_path)
    monkeypatch.setattr(binaries, "_WHEELS", ("no_such_wheel",))
    monkeypatch.setattr(binaries, "_SYSTEM_FOLDERS", ())
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ConfigError, match=r"none found.*uv sync.*apt install postgresql.*DATABASE_URL"):
        find_binaries()
    monkeypatch.setattr("shutil.which", lambda _: str(old / "postgres"))
    with pytest.raises(ConfigError, match="too old"):
        find_binaries()


def test_newest_system_server_is_taken(tmp_path, monkeypatch):
    for version in ("15", "16", "9"):
        (tmp_path / version).mkdir()
        _fake_bindir(tmp_path / version / "bin", f'echo "postgres (PostgreSQL) {version}.2"')
    monkeypatch.setattr(binaries, "_WHEELS", ())
    monkeypatch.setattr(binaries, "_SYSTEM_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr("shutil.which", lambda _: None)

    found = find_binaries()

    assert (16, "the system") == (found.major, found.origin)


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A folder that another user may reach, unlike pytest's own."""
    home = Path(tempfile.mkdtemp(prefix="kb-", dir="/var/tmp"))  # as wanted
    home.chmod(0o755)
    launcher = home / "launch.py"
    source = Path(str(launch.__file__)).read_text().replace("libc.unshare(_CLONE_NEWUSER) != 0", "True")
    launcher.write_text(source)
    launcher.chmod(0o644)
    yield home
    shutil.rmtree(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes into another user")
async def test_root_without_user_namespaces_uses_nobody(open_home, monkeypatch):
    """The launcher's namespace mode fails as it does where unshare is forbidden."""
    monkeypatch.setattr(launch, "__file__", str(open_home / "launch.py"))
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # noqa: ASYNC240 # a test may block
    if not system:
        pytest.skip("no PostgreSQL that nobody may read")
    cluster = EmbeddedCluster(open_home, "d", bindir=system[-1].parent)
    await cluster.start()
    rows = await _execute(cluster.url(), "SELECT 1")
    owner = (open_home / "d" / "pgdata").stat().st_uid
    await cluster.stop()

    assert ([(1,)], True) == (rows, owner != 0)
    assert "user namespaces are not allowed" in cluster.notes[0]
