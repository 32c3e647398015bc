"""Errors of databases have messages with a remedy, and a ledger is usable again after a failure."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread

import psycopg
import pytest

from runner.domain.executions import HOUR
from runner.errors import LedgerError
from runner.scheduling.ledger import Ledger
from runner.scheduling.ledger import database as database_module
from runner.scheduling.ledger.database import Database, postgresql_problem, sqlite_problem
from tests.golden import Golden
from tests.postgres import server
from tests.scheduling.ledger.ledger_samples import BUSY, NOON, SETTINGS, finished, planned, schedule


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Path of a ledger in SQLite."""
    return tmp_path / "ledger.sqlite"


def failure(url: str, busy_seconds: float = 0.1) -> str:
    """Return the error of a ledger that can neither be read nor written."""
    with Ledger(url, busy_seconds) as ledger:
        with pytest.raises(LedgerError) as caught:
            ledger.schedules.all()
        with pytest.raises(LedgerError):
            ledger.schedules.create(schedule(), SETTINGS)
    return str(caught.value)


def test_a_missing_ledger_is_created_at_its_first_use(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """A relative path is resolved when the ledger object is created."""
    monkeypatch.chdir(tmp_path)
    with Ledger("sqlite:///a b/%41/ledger.sqlite", BUSY) as ledger:
        monkeypatch.chdir("/")
        assert not (tmp_path / "a b").exists()
        golden(ledger.name)
        assert ledger.schedules.all() == []
        assert ledger.database.file == tmp_path / "a b/%41/ledger.sqlite"
    assert [path.name for path in ledger.database.file.parent.iterdir()] == ["ledger.sqlite"]
    with closing(sqlite3.connect(ledger.database.file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_name_of_a_database_contains_no_secret() -> None:
    """It has neither the password nor the options of the URL."""
    database = Database("postgresql://me:secret@db:5433/watch?passfile=x", BUSY)
    assert database.name == "postgresql://me@db:5433/watch"
    assert database.file is None


@pytest.mark.parametrize("url", ["postgresql://me:secret@db:port/watch", "nonsense"])
def test_an_invalid_url_is_refused(url: str, golden: Golden) -> None:
    """The error contains no secret."""
    with golden.raises(LedgerError) as caught:
        Database(url, BUSY)
    assert "secret" not in str(caught.value)


def test_the_driver_of_postgresql_is_optional(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error says how to install it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    golden(failure("postgresql://me@127.0.0.1:1/watch"))


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM ledger",
        "UPDATE ledger SET version = 'x'",
        "UPDATE schedules SET status = 'Splendid'",
        "UPDATE schedules SET created = 'yesterday'",
        "UPDATE schedules SET endpoint = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_damaged_value_is_a_ledger_error(file: Path, damage: str, golden: Golden) -> None:
    """The error contains the remedy; the file is not changed."""
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        ledger.schedules.create(schedule(), SETTINGS)
    with closing(sqlite3.connect(file)) as other, other:
        other.execute(damage)
    with Ledger(f"sqlite:///{file}", BUSY) as ledger, golden.raises(LedgerError):
        ledger.schedules.all()


def test_writing_waits_for_a_lock_up_to_busy_seconds(file: Path, golden: Golden) -> None:
    """Reading does not wait."""
    with Ledger(f"sqlite:///{file}", 0.1) as ledger, closing(sqlite3.connect(file, isolation_level=None)) as other:
        ledger.schedules.create(schedule(), SETTINGS)
        other.execute("BEGIN EXCLUSIVE")
        with golden.raises(LedgerError):
            ledger.schedules.stop("watch", NOON)
        assert ledger.schedules.get("watch") == schedule()
        other.execute("ROLLBACK")
        assert ledger.schedules.stop("watch", NOON)


def test_creating_a_ledger_waits_for_a_lock_up_to_busy_seconds(file: Path, golden: Golden) -> None:
    """This applies to the switch to the write-ahead log as well."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        golden(failure(f"sqlite:///{file}"))


def test_postgresql_waits_for_a_lock_up_to_busy_seconds(golden: Golden) -> None:
    """The error names the lock rather than a slow server."""
    with server().database() as url, Ledger(url, 0.2) as ledger, psycopg.connect(url) as other:
        ledger.schedules.create(schedule(), SETTINGS)
        other.execute("SELECT * FROM schedules FOR UPDATE")
        with golden.raises(LedgerError):
            ledger.schedules.stop("watch", NOON)
        other.rollback()
        assert ledger.schedules.stop("watch", NOON)


def test_a_server_is_used_again_after_a_failure(golden: Golden) -> None:
    """Each operation fails while the server is down, and succeeds afterwards."""
    with server().database() as url, Ledger(url, BUSY) as ledger:
        execution, _ = planned(ledger, 1, 2)
        with server().unreachable(url):
            for _ in range(2):
                with golden.raises(LedgerError):
                    ledger.executions.claim(execution.id, "a", NOON)
            with golden.raises(LedgerError):
                ledger.schedules.all()
        assert ledger.executions.claim(execution.id, "a", NOON)


def test_a_transaction_is_rolled_back_if_the_server_fails() -> None:
    """The operation raises an error and has no effect."""
    with server().database() as url, Ledger(url, BUSY) as ledger:
        with pytest.raises(LedgerError), ledger.database.writing() as connection:  # noqa: PT012  an interrupted transaction
            connection.exec_driver_sql("UPDATE ledger SET revision = 17")
            with server().unreachable(url):
                connection.exec_driver_sql("UPDATE ledger SET revision = 18")
        assert ledger.schedules.revision() == 0


@pytest.mark.parametrize(("url", "port"), [("postgresql://me@127.0.0.1:1/watch", "port 1"), ("postgresql:///", "")])
def test_a_missing_server(url: str, port: str, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error contains the message of the system, on one line."""
    monkeypatch.setenv("PGHOST", "/no/such/folder")
    message = failure(url)
    golden(message)
    assert port in message
    assert "\n" not in message


def file_as_folder(file: Path) -> Path:
    """Return a path in a folder that cannot be created."""
    file.write_text("")
    return file / "ledger.sqlite"


def folder_as_file(file: Path) -> Path:
    """Return the path of a folder."""
    file.mkdir()
    return file


def text_file(file: Path) -> Path:
    """Return a file that is not a database."""
    file.write_text("schedules: [a, b, c]\n" * 100)
    return file


def damaged_file(file: Path) -> Path:
    """Return a database with overwritten pages."""
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        planned(ledger, *range(1, 100))
    data = file.read_bytes()
    file.write_bytes(data[:100] + b"\xff" * (len(data) - 100))
    return file


def foreign_database(file: Path) -> Path:
    """Return a database of another program."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE schedules (name)")
    return file


@pytest.mark.parametrize("create", [file_as_folder, folder_as_file, text_file, damaged_file, foreign_database])
def test_an_unusable_file_is_refused(create: Callable[[Path], Path], file: Path, golden: Golden) -> None:
    """The error names it and says what to do; its content is unchanged."""
    path = create(file)
    before = path.read_bytes() if path.is_file() else b""
    golden(failure(f"sqlite:///{path}"))
    after = path.read_bytes() if path.is_file() else b""
    assert after[100:] == before[100:]


def test_a_ledger_is_opened_once_its_path_is_usable(file: Path) -> None:
    """An earlier failure does not matter."""
    file.mkdir()
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        with pytest.raises(LedgerError):
            ledger.schedules.all()
        shutil.rmtree(file)
        assert ledger.schedules.all() == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_removed_while_open_is_reported_once(file: Path, tmp_path: Path, replaced: bool, golden: Golden) -> None:
    """The next operation uses the new file, or creates one."""
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        ledger.schedules.create(schedule(), SETTINGS)
        with Ledger(f"sqlite:///{tmp_path}/backup", BUSY) as backup:
            backup.schedules.create(schedule("backup"), SETTINGS)
        for path in tmp_path.glob("ledger.sqlite*"):
            path.unlink()
        if replaced:
            (tmp_path / "backup").rename(file)
        with golden.raises(LedgerError):
            ledger.schedules.all()
        assert [each.name for each in ledger.schedules.all()] == (["backup"] if replaced else [])


def test_a_server_detects_lost_clients() -> None:
    """TCP keepalives of the server release the leadership of a machine without power."""
    with server().database() as url, Ledger(url, 30.0) as ledger, ledger.database.reading() as connection:
        values = {key: connection.exec_driver_sql(f"SHOW {key}").scalar_one() for key in KEEPALIVES}
    assert values == dict(zip(KEEPALIVES, ("30", "10", "3", "30000"), strict=True))


KEEPALIVES = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")


def test_a_transaction_is_rolled_back_if_the_disk_is_full(file: Path, golden: Golden) -> None:
    """The limit of pages simulates a full disk."""
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        ledger.schedules.create(schedule(), SETTINGS)
        with ledger.database.reading() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1")
        with golden.raises(LedgerError):
            ledger.schedules.update(schedule(reference="x" * 100_000), SETTINGS)
        with ledger.database.reading() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=100000")
        assert ledger.schedules.get("watch") == schedule()
        assert ledger.schedules.stop("watch", NOON)


def test_writing_to_a_read_only_file_is_refused(file: Path, golden: Golden) -> None:
    """A read-only connection simulates missing permissions."""
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        ledger.schedules.create(schedule(), SETTINGS)
        with ledger.database.reading() as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")
        with golden.raises(LedgerError):
            ledger.schedules.stop("watch", NOON)


def test_writing_to_a_read_only_server_is_refused(golden: Golden) -> None:
    """Such a server may be a replica."""
    with server().database() as url, Ledger(url, BUSY) as ledger:
        ledger.schedules.create(schedule(), SETTINGS)
        server().execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on")
        with Ledger(url, BUSY) as reader:
            assert reader.schedules.all() == [schedule()]
            with golden.raises(LedgerError):
                reader.schedules.stop("watch", NOON)


def test_other_errors_have_the_message_of_the_database(golden: Golden) -> None:
    """Known errors of PostgreSQL have a message of their own."""
    golden(sqlite_problem(sqlite3.OperationalError("oh"), BUSY))
    golden(postgresql_problem(psycopg.errors.DiskFull("no"), BUSY))
    golden(postgresql_problem(psycopg.errors.UndefinedTable("no\n LINE"), BUSY))


def test_waiting_for_a_free_connection_is_limited(file: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The wait ends after busy_seconds."""
    monkeypatch.setattr(database_module, "CONNECTIONS", 1)
    with Ledger(f"sqlite:///{file}", 0.1) as ledger:
        with (
            ledger.database.reading(),
            ledger.database.reading(),
            golden.raises(LedgerError),
        ):
            ledger.schedules.all()
        assert ledger.schedules.all() == []


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    """Each execution is claimed by one thread, without errors."""
    executions = planned(ledger, *range(1, 41))
    claimed: list[tuple[int, str]] = []

    def claim(owner: str) -> None:
        claimed.extend(
            (execution.id, owner) for execution in executions if ledger.executions.claim(execution.id, owner, NOON)
        )

    threads = [Thread(target=claim, args=(f"thread-{i}",)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == [(execution.id, ledger.executions.get(execution.id).owner) for execution in executions]


def in_encoding(encoding: str) -> str:
    """Return the options of a database in an encoding."""
    return f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"


def test_a_database_in_sql_ascii_stores_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the encoding of initdb in the locale C; the environment and the format of dates do not matter either."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with server().database(in_encoding("SQL_ASCII")) as url, Ledger(url, BUSY) as ledger:
        server().execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET datestyle = 'German'")
        execution = finished(ledger, planned(ledger, 1, name="Überwachung – 漢字")[0])
        assert (execution.schedule, execution.started) == ("Überwachung – 漢字", NOON + HOUR)


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP"])
def test_a_database_that_cannot_store_every_character_is_refused(encoding: str, golden: Golden) -> None:
    """The error says how to create another one."""
    with server().database(in_encoding(encoding)) as url:
        golden(failure(url))


def test_after_a_read_only_phase_a_server_is_written_again(golden: Golden) -> None:
    """Connections to a server that was read-only, such as a former primary, are not used further."""
    with server().database() as url, Ledger(url, BUSY) as ledger:
        (execution,) = planned(ledger, 1)
        name = url.rpartition("/")[2]
        server().execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        ledger.database.close()
        with golden.raises(LedgerError):
            ledger.executions.claim(execution.id, "a", NOON)
        server().execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert ledger.executions.claim(execution.id, "a", NOON)
