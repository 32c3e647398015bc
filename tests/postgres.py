"""A PostgreSQL server for tests: the one in SHAPWATCH_TEST_POSTGRES, or a new one of Debian's on a free port."""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

VARIABLE = "SHAPWATCH_TEST_POSTGRES"
MISSING = f"needs PostgreSQL's server: apt-get install postgresql, or set {VARIABLE}"
FAST_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}
SECONDS = 60.0
numbers = itertools.count(1)


@dataclass
class Server:
    """A server with permission to create databases.

    Attributes:
        url: URL of its database `postgres`.
    """

    url: str

    def execute(self, statement: str) -> None:
        """Run a statement outside a transaction."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def database(self, options: str = "") -> Iterator[str]:
        """Yield the URL of a new database, which is dropped at the end."""
        name = f"shapwatch_{os.getpid()}_{next(numbers)}"
        self.execute(f"CREATE DATABASE {name} {options}")
        try:
            yield f"{self.url.rpartition('/')[0]}/{name}"
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def unreachable(self, url: str) -> Iterator[None]:
        """Make a database unreachable."""
        name = url.rpartition("/")[2]
        self.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608
        try:
            yield
        finally:
            self.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@dataclass
class OwnServer(Server):
    """A server that the tests start and stop."""

    binaries: Path
    folder: Path
    port: int
    account: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait for its first response."""
        settings = [part for key, value in FAST_SETTINGS.items() for part in ("-c", f"{key}={value}")]
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *settings]
        with (self.folder / "log").open("ab") as log:
            self.process = process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True, **self.account
            )
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server immediately, with all sessions."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(SECONDS)
            self.process = None

    @contextmanager
    def unreachable(self, url: str) -> Iterator[None]:  # noqa: ARG002  stops the whole server
        """Stop the server."""
        self.stop()
        try:
            yield
        finally:
            self.start()


def clear_database(url: str) -> None:
    """Drop all tables of a database, and close the connections of other sessions; faster than a new database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


@cache
def server() -> Server:
    """Return the server of this process. Without PostgreSQL, skip the test, or fail it if CI is set."""
    if url := os.environ.get(VARIABLE):
        return Server(url)
    binaries = _binaries()
    if binaries is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    return _new_server(binaries)


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _new_server(binaries: Path) -> OwnServer:
    folder = Path(tempfile.mkdtemp(prefix="shapwatch-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    account: dict[str, Any] = {}
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    command = [str(binaries / "initdb"), "-D", str(folder / "data"), *options]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=SECONDS, **account)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = OwnServer(f"postgresql://postgres@127.0.0.1:{port}/postgres", binaries, folder, port, account)
    atexit.register(own.stop)
    own.start()
    return own
