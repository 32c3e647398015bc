"""Files on the local disk and in object stores."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
from obstore.store import AzureStore, GCSStore

from runner import storage
from runner.domain.executions import Window
from runner.errors import MissingInput, StorageError
from runner.storage import existing, exists, fetched, hour_folders, join, lines, listing, read, replacing, write
from tests.golden import Golden
from tests.object_store import ENVIRONMENT, Bucket, s3_server, use_endpoint

WINDOW = Window.parse("2023-01-19T23:30")
REFUSED = b"<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>key</AWSAccessKeyId></Error>"
MEBIBYTE = 2**20
USES: list[Callable[[str], object]] = [read, listing, exists, lambda location: write(location, b"1")]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket."""
    with s3_server(monkeypatch) as found:
        yield found


@pytest.fixture
def roots(bucket: Bucket, tmp_path: Path) -> tuple[str, str]:
    """A local root and a remote one."""
    return str(tmp_path / "root"), f"{bucket.url}/root"


@dataclass
class Answers:
    """A server that gives prepared answers in turn, the last one for ever, and remembers what it was asked.

    An answer is a status and a body; the body is promised `repeats` times, but sent `sent` times.
    """

    script: list[tuple[int, bytes]]
    repeats: int = 1
    sent: int | None = None
    asked: list[tuple[str, str, Message]] = field(default_factory=list)

    def next(self) -> tuple[int, bytes]:
        """Return the next answer."""
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, answers: Answers) -> Iterator[Answers]:
    """Let S3 be a server that gives these answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.asked.append((self.command, self.path, self.headers))
            status, body = answers.next()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) * answers.repeats))
            self.send_header("ETag", '"tag"')
            self.send_header("Last-Modified", "Thu, 19 Jan 2023 05:00:00 GMT")
            self.end_headers()
            for _ in range(answers.repeats if answers.sent is None else answers.sent):
                self.wfile.write(body)
            self.close_connection = answers.sent is not None

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(storage, "BACKOFF", timedelta(milliseconds=1))
    try:
        yield answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- locations ---


def test_folders_are_utc_hours() -> None:
    """A window has a folder for each hour it touches, across midnight too."""
    assert hour_folders(WINDOW) == ["2023/01/19/23", "2023/01/20/00"]


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("s3://b",), "s3://b"),
        (("s3://b/", "/a/", "", "b"), "s3://b/a/b"),
        (("gs://b/c", "a/b"), "gs://b/c/a/b"),
        (("/", "a"), "/a"),
        (("", "a"), "a"),
        (("./x//y/", "/a"), "x/y/a"),
    ],
)
def test_joined_locations_have_single_slashes(parts: tuple[str, ...], joined: str) -> None:
    """Locations are joined by single slashes, the scheme of a URL keeps its two."""
    assert join(*parts) == joined


@pytest.mark.parametrize("scheme", ["ftp", "file", "http", "S3"])
def test_unknown_scheme_is_refused(scheme: str, golden: Golden) -> None:
    """The error names the schemes of object stores, and leaves out the password."""
    with golden.raises(StorageError) as caught:
        read(f"{scheme}://me:password@host/x")
    assert caught.value.location == f"{scheme}://…@host/x"


@pytest.mark.parametrize("location", ["s3:///x", "s3://a b/x", "s3://key:secret@b/x", "s3://key:sec/ret@b/x"])
def test_url_without_a_bucket_is_refused(location: str, golden: Golden) -> None:
    """What follows the scheme must be the name of a bucket; credentials there are not repeated."""
    with golden.raises(StorageError) as caught:
        read(location)
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize(
    "use",
    [read, lambda location: write(location, b""), lambda location: fetched(location).__enter__()],
    ids=["read", "write", "fetched"],
)
def test_whole_bucket_is_no_file(bucket: Bucket, use: Callable[[str], object], golden: Golden) -> None:
    """A bucket can be neither read nor written."""
    with golden.raises(StorageError):
        use(f"{bucket.url}/")


def test_other_schemes_lead_to_google_and_azure(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """`gs://` and `az://` lead to their stores; an account that the environment lacks is an error."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    store, key = storage._store("gs://b/a/b")
    assert (type(store) is GCSStore, key) == (True, "a/b")
    with golden.raises(StorageError) as caught:
        storage._store("az://c/a")
    assert caught.value.location == "az://c/a"
    assert "AZURE_STORAGE_ACCOUNT_NAME" in str(caught.value)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    store, key = storage._store("az://c/a")
    assert (type(store) is AzureStore, key) == (True, "a")


