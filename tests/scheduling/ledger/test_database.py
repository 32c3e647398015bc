"""What a database refuses becomes a sentence, and a ledger works again as soon as its database does."""

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

from runner.errors import LedgerError
from runner.scheduling.ledger import postgresql, sqlite
from runner.scheduling.ledger.database import Database
from runner.scheduling.ledger.ledger import Ledger
from tests.golden import Golden
from tests.postgres import server
from tests.scheduling.ledger.ledger_samples import BUSY, NOON, SETTINGS, planned, schedule


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a ledger in SQLite is to be."""
    return tmp_path / "ledger.sqlite"


def refusal(url: str, busy_seconds: float = 0.1) -> str:
    """Return why a ledger cannot be read; each of its operations says the same."""
    with Ledger(url, busy_seconds) as ledger:
        with pytest.raises(LedgerError) as refused:
            ledger.schedules()
        with pytest.raises(LedgerError):
            ledger.create(schedule(), SETTINGS)
    return str(refused.value)


def test_a_ledger_is_made_where_there_is_none(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """A path starts from the working folder at that moment; nothing is made before it is needed."""
    monkeypatch.chdir(tmp_path)
    with Ledger("sqlite:///a b/%41/ledger.sqlite", BUSY) as ledger:
        monkeypatch.chdir("/")
        assert not (tmp_path / "a b").exists()
        golden(ledger.name)
        assert ledger.schedules() == []
        assert ledger.file == tmp_path / "a b/%41/ledger.sqlite"
    assert [path.name for path in ledger.file.parent.iterdir()] == ["ledger.sqlite"]
    with closing(sqlite3.connect(ledger.file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_name_tells_no_secret() -> None:
    """Neither a password nor the options of a URL are shown."""
    database = Database("postgresql://me:secret@db:5433/watch?passfile=x", BUSY)
    assert database.name == "postgresql://me@db:5433/watch"
    assert database.file is None


@pytest.mark.parametrize("url", ["postgresql://me:secret@db:port/watch", "nonsense"])
def test_what_is_no_url_is_refused(url: str, golden: Golden) -> None:
    """The sentence tells no secret either."""
    with golden.raises(LedgerError) as refused:
        Database(url, BUSY)
    assert "secret" not in str(refused.value)


def test_the_driver_of_postgresql_is_an_extra(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Where it is missing the sentence says what to install."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    golden(refusal("postgresql://me@127.0.0.1:1/watch"))


def test_a_ledger_that_is_locked_for_long_says_so(file: Path, golden: Golden) -> None:
    """Others that write are waited for, not for ever; readers do not wait at all."""
    with Ledger(f"sqlite:///{file}", 0.1) as ledger, closing(sqlite3.connect(file, isolation_level=None)) as other:
        ledger.create(schedule(), SETTINGS)
        other.execute("BEGIN EXCLUSIVE")
        with golden.raises(LedgerError):
            ledger.stop("watch", NOON)
        assert ledger.schedule("watch") == schedule()
        other.execute("ROLLBACK")
        assert ledger.stop("watch", NOON)


def test_a_fresh_ledger_that_is_locked_says_so(file: Path, golden: Golden) -> None:
    """Even the switch to the write-ahead log waits, and no longer than it may."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        golden(refusal(f"sqlite:///{file}"))


def test_a_session_that_holds_a_lock_is_waited_for_no_longer_than_allowed() -> None:
    """So it is with PostgreSQL."""
    with server().database() as url, Ledger(url, 0.2) as ledger, psycopg.connect(url) as other:
        ledger.create(schedule(), SETTINGS)
        other.execute("SELECT * FROM schedules FOR UPDATE")
        with pytest.raises(LedgerError, match=r"ledger\.busy_seconds=0\.2"):
            ledger.stop("watch", NOON)
        other.rollback()
        assert ledger.stop("watch", NOON)


def test_a_server_that_was_away_is_used_again(golden: Golden) -> None:
    """While it is away every operation says so; with the first one after that all is well."""
    with server().database() as url, Ledger(url, BUSY) as ledger:
        entry, _ = planned(ledger, 1, 2)
        with server().away(url):
            for _ in range(2):
                with golden.raises(LedgerError):
                    ledger.begin(entry.id, "us", NOON)
            with golden.raises(LedgerError):
                ledger.schedules()
        assert ledger.begin(entry.id, "us", NOON)


def test_a_server_that_goes_away_in_mid_transaction_undoes_it() -> None:
    """The sentence comes, and what was under way did not happen."""
    with server().database() as url, Ledger(url, BUSY) as ledger:
        with pytest.raises(LedgerError), ledger.writing() as connection:  # noqa: PT012  a transaction, cut short
            connection.exec_driver_sql("UPDATE ledger SET revision = 17")
            with server().away(url):
                connection.exec_driver_sql("UPDATE ledger SET revision = 18")
        assert ledger.revision() == 0