def test_local_work_loads_no_object_store() -> None:
    """Whoever works locally does not wait for obstore or boto3."""
    code = (
        "import sys; from runner import storage; storage.listing('.'); assert not {'obstore', 'boto3'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- listing ---


def test_files_are_listed_by_name(roots: tuple[str, str]) -> None:
    """Local and remote files come in the order of their names; hidden ones and those of other folders do not come."""
    listed = ["05/a.jsonl", "05/a/b.jsonl", "05/b c+é%41.jsonl", "05/empty.jsonl"]
    others = ["05/.hidden.jsonl", "05/.tmp/x.jsonl", "05/x.json", "05x/a.jsonl", "a.jsonl", "5/05/a.jsonl"]
    for root in roots:
        for name in [*reversed(listed), *others]:
            write(join(root, name), b"" if "empty" in name else b"data")
        found = listing(root, "05", (".jsonl", ".gz"))
        assert [(file.name, file.size) for file in found] == [(name, 0 if "empty" in name else 4) for name in listed]
        assert [file.location for file in found] == [join(root, name) for name in listed]
        assert [file.name for file in listing(root)] == sorted([*listed, *others[2:]])
        assert [file.name for file in listing(f"{root}/05/", "/a/")] == ["a/b.jsonl"]
        assert listing(root, "absent") == listing(join(root, "absent")) == []


def test_root_may_be_hidden_itself(roots: tuple[str, str]) -> None:
    """Only what is hidden below the root is left out."""
    for root in roots:
        write(join(root, ".x/a"), b"1")
        assert [file.name for file in listing(join(root, ".x"))] == ["a"]


def test_all_pages_are_listed(bucket: Bucket) -> None:
    """More objects than the store lists in one answer are all there, from the whole bucket too."""
    bucket.fill(f"05/{number:04}" for number in range(1205))
    assert [file.name for file in listing(bucket.url)] == [f"05/{number:04}" for number in range(1205)]
    assert len(listing(f"{bucket.url}/05")) == 1205


def test_folder_markers_are_no_files(bucket: Bucket) -> None:
    """Objects that stand for folders are left out, empty files beside them are not."""
    for key in ("a/", "a/b/", "a/b/c", "a/d/", "a/d", "a/e", "e/"):
        bucket.put(key, b"")
    bucket.put("e", b"file and folder")
    bucket.put("a", b"file and folder")
    assert [file.name for file in listing(f"{bucket.url}/a")] == ["b/c", "d", "e"]
    assert [file.name for file in listing(bucket.url, "a")] == ["a/b/c", "a/d", "a/e"]
    found = {file.name: file.size for file in listing(bucket.url)}
    assert found == {"a": 15, "a/b/c": 0, "a/d": 0, "a/e": 0, "e": 15}


def test_key_that_is_no_path_is_refused(bucket: Bucket, golden: Golden) -> None:
    """A listing that holds a key with an empty part is an error."""
    bucket.put("a//b", b"1")
    with golden.raises(StorageError) as caught:
        listing(bucket.url, "a")
    assert caught.value.location == "s3://captures/a"


def test_links_to_files_are_files(tmp_path: Path) -> None:
    """A link to a file is listed as one, a broken link and a folder are not."""
    write(str(tmp_path / "elsewhere/x"), b"1")
    (tmp_path / "root/folder.jsonl").mkdir(parents=True)
    (tmp_path / "root/a").symlink_to(tmp_path / "elsewhere/x")
    (tmp_path / "root/b").symlink_to(tmp_path / "absent")
    assert [(file.name, file.size) for file in listing(str(tmp_path / "root"))] == [("a", 1)]


def test_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    """A file in the place of a folder is no empty folder."""
    write(str(tmp_path / "file"), b"")
    with pytest.raises(NotADirectoryError):
        listing(str(tmp_path / "file"))


# --- reading ---


def test_lines_know_their_place(tmp_path: Path) -> None:
    """Lines are numbered from 1 and keep their bytes, the last one also without its end."""
    write(str(tmp_path / "a"), b"1\r\n\n\xff")
    found = [(line.file, line.number, line.data) for line in lines(tmp_path / "a", "name")]
    assert found == [("name", 1, b"1\r\n"), ("name", 2, b"\n"), ("name", 3, b"\xff")]


@pytest.mark.parametrize("text", [b"", b"\n", b"1", b"1\n\xef\xbb\xbf2"])
def test_mark_is_no_part_of_the_first_line(tmp_path: Path, text: bytes) -> None:
    """A byte order mark at the start of a file is left out, anywhere else it stays."""
    write(str(tmp_path / "a"), b"\xef\xbb\xbf" + text)
    assert [line.data for line in lines(tmp_path / "a", "a")] == text.splitlines(keepends=True)


@pytest.mark.parametrize("end", [b"", b"\n", b"\nnext\n"])
@pytest.mark.parametrize("length", [9, 10, 11, 12, 21, 22, 23, 33, 100])
def test_long_line_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, end: bytes) -> None:
    """Of a line that is too long one byte more than allowed comes, and the next line is the next line."""
    monkeypatch.setattr(storage, "LONGEST_LINE", 11)
    text = b"\xef\xbb\xbf" + b"x" * length + end
    write(str(tmp_path / "a"), text)
    whole = text[3:].splitlines(keepends=True)
    assert [line.data for line in lines(tmp_path / "a", "a")] == [line[:12] for line in whole]


def test_long_lines_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without end is never in memory whole."""
    monkeypatch.setattr(storage, "LONGEST_LINE", MEBIBYTE)
    write(str(tmp_path / "a"), b"x" * 32 * MEBIBYTE)
    with memory_below(8 * MEBIBYTE):
        assert [len(line.data) for line in lines(tmp_path / "a", "a")] == [MEBIBYTE + 1]


def test_plain_local_file_is_not_copied(tmp_path: Path) -> None:
    """A local file that needs nothing is handed through."""
    write(str(tmp_path / "a.gz"), b"plain in spite of its name")
    with fetched(str(tmp_path / "a.gz")) as path:
        assert path == tmp_path / "a.gz"


def test_content_comes_plain(roots: tuple[str, str]) -> None:
    """Whatever is compressed is decompressed, several parts in one file too, and no copy stays behind."""
    text = b"line\n" * 10
    packed = gzip.compress(text[:5]) + gzip.compress(text[5:])
    for root in roots:
        for name, data in (("plain", text), ("packed.jsonl", packed), ("empty", b""), ("one", b"\x1f")):
            write(join(root, name), data)
            with fetched(join(root, name)) as path:
                assert path.read_bytes() == (text if name == "packed.jsonl" else data)
            assert path.exists() == (path == Path(root, name))


def test_bytes_are_read_as_they_are(roots: tuple[str, str]) -> None:
    """What is read whole is not decompressed."""
    for root in roots:
        write(join(root, "a.gz"), gzip.compress(b"text"))
        assert gzip.decompress(read(join(root, "a.gz"))) == b"text"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-9],
        lambda data: data[:20],
        lambda data: data[:-8] + b"\0" * 8,
        lambda data: data[:10] + b"\xff" * 20,
        lambda data: data + b"more",
    ],
    ids=["no end", "early end", "other checksum", "other data", "more data"],
)
@pytest.mark.parametrize("where", [0, 1], ids=["disk", "bucket"])
def test_broken_gzip_is_refused(
    roots: tuple[str, str], where: int, spoil: Callable[[bytes], bytes], golden: Golden
) -> None:
    """Compressed data that ends early or has changed is an error that names the file."""
    location = join(roots[where], "a.gz")
    write(location, spoil(gzip.compress(bytes(range(256)))))
    with golden.raises(StorageError, (r"\(.*\)", "({zlib})")) as caught, fetched(location):
        pass
    assert caught.value.location == location


def test_decompressed_data_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Compressed data that grows beyond LARGEST_FILE is refused."""
    monkeypatch.setattr(storage, "LARGEST_FILE", MEBIBYTE)
    write(str(tmp_path / "fits"), gzip.compress(bytes(MEBIBYTE)))
    write(str(tmp_path / "bomb"), gzip.compress(bytes(MEBIBYTE + 1)))
    with fetched(str(tmp_path / "fits")) as path:
        assert path.stat().st_size == MEBIBYTE
    with golden.raises(StorageError) as caught, fetched(str(tmp_path / "bomb")):
        pass
    assert caught.value.location == str(tmp_path / "bomb")
    assert str(MEBIBYTE) in str(caught.value)