@pytest.mark.parametrize(("url", "place"), [("postgresql://me@127.0.0.1:1/watch", "port 1"), ("postgresql:///", "")])
def test_a_server_that_is_not_there(url: str, place: str, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The sentence holds what the system said, on one line."""
    monkeypatch.setenv("PGHOST", "/no/such/folder")
    message = refusal(url)
    golden(message)
    assert place in message
    assert "\n" not in message


def a_file_as_folder(file: Path) -> Path:
    """Return a path whose folder cannot be made."""
    file.write_text("")
    return file / "ledger.sqlite"


def a_folder_as_file(file: Path) -> Path:
    """Return a path that is a folder's."""
    file.mkdir()
    return file


def another_file(file: Path) -> Path:
    """Return a file that is no database."""
    file.write_text("schedules: [a, b, c]\n" * 100)
    return file


def a_damaged_file(file: Path) -> Path:
    """Return a database whose pages were written over."""
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        planned(ledger, *range(1, 100))
    data = file.read_bytes()
    file.write_bytes(data[:100] + b"\xff" * (len(data) - 100))
    return file


def another_database(file: Path) -> Path:
    """Return a database of another program."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE schedules (name)")
    return file


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (a_file_as_folder, "free disk space"),
        (a_folder_as_file, "it cannot be opened"),
        (another_file, "the file is no SQLite database"),
        (a_damaged_file, "the file is damaged"),
        (another_database, "SQLite refuses: table schedules already exists"),
    ],
)
def test_a_file_that_cannot_be_used(made: Callable[[Path], Path], told: str, file: Path, golden: Golden) -> None:
    """The sentence names it and says what to do; what it holds is left as it is."""
    path = made(file)
    before = path.read_bytes() if path.is_file() else b""
    message = refusal(f"sqlite:///{path}")
    golden(message)
    assert told in message
    after = path.read_bytes() if path.is_file() else b""
    assert after[100:] == before[100:]


def test_a_file_that_is_put_back_is_used(file: Path) -> None:
    """A ledger that could not be opened is opened when it can be."""
    file.mkdir()
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        with pytest.raises(LedgerError):
            ledger.schedules()
        shutil.rmtree(file)
        assert ledger.schedules() == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_removed_while_it_is_open_is_told_of(
    file: Path, tmp_path: Path, replaced: bool, golden: Golden
) -> None:
    """Once; then what is there now is used, be it nothing."""
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        ledger.create(schedule(), SETTINGS)
        with Ledger(f"sqlite:///{tmp_path}/backup", BUSY) as backup:
            backup.create(schedule("backup"), SETTINGS)
        for path in tmp_path.glob("ledger.sqlite*"):
            path.unlink()
        if replaced:
            (tmp_path / "backup").rename(file)
        with golden.raises(LedgerError):
            ledger.schedules()
        assert [one.name for one in ledger.schedules()] == (["backup"] if replaced else [])


def test_a_server_lets_go_of_who_is_cut_off() -> None:
    """It asks after silent clients itself, so that the lead of a machine without power does not stay taken."""
    with server().database() as url, Ledger(url, 30.0) as ledger, ledger.reading() as connection:
        told = {key: connection.exec_driver_sql(f"SHOW {key}").scalar_one() for key in KEEPALIVES}
    assert told == dict(zip(KEEPALIVES, ("30", "10", "3", "30000"), strict=True))


KEEPALIVES = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")


def test_a_full_disk_says_so(file: Path, golden: Golden) -> None:
    """What SQLite says when it gets no more pages, and that nothing of the transaction is left."""
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        ledger.create(schedule(), SETTINGS)
        with ledger.reading() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1")
        with golden.raises(LedgerError):
            ledger.update(schedule(reference="x" * 100_000), SETTINGS)
        with ledger.reading() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=100000")
        assert ledger.schedule("watch") == schedule()
        assert ledger.stop("watch", NOON)


def test_a_file_that_may_only_be_read_says_so(file: Path, golden: Golden) -> None:
    """What SQLite says of a connection that must not write."""
    with Ledger(f"sqlite:///{file}", BUSY) as ledger:
        ledger.create(schedule(), SETTINGS)
        with ledger.reading() as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")
        with golden.raises(LedgerError):
            ledger.stop("watch", NOON)


def test_a_server_that_may_only_be_read_says_so(golden: Golden) -> None:
    """A replica, for one."""
    with server().database() as url, Ledger(url, BUSY) as ledger:
        ledger.create(schedule(), SETTINGS)
        server().execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on")
        with Ledger(url, BUSY) as reader:
            assert reader.schedules() == [schedule()]
            with golden.raises(LedgerError):
                reader.stop("watch", NOON)


def test_what_is_unknown_is_told_as_it_is(golden: Golden) -> None:
    """A refusal without a sentence of its own keeps the database's words."""
    golden(sqlite.problem(sqlite3.OperationalError("oh"), BUSY))
    golden(postgresql.problem(psycopg.errors.DiskFull("no"), BUSY))
    golden(postgresql.problem(psycopg.errors.UndefinedTable("no\n LINE"), BUSY))


def test_a_connection_that_is_never_free_says_so(file: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """More threads than connections wait, not for ever."""
    monkeypatch.setattr(sqlite, "CONNECTIONS", 1)
    with Ledger(f"sqlite:///{file}", 0.1) as ledger:
        with (
            ledger.reading(),
            ledger.reading(),
            golden.raises(LedgerError),
        ):
            ledger.schedules()
        assert ledger.schedules() == []


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    """Each execution is claimed by one of them, none fails."""
    entries = planned(ledger, *range(1, 41))
    won: list[tuple[int, str]] = []

    def claim(owner: str) -> None:
        won.extend((entry.id, owner) for entry in entries if ledger.begin(entry.id, owner, NOON))

    threads = [Thread(target=claim, args=(f"thread-{i}",)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [(entry.id, ledger.entry(entry.id).owner) for entry in entries]