def test_what_happens_to_a_fetched_file_is_not_explained(bucket: Bucket) -> None:
    """An error of whoever reads the file passes through, and the copy is gone all the same."""
    location = bucket.put("a", b"1")
    with pytest.raises(FileNotFoundError, match="mine"), fetched(location) as path:  # noqa: PT012
        assert path.exists()
        raise FileNotFoundError("mine")
    assert not path.exists()


def test_remote_file_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A remote file passes through memory in chunks."""
    monkeypatch.setattr(storage, "CHUNK", MEBIBYTE)
    large = Answers([(200, bytes(MEBIBYTE))], repeats=64)
    with answering(monkeypatch, large), memory_below(8 * MEBIBYTE), fetched("s3://b/large") as path:
        assert path.stat().st_size == 64 * MEBIBYTE


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """Make sure that no more memory than this is taken inside."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


# --- writing and being there ---


def test_file_is_written_whole(tmp_path: Path) -> None:
    """A file and its folders appear, readable for others; writing again replaces it; nothing else remains."""
    target = tmp_path / "a/b/c.jsonl"
    for data in (b"first, and longer", b"second"):
        write(str(target), data)
        assert target.read_bytes() == data
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(target.parent.iterdir()) == [target]


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """Where a file cannot be put, what was there stays and nothing hidden remains."""
    write(str(tmp_path / "target/inside"), b"kept")
    with pytest.raises(OSError, match="target"):
        write(str(tmp_path / "target"), b"data")
    assert (tmp_path / "target/inside").read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]


def test_what_is_written_is_read(roots: tuple[str, str]) -> None:
    """Bytes and open files are stored as they are and replace what was there; then something exists, folders too."""
    for root in roots:
        assert not exists(root)
        for data in (b"", b"first, and longer", bytes(6 * MEBIBYTE), b"second"):
            write(join(root, "05/a b"), data)
            assert read(join(root, "05/a b")) == data
            write(join(root, "05/c"), BytesIO(data))
            assert read(join(root, "05/c")) == data
        assert all(exists(location) for location in (root, join(root, "05"), f"{root}/05/", join(root, "05/a b")))
        assert not any(exists(join(root, name)) for name in ("0", "05/a", "05/a b/c"))


def test_what_is_written_is_in_the_bucket(bucket: Bucket) -> None:
    """An object has the key that its location says, as another client sees it."""
    write(f"{bucket.url}/a b/ü%20", b"data")
    assert bucket.get("a b/ü%20") == b"data"


def test_file_is_replaced_only_by_a_whole_one(roots: tuple[str, str]) -> None:
    """Where filling a file fails, the old one stays."""
    for root in roots:
        write(join(root, "a"), b"old")
        with pytest.raises(ValueError, match="mine"), replacing(join(root, "a")) as path:  # noqa: PT012
            path.write_bytes(b"half")
            raise ValueError("mine")
        assert read(join(root, "a")) == b"old"
        with replacing(join(root, "a")) as path:
            path.write_bytes(b"new")
        assert read(join(root, "a")) == b"new"
        assert [file.name for file in listing(root)] == ["a"]


def test_empty_bucket_exists(bucket: Bucket) -> None:
    """A bucket with nothing in it is there."""
    assert exists(bucket.url)
    assert existing(bucket.url, "the tree", "source.root", "make it") == bucket.url


def test_missing_location_says_which_setting_names_it(roots: tuple[str, str], golden: Golden) -> None:
    """A location that does not exist is an error with its setting and a remedy, one that does is returned."""
    for root in roots:
        with golden.raises(MissingInput) as caught:
            existing(join(root, "a"), "the folder", "paths.x", "make it")
        error = caught.value
        assert (error.subject, error.path, error.key, error.remedy) == ("the folder", f"{root}/a", "paths.x", "make it")
        write(join(root, "a"), b"")
        assert existing(join(root, "a"), "the folder", "paths.x", "make it") == f"{root}/a"


# --- what goes wrong ---


def test_missing_object_is_named(bucket: Bucket, golden: Golden) -> None:
    """An object that is not there is an error with its location; a local file raises what Python raises."""
    for use in (read, lambda location: fetched(location).__enter__()):
        with golden.raises(StorageError) as caught:
            use(f"{bucket.url}/a/b")
        assert caught.value.location == "s3://captures/a/b"
        assert "NoSuchKey" in str(caught.value)
    with pytest.raises(FileNotFoundError):
        read("absent")


@pytest.mark.parametrize("use", USES, ids=["read", "listing", "exists", "write"])
def test_missing_bucket_is_named(bucket: Bucket, use: Callable[[str], object], golden: Golden) -> None:
    """A bucket that is not there is an error with its name, whatever is done with it."""
    with golden.raises(StorageError) as caught:
        use("s3://absent/a")
    assert caught.value.location == "s3://absent/a"
    assert "NoSuchBucket" in str(caught.value)


def test_server_error_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that fails twice and then answers has answered."""
    with answering(monkeypatch, Answers([(500, b""), (503, b""), (200, b"data")])) as answers:
        assert read("s3://b/a") == b"data"
    assert [(method, path) for method, path, _ in answers.asked] == [("GET", "/b/a")] * 3


def test_lasting_server_error_is_given_up(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """A server that fails at the first attempt and at every further one is an error."""
    busy = Answers([(503, b"<Error><Code>SlowDown</Code></Error>")])
    with answering(monkeypatch, busy) as answers, golden.raises(StorageError) as caught:
        read("s3://b/a")
    assert caught.value.location == "s3://b/a"
    assert "SlowDown" in str(caught.value)
    assert len(answers.asked) == storage.RETRIES + 1


@pytest.mark.parametrize("use", [read, listing], ids=["read", "listing"])
@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_repeats_nothing_secret(
    monkeypatch: pytest.MonkeyPatch, status: int, use: Callable[[str], object], golden: Golden
) -> None:
    """The error names the variables to check; the key that the store repeats is neither in it nor in its cause."""
    with answering(monkeypatch, Answers([(status, REFUSED)])), golden.raises(StorageError) as caught:
        use("s3://b/a")
    assert caught.value.location == "s3://b/a"
    for word in (str(status), "SignatureDoesNotMatch", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        assert word in str(caught.value)
    assert "AWSAccessKeyId" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(301, b"", id="301"),
        pytest.param(400, b"<Code>AuthorizationHeaderMalformed</Code>", id="another region"),
        pytest.param(400, b"<Code>ExpiredToken</Code>", id="expired token"),
        pytest.param(400, b"<Code>InvalidRequest</Code>", id="anything else"),
    ],
)
def test_other_answers_are_errors(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, golden: Golden) -> None:
    """Each answer of a store has its own advice."""
    with answering(monkeypatch, Answers([(status, body)])), golden.raises(StorageError) as caught:
        read("s3://b/a")
    assert caught.value.location == "s3://b/a"


def test_file_that_breaks_off_is_an_error(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """A file that does not come whole is not taken for whole."""
    with answering(monkeypatch, Answers([(200, b"data")], repeats=2, sent=1)), golden.raises(StorageError) as caught:
        fetched("s3://b/a").__enter__()
    assert caught.value.location == "s3://b/a"


@pytest.mark.parametrize("use", USES, ids=["read", "listing", "exists", "write"])
def test_unreachable_store_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[str], object], golden: Golden
) -> None:
    """Where nobody listens, an error names the host after a few attempts."""
    monkeypatch.setattr(storage, "BACKOFF", timedelta(milliseconds=1))
    use_endpoint(monkeypatch, "http://127.0.0.1:1")
    start = time.monotonic()
    with golden.raises(StorageError) as caught:
        use("s3://b/a")
    assert time.monotonic() - start < 5
    assert caught.value.location == "s3://b/a"
    assert "127.0.0.1:1" in str(caught.value)


def test_silent_store_is_given_up(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """A store that accepts the connection and says nothing is given up."""
    monkeypatch.setattr(storage, "SILENCE", timedelta(milliseconds=40))
    monkeypatch.setattr(storage, "RETRIES", 1)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:
        use_endpoint(monkeypatch, f"http://127.0.0.1:{silent.server_address[1]}")
        with golden.raises(StorageError):
            read("s3://b/a")


# --- the environment ---


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param("", id="empty"),
        pytest.param("nonsense", id="no scheme"),
        pytest.param("ftp://host", id="another scheme"),
        pytest.param("http://", id="no host"),
        pytest.param("http://a b", id="blank"),
        pytest.param("http://me:password@host", id="password"),
    ],
)
def test_endpoint_that_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str, golden: Golden) -> None:
    """The error names the variable, without its value."""
    use_endpoint(monkeypatch, endpoint)
    with golden.raises(StorageError) as caught:
        read("s3://b/a")
    assert caught.value.location == "s3://b"
    assert "AWS_ENDPOINT_URL" in str(caught.value)
    assert "password" not in str(caught.value)


def test_endpoint_of_s3_comes_first(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint for S3 alone wins over that for everything."""
    location = bucket.put("a", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert read(location) == b"1"


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_REGION"])
def test_line_end_in_a_variable_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, variable: str, golden: Golden
) -> None:
    """A line end in a credential or in the region, on which obstore panics, is an error that names the variable."""
    monkeypatch.setenv(variable, "x\n")
    with golden.raises(StorageError) as caught:
        read(f"{bucket.url}/a")
    assert variable in str(caught.value)


def test_malformed_variable_is_refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """A variable that obstore cannot parse is an error without its value."""
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "perhaps")
    with golden.raises(StorageError) as caught:
        read("s3://b/a")
    assert caught.value.location == "s3://b/a"
    assert "perhaps" not in str(caught.value)


def use_profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take the key out of the environment, and write a profile with one and a profile without."""
    write(str(tmp_path / "credentials"), b"[default]\naws_access_key_id=mine\naws_secret_access_key=x\n")
    write(str(tmp_path / "config"), b"[default]\nregion=eu-north-1\n[profile empty]\nregion=eu-south-1\n")
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize("region", ["", "eu-west-3"])
def test_profile_stands_in_for_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, region: str) -> None:
    """Without a key in the environment, that of the profile signs, for the region of the environment or its own."""
    with answering(monkeypatch, Answers([(200, b"data")])) as answers:
        use_profiles(monkeypatch, tmp_path)
        monkeypatch.setenv("AWS_REGION", region)
        assert read("s3://b/a") == b"data"
    signed = answers.asked[0][2]["Authorization"]
    assert signed.split("Credential=")[1].split("/")[::2][:2] == ["mine", region or "eu-north-1"]


@pytest.mark.parametrize("profile", ["empty", "absent"])
def test_profile_without_a_key_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str, golden: Golden
) -> None:
    """Where no key is found, the error names the variables that may hold it."""
    with answering(monkeypatch, Answers([(200, b"data")])) as answers:
        use_profiles(monkeypatch, tmp_path)
        monkeypatch.setenv("AWS_PROFILE", profile)
        with golden.raises(StorageError) as caught:
            read("s3://b/a")
        assert caught.value.location == "s3://b"
        assert "AWS_ACCESS_KEY_ID" in str(caught.value)
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        assert read("s3://b/a") == b"data"
    assert "Authorization" not in answers.asked[0][2]
