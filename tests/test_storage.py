"""Files on the local disk and in object stores."""

from __future__ import annotations

import gzip
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
from runner.storage import (
    exists,
    hour_folders,
    join,
    list_files,
    local_copy,
    read,
    read_lines,
    replace_file,
    require,
    write,
)
from tests.golden import Golden
from tests.object_store import ENVIRONMENT, Bucket, s3_server, use_endpoint
from tests.processes import in_new_process

WINDOW = Window.parse("2023-01-19T23:30")
REFUSED = b"<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>key</AWSAccessKeyId></Error>"
MEBIBYTE = 2**20
USES: list[Callable[[str], object]] = [read, list_files, exists, lambda location: write(location, b"1")]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket."""
    with s3_server(monkeypatch) as found:
        yield found


@pytest.fixture
def roots(bucket: Bucket, tmp_path: Path) -> tuple[str, str]:
    """A local and a remote root."""
    return str(tmp_path / "root"), f"{bucket.url}/root"


@dataclass
class Responses:
    """Prepared responses of a server in order, and the requests it received.

    Attributes:
        script: status and body of each response; the last one is repeated for further requests.
        repeats: number of copies of the body in the header `Content-Length`.
        sent: number of copies that are sent before the connection closes, None for all.
        delay: event that each response waits for.
        pauses: event that ends the pauses of 20 ms before each copy.
        requests: method, path and headers of each request.
    """

    script: list[tuple[int, bytes]]
    repeats: int = 1
    sent: int | None = None
    delay: threading.Event | None = None
    pauses: threading.Event | None = None
    requests: list[tuple[str, str, Message]] = field(default_factory=list)

    def next(self) -> tuple[int, bytes]:
        """Return the next response."""
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextmanager
def s3_responses(monkeypatch: pytest.MonkeyPatch, responses: Responses) -> Iterator[Responses]:
    """Run a server with these responses as the endpoint of S3."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            responses.requests.append((self.command, self.path, self.headers))
            if responses.delay:
                responses.delay.wait()
            status, body = responses.next()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) * responses.repeats))
            self.send_header("ETag", '"tag"')
            self.send_header("Last-Modified", "Thu, 19 Jan 2023 05:00:00 GMT")
            self.end_headers()
            if self.command == "HEAD":
                return
            for _ in range(responses.repeats if responses.sent is None else responses.sent):
                if responses.pauses:
                    responses.pauses.wait(0.02)
                with suppress(OSError):
                    self.wfile.write(body)
            self.close_connection = responses.sent is not None

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(storage, "BACKOFF", timedelta(milliseconds=1))
    try:
        yield responses
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- locations ---


def test_folders_are_utc_hours() -> None:
    """A window has a folder for each of its hours, also across midnight."""
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
    """Parts are joined by single slashes; the scheme of a URL has two."""
    assert join(*parts) == joined


@pytest.mark.parametrize("scheme", ["ftp", "file", "http", "S3"])
def test_unknown_scheme_is_refused(scheme: str, golden: Golden) -> None:
    """The error names the supported schemes, and omits the password."""
    with golden.raises(StorageError) as caught:
        read(f"{scheme}://me:password@host/x")
    assert caught.value.location == f"{scheme}://…@host/x"


@pytest.mark.parametrize("location", ["s3:///x", "s3://a b/x", "s3://key:secret@b/x", "s3://key:sec/ret@b/x"])
def test_url_without_a_bucket_is_refused(location: str, golden: Golden) -> None:
    """The scheme must be followed by the name of a bucket; credentials are not repeated."""
    with golden.raises(StorageError) as caught:
        read(location)
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize(
    "use",
    [read, lambda location: write(location, b""), lambda location: local_copy(location).__enter__()],
    ids=["read", "write", "copy"],
)
def test_bucket_is_not_a_file(bucket: Bucket, use: Callable[[str], object], golden: Golden) -> None:
    """A bucket can be neither read nor written."""
    with golden.raises(StorageError):
        use(f"{bucket.url}/")


def test_gs_and_az_select_google_and_azure(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Each scheme has its own store; a missing Azure account is an error."""
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


def test_local_files_do_not_import_obstore() -> None:
    """Neither obstore nor boto3 is imported."""
    code = "import sys; from runner.storage import list_files; list_files('.')\n"
    code += "assert not {'obstore', 'boto3'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- listing ---


def test_files_are_listed_by_name(roots: tuple[str, str]) -> None:
    """Local and remote files are sorted by name; hidden files and other folders are excluded."""
    listed = ["05/a.jsonl", "05/a/b.jsonl", "05/b c+é%41.jsonl", "05/empty.jsonl"]
    excluded = ["05/.hidden.jsonl", "05/.tmp/x.jsonl", "05/x.json", "05x/a.jsonl", "a.jsonl", "5/05/a.jsonl"]
    for root in roots:
        for name in [*reversed(listed), *excluded]:
            write(join(root, name), b"" if "empty" in name else b"data")
        found = list_files(root, "05", (".jsonl", ".gz"))
        assert [(file.name, file.size) for file in found] == [(name, 0 if "empty" in name else 4) for name in listed]
        assert [file.location for file in found] == [join(root, name) for name in listed]
        assert [file.name for file in list_files(root)] == sorted([*listed, *excluded[2:]])
        assert [file.name for file in list_files(f"{root}/05/", "/a/")] == ["a/b.jsonl"]
        assert list_files(root, "absent") == list_files(join(root, "absent")) == []


def test_root_may_be_hidden_itself(roots: tuple[str, str]) -> None:
    """Hidden files are excluded only below the root."""
    for root in roots:
        write(join(root, ".x/a"), b"1")
        assert [file.name for file in list_files(join(root, ".x"))] == ["a"]


def test_all_pages_are_listed(bucket: Bucket) -> None:
    """All objects of several pages are listed, also for a whole bucket."""
    bucket.fill(f"05/{number:04}" for number in range(1205))
    assert [file.name for file in list_files(bucket.url)] == [f"05/{number:04}" for number in range(1205)]
    assert len(list_files(f"{bucket.url}/05")) == 1205


def test_folder_markers_are_excluded(bucket: Bucket) -> None:
    """Objects that represent folders are excluded, empty files are not."""
    for key in ("a/", "a/b/", "a/b/c", "a/d/", "a/d", "a/e", "e/"):
        bucket.put(key, b"")
    bucket.put("e", b"file and folder")
    bucket.put("a", b"file and folder")
    assert [file.name for file in list_files(f"{bucket.url}/a")] == ["b/c", "d", "e"]
    assert [file.name for file in list_files(bucket.url, "a")] == ["a/b/c", "a/d", "a/e"]
    found = {file.name: file.size for file in list_files(bucket.url)}
    assert found == {"a": 15, "a/b/c": 0, "a/d": 0, "a/e": 0, "e": 15}


def test_odd_keys_are_skipped(bucket: Bucket, caplog: pytest.LogCaptureFixture, golden: Golden) -> None:
    """Keys that are no paths are skipped with a warning; all other files are listed."""
    odd = ["a//b", "a/./x", "a/x/../y", "a/t\tx", "a/\x7f"]
    for key in [*odd, "a/1", "a/z/2 é"]:
        bucket.put(key, b"data")
    bucket.put("a/folder/", b"")
    with caplog.at_level(logging.WARNING, "shapwatch"):
        found = list_files(bucket.url, "a")
    assert [(file.name, file.size) for file in found] == [("a/1", 4), ("a/z/2 é", 4)]
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "shapwatch"]
    golden(warning)


def test_odd_key_is_refused_without_boto3(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Obstore cannot skip them."""
    monkeypatch.setattr(storage, "find_spec", lambda _: None)
    bucket.put("a//b", b"1")
    with golden.raises(StorageError) as caught:
        list_files(bucket.url, "a")
    assert caught.value.location == "s3://captures/a"


def test_local_name_that_is_not_utf8_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Such a name cannot be stored in a manifest."""
    for name in (b"\xff.jsonl", b"a.jsonl"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"")
    assert [file.name for file in list_files(str(tmp_path))] == ["a.jsonl"]
    assert "skipped 1 file" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"<html><p>Log in</p></html>",
        b"<html><br><p>",
        b'{"message":"no"}',
        b"",
        b"OK",
        b"<Error/>",
        b"<ListBucketResult>",
    ],
    ids=["XHTML", "HTML", "JSON", "empty", "text", "another document", "truncated"],
)
def test_response_that_is_no_listing_is_refused(monkeypatch: pytest.MonkeyPatch, body: bytes, golden: Golden) -> None:
    """A server that is no object store has no empty folders."""
    with s3_responses(monkeypatch, Responses([(200, body)])), golden.raises(StorageError) as caught:
        list_files("s3://b/a")
    assert caught.value.location == "s3://b/a"
    assert "AWS_ENDPOINT_URL_S3" in str(caught.value)


def test_pipes_and_loops_are_not_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pipe and a loop of links among the files of a folder are skipped with a warning."""
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    (tmp_path / "nothing.jsonl").symlink_to("missing")
    os.mkfifo(tmp_path / "other")
    write(str(tmp_path / "b.jsonl"), b"")
    assert [file.name for file in list_files(str(tmp_path), suffixes=(".jsonl",))] == ["b.jsonl"]
    assert "skipped 2 files" in caplog.text


KERNEL = [Path(name) for name in ("/proc/kmsg", "/proc/self/mem", "/sys/kernel/uevent_seqnum") if Path(name).exists()]
"""Files without stored content; reading some of them never ends."""


@pytest.mark.parametrize("use", [read, lambda location: local_copy(location).__enter__()], ids=["read", "copy"])
def test_special_files_are_refused(tmp_path: Path, use: Callable[[str], object]) -> None:
    """Pipes, devices, sockets, folders and files of the kernel are refused at once."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for location in (
            tmp_path / "pipe",
            tmp_path / "folder",
            tmp_path / "socket",
            "/dev/zero",
            "/dev/null",
            *KERNEL,
        ):
            with pytest.raises(StorageError) as caught:
                use(str(location))
            assert caught.value.location == str(location)


def listing(*names: str) -> bytes:
    """Return a page of a listing that is followed by another one."""
    objects = (
        f"<Contents><Key>a/{name}</Key><Size>1</Size><LastModified>2023-01-19T05:00:00.000Z</LastModified></Contents>"
        for name in names
    )
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
    return f"<ListBucketResult>{more}{''.join(objects)}</ListBucketResult>".encode()


def test_endless_listing_is_refused(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Neither a page that is repeated nor an empty page is requested for ever."""
    monkeypatch.setattr(storage, "MAX_OBJECTS", 2_500)
    with s3_responses(monkeypatch, Responses([(200, listing(*map(str, range(1_000))))])), golden.raises(StorageError):
        list_files("s3://b/a")
    monkeypatch.setattr(storage, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(storage, "WAKE_SECONDS", 0.05)
    with s3_responses(monkeypatch, Responses([(200, listing())])), pytest.raises(StorageError) as caught:
        list_files("s3://b/a")
    assert "too slow" in caught.value.problem


@pytest.mark.parametrize("use", [read, list_files, exists], ids=["read", "list", "exists"])
def test_signal_ends_a_silent_request(monkeypatch: pytest.MonkeyPatch, use: Callable[[str], object]) -> None:
    """A signal is heeded while the object store does not respond."""
    silent = threading.Event()
    with s3_responses(monkeypatch, Responses([(200, b"data")], delay=silent)) as server:

        def interrupt() -> None:
            while not server.requests:
                time.sleep(0.01)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            use("s3://b/a")
        assert time.monotonic() - started < storage.READ_TIMEOUT.total_seconds() / 2
        silent.set()


def test_links_to_files_are_files(tmp_path: Path) -> None:
    """A link to a file is listed; broken links and folders are not."""
    write(str(tmp_path / "elsewhere/x"), b"1")
    (tmp_path / "root/folder.jsonl").mkdir(parents=True)
    (tmp_path / "root/a").symlink_to(tmp_path / "elsewhere/x")
    (tmp_path / "root/b").symlink_to(tmp_path / "absent")
    assert [(file.name, file.size) for file in list_files(str(tmp_path / "root"))] == [("a", 1)]


def test_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    """A file instead of a folder is an error."""
    write(str(tmp_path / "file"), b"")
    with pytest.raises(NotADirectoryError):
        list_files(str(tmp_path / "file"))


# --- reading ---


def test_lines_have_numbers(tmp_path: Path) -> None:
    """Lines are numbered from 1; their bytes are unchanged, also without a line end."""
    write(str(tmp_path / "a"), b"1\r\n\n\xff")
    found = [(line.file, line.number, line.data) for line in read_lines(tmp_path / "a", "name")]
    assert found == [("name", 1, b"1\r\n"), ("name", 2, b"\n"), ("name", 3, b"\xff")]


@pytest.mark.parametrize("text", [b"", b"\n", b"1", b"1\n\xef\xbb\xbf2"])
def test_byte_order_mark_is_removed(tmp_path: Path, text: bytes) -> None:
    """It is removed at the start of a file only."""
    write(str(tmp_path / "a"), b"\xef\xbb\xbf" + text)
    assert [line.data for line in read_lines(tmp_path / "a", "a")] == text.splitlines(keepends=True)


@pytest.mark.parametrize("end", [b"", b"\n", b"\nnext\n"])
@pytest.mark.parametrize("length", [9, 10, 11, 12, 21, 22, 23, 33, 100])
def test_long_line_is_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, end: bytes) -> None:
    """A line that is too long has one byte more than allowed; the next line is complete."""
    monkeypatch.setattr(storage, "MAX_LINE_BYTES", 11)
    text = b"\xef\xbb\xbf" + b"x" * length + end
    write(str(tmp_path / "a"), text)
    complete = text[3:].splitlines(keepends=True)
    assert [line.data for line in read_lines(tmp_path / "a", "a")] == [line[:12] for line in complete]


def test_long_lines_need_little_memory(tmp_path: Path) -> None:
    """A very long line is never completely in memory."""
    write(str(tmp_path / "a"), b"x" * 32 * MEBIBYTE)
    assert in_new_process(peak_of_truncated_line, tmp_path / "a") < 8 * MEBIBYTE


def peak_of_truncated_line(path: Path) -> int:
    """Return the peak of allocated memory in bytes while a line longer than 1 MiB is truncated."""
    storage.MAX_LINE_BYTES = MEBIBYTE
    tracemalloc.start()
    assert [len(line.data) for line in read_lines(path, "a")] == [MEBIBYTE + 1]
    return tracemalloc.get_traced_memory()[1]


def test_plain_local_file_is_not_copied(tmp_path: Path) -> None:
    """The path of an uncompressed local file is returned."""
    write(str(tmp_path / "a.gz"), b"not compressed")
    with local_copy(str(tmp_path / "a.gz")) as path:
        assert path == tmp_path / "a.gz"


def test_gzip_is_decompressed(roots: tuple[str, str]) -> None:
    """Files with several gzip members are supported; temporary copies are removed."""
    text = b"line\n" * 10
    compressed = gzip.compress(text[:5]) + gzip.compress(text[5:])
    for root in roots:
        for name, data in (("plain", text), ("compressed.jsonl", compressed), ("empty", b""), ("one", b"\x1f")):
            write(join(root, name), data)
            with local_copy(join(root, name)) as path:
                assert path.read_bytes() == (text if name == "compressed.jsonl" else data)
            assert path.exists() == (path == Path(root, name))


def test_read_does_not_decompress(roots: tuple[str, str]) -> None:
    """The stored bytes are returned."""
    for root in roots:
        write(join(root, "a.gz"), gzip.compress(b"text"))
        assert gzip.decompress(read(join(root, "a.gz"))) == b"text"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: data[:20],
        lambda data: data[:-8] + b"\0" * 8,
        lambda data: data[:10] + b"\xff" * 20,
        lambda data: data + b"more",
    ],
    ids=["no end", "early end", "other checksum", "other data", "more data"],
)
@pytest.mark.parametrize("index", [0, 1], ids=["disk", "bucket"])
def test_corrupt_gzip_is_refused(
    roots: tuple[str, str], index: int, damage: Callable[[bytes], bytes], golden: Golden
) -> None:
    """The error for truncated or changed data names the file."""
    location = join(roots[index], "a.gz")
    write(location, damage(gzip.compress(bytes(range(256)))))
    with golden.raises(StorageError, (r"\(.*\)", "({zlib})")) as caught, local_copy(location):
        pass
    assert caught.value.location == location


def test_decompressed_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Data that decompresses to more than MAX_FILE_BYTES is refused."""
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", MEBIBYTE)
    write(str(tmp_path / "fits"), gzip.compress(bytes(MEBIBYTE)))
    write(str(tmp_path / "bomb"), gzip.compress(bytes(MEBIBYTE + 1)))
    with local_copy(str(tmp_path / "fits")) as path:
        assert path.stat().st_size == MEBIBYTE
    with golden.raises(StorageError) as caught, local_copy(str(tmp_path / "bomb")):
        pass
    assert caught.value.location == str(tmp_path / "bomb")
    assert f"{MEBIBYTE:,}" in str(caught.value)


def test_error_while_using_a_copy_is_not_changed(bucket: Bucket) -> None:
    """The error passes through, and the copy is removed."""
    location = bucket.put("a", b"1")
    with pytest.raises(FileNotFoundError, match="failed"), local_copy(location) as path:  # noqa: PT012
        assert path.exists()
        raise FileNotFoundError("failed")
    assert not path.exists()


def test_remote_file_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A remote file is copied in chunks."""
    with s3_responses(monkeypatch, Responses([(200, bytes(MEBIBYTE))], repeats=64)):
        assert in_new_process(peak_of_copy, "s3://b/large") < 8 * MEBIBYTE


def peak_of_copy(location: str) -> int:
    """Return the peak of allocated memory in bytes while a file of 64 MiB is copied in chunks of 1 MiB."""
    storage.CHUNK_BYTES = MEBIBYTE
    tracemalloc.start()
    with local_copy(location) as path:
        assert path.stat().st_size == 64 * MEBIBYTE
    return tracemalloc.get_traced_memory()[1]


# --- writing and existence ---


def test_file_is_written_atomically(tmp_path: Path) -> None:
    """Folders are created; the file is readable for all users; a second write replaces it; no other file remains."""
    target = tmp_path / "a/b/c.jsonl"
    for data in (b"first, and longer", b"second"):
        write(str(target), data)
        assert target.read_bytes() == data
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(target.parent.iterdir()) == [target]


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """The previous content is unchanged, and no temporary file remains."""
    write(str(tmp_path / "target/inside"), b"content")
    with pytest.raises(OSError, match="target"):
        write(str(tmp_path / "target"), b"data")
    assert (tmp_path / "target/inside").read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]


def test_written_bytes_are_read(roots: tuple[str, str]) -> None:
    """Bytes and open files are stored unchanged and replace previous content; then file and folders exist."""
    for root in roots:
        assert not exists(root)
        for data in (b"", b"first, and longer", bytes(6 * MEBIBYTE), b"second"):
            write(join(root, "05/a b"), data)
            assert read(join(root, "05/a b")) == data
            write(join(root, "05/c"), BytesIO(data))
            assert read(join(root, "05/c")) == data
        assert all(exists(location) for location in (root, join(root, "05"), f"{root}/05/", join(root, "05/a b")))
        assert not any(exists(join(root, name)) for name in ("0", "05/a", "05/a b/c"))


def test_object_has_the_key_of_its_location(bucket: Bucket) -> None:
    """Another client reads it by this key."""
    write(f"{bucket.url}/a b/ü%20", b"data")
    assert bucket.get("a b/ü%20") == b"data"


def test_failed_replacement_leaves_the_old_file(roots: tuple[str, str]) -> None:
    """The file is replaced only if no error is raised."""
    for root in roots:
        write(join(root, "a"), b"old")
        with pytest.raises(ValueError, match="failed"), replace_file(join(root, "a")) as path:  # noqa: PT012
            path.write_bytes(b"half")
            raise ValueError("failed")
        assert read(join(root, "a")) == b"old"
        with replace_file(join(root, "a")) as path:
            path.write_bytes(b"new")
        assert read(join(root, "a")) == b"new"
        assert [file.name for file in list_files(root)] == ["a"]


def test_empty_bucket_exists(bucket: Bucket) -> None:
    """A bucket without objects exists."""
    assert exists(bucket.url)
    assert require(bucket.url, "the tree", "source.root", "make it") == bucket.url


def test_missing_location_is_refused(roots: tuple[str, str], golden: Golden) -> None:
    """The error contains the settings key and a remedy; an existing location is returned."""
    for root in roots:
        with golden.raises(MissingInput) as caught:
            require(join(root, "a"), "the folder", "paths.x", "make it")
        error = caught.value
        assert (error.subject, error.path, error.key, error.remedy) == ("the folder", f"{root}/a", "paths.x", "make it")
        write(join(root, "a"), b"")
        assert require(join(root, "a"), "the folder", "paths.x", "make it") == f"{root}/a"


# --- failures ---


def test_missing_object_is_named(bucket: Bucket, golden: Golden) -> None:
    """A missing object is a StorageError with its location, a missing local file a FileNotFoundError."""
    for use in (read, lambda location: local_copy(location).__enter__()):
        with golden.raises(StorageError) as caught:
            use(f"{bucket.url}/a/b")
        assert caught.value.location == "s3://captures/a/b"
        assert "NoSuchKey" in str(caught.value)
    with pytest.raises(FileNotFoundError):
        read("absent")


@pytest.mark.parametrize("use", USES, ids=["read", "list", "exists", "write"])
def test_missing_bucket_is_named(bucket: Bucket, use: Callable[[str], object], golden: Golden) -> None:
    """The error names the bucket, for each operation."""
    with golden.raises(StorageError) as caught:
        use("s3://absent/a")
    assert caught.value.location == "s3://absent/a"
    assert "NoSuchBucket" in str(caught.value)


def test_server_error_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request succeeds after two failures."""
    with s3_responses(monkeypatch, Responses([(500, b""), (503, b""), (200, b"data")])) as server:
        assert read("s3://b/a") == b"data"
    assert [(method, path) for method, path, _ in server.requests] == [("GET", "/b/a")] * 3


def test_retries_of_a_server_error_are_limited(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """There is an error after all retries have failed."""
    busy = Responses([(503, b"<Error><Code>SlowDown</Code></Error>")])
    with s3_responses(monkeypatch, busy) as server, golden.raises(StorageError) as caught:
        read("s3://b/a")
    assert caught.value.location == "s3://b/a"
    assert "SlowDown" in str(caught.value)
    assert len(server.requests) == storage.RETRIES + 1


@pytest.mark.parametrize("use", [read, list_files], ids=["read", "list"])
@pytest.mark.parametrize("status", [401, 403])
def test_denied_access_repeats_no_secret(
    monkeypatch: pytest.MonkeyPatch, status: int, use: Callable[[str], object], golden: Golden
) -> None:
    """The error names the variables to check; it does not contain the key that the store repeats."""
    with s3_responses(monkeypatch, Responses([(status, REFUSED)])), golden.raises(StorageError) as caught:
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
        pytest.param(301, b"<Code>PermanentRedirect</Code>", id="another region, redirected"),
        pytest.param(400, b"<Code>ExpiredToken</Code>", id="expired token"),
        pytest.param(400, b"<Code>InvalidRequest</Code>", id="anything else"),
    ],
)
def test_other_error_responses_have_own_messages(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, golden: Golden
) -> None:
    """Each kind of response has its own remedy."""
    for use in (read, list_files):
        with s3_responses(monkeypatch, Responses([(status, body)])), golden.raises(StorageError) as caught:
            use("s3://b/a")
        assert caught.value.location == "s3://b/a"


def test_interrupted_transfer_is_an_error(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """An incomplete file is not accepted."""
    with (
        s3_responses(monkeypatch, Responses([(200, b"data")], repeats=2, sent=1)),
        golden.raises(StorageError) as caught,
    ):
        local_copy("s3://b/a").__enter__()
    assert caught.value.location == "s3://b/a"


@pytest.mark.parametrize("use", USES, ids=["read", "list", "exists", "write"])
def test_unreachable_store_fails_soon(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[str], object], golden: Golden
) -> None:
    """The error names the host after a few attempts."""
    monkeypatch.setattr(storage, "BACKOFF", timedelta(milliseconds=1))
    use_endpoint(monkeypatch, "http://127.0.0.1:1")
    start = time.monotonic()
    with golden.raises(StorageError) as caught:
        use("s3://b/a")
    assert time.monotonic() - start < 5
    assert caught.value.location == "s3://b/a"
    assert "127.0.0.1:1" in str(caught.value)


@pytest.mark.parametrize("use", [read, lambda location: local_copy(location).__enter__()], ids=["read", "copy"])
def test_slow_object_is_refused(monkeypatch: pytest.MonkeyPatch, use: Callable[[str], object], golden: Golden) -> None:
    """A file that arrives byte by byte is given up, although each byte is in time; a faster one is read."""
    monkeypatch.setattr(storage, "SLOW_SECONDS", 0.3)
    monkeypatch.setattr(storage, "WAKE_SECONDS", 0.05)
    paused = threading.Event()
    with s3_responses(monkeypatch, Responses([(200, b"x")], repeats=1_000, pauses=paused)):
        with golden.raises(StorageError, (r"in \d+ s", "in {seconds} s")) as caught:
            use("s3://b/a")
        paused.set()
        assert caught.value.location == "s3://b/a"
    monkeypatch.setattr(storage, "SLOW_SECONDS", 60)
    with s3_responses(monkeypatch, Responses([(200, bytes(storage.PART_BYTES))], repeats=10, pauses=threading.Event())):
        assert len(read("s3://b/a")) == 10 * storage.PART_BYTES


def test_object_without_end_does_not_fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer ends at the maximum size of a file."""
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", 2**20)
    with (
        s3_responses(monkeypatch, Responses([(200, bytes(2**16))], repeats=2**30)),
        pytest.raises(StorageError) as caught,
    ):
        local_copy("s3://b/a").__enter__()
    assert "1,048,576" in caught.value.problem


def test_file_shorter_than_listed_is_refused(roots: tuple[str, str], golden: Golden) -> None:
    """A file whose end is missing is not read; one that has grown is."""
    for root in roots:
        write(join(root, "a"), b"12345")
        (file,) = list_files(root)
        write(join(root, "a"), b"123456")
        with local_copy(file.location, file.size) as path:
            assert path.read_bytes() == b"123456"
        write(join(root, "a"), b"1234")
        with golden.raises(StorageError) as caught, local_copy(file.location, file.size):
            pass
        assert caught.value.location == file.location


def test_silent_store_times_out(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """A server that accepts the connection and sends nothing is an error."""
    monkeypatch.setattr(storage, "READ_TIMEOUT", timedelta(milliseconds=40))
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
def test_invalid_endpoint_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str, golden: Golden) -> None:
    """The error names the variable, without its value."""
    use_endpoint(monkeypatch, endpoint)
    with golden.raises(StorageError) as caught:
        read("s3://b/a")
    assert caught.value.location == "s3://b"
    assert "AWS_ENDPOINT_URL" in str(caught.value)
    assert "password" not in str(caught.value)


def test_endpoint_of_s3_takes_precedence(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_ENDPOINT_URL_S3 takes precedence over AWS_ENDPOINT_URL."""
    location = bucket.put("a", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert read(location) == b"1"


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_REGION"])
def test_line_end_in_a_variable_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, variable: str, golden: Golden
) -> None:
    """A line end in a credential or the region makes obstore panic; the error names the variable."""
    monkeypatch.setenv(variable, "x\n")
    with golden.raises(StorageError) as caught:
        read(f"{bucket.url}/a")
    assert variable in str(caught.value)


def test_malformed_variable_is_refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error for a variable that obstore cannot parse omits its value."""
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "perhaps")
    with golden.raises(StorageError) as caught:
        read("s3://b/a")
    assert caught.value.location == "s3://b/a"
    assert "perhaps" not in str(caught.value)


def use_profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the key from the environment, and write one profile with a key and one without."""
    write(str(tmp_path / "credentials"), b"[default]\naws_access_key_id=profile-key\naws_secret_access_key=x\n")
    write(str(tmp_path / "config"), b"[default]\nregion=eu-north-1\n[profile empty]\nregion=eu-south-1\n")
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize("region", ["", "eu-west-3"])
def test_profile_is_used_without_a_key_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, region: str
) -> None:
    """The key of the profile signs requests, for the region of the environment or of the profile."""
    with s3_responses(monkeypatch, Responses([(200, b"data")])) as server:
        use_profiles(monkeypatch, tmp_path)
        monkeypatch.setenv("AWS_REGION", region)
        assert read("s3://b/a") == b"data"
    signed = server.requests[0][2]["Authorization"]
    assert signed.split("Credential=")[1].split("/")[::2][:2] == ["profile-key", region or "eu-north-1"]


def test_profile_with_expired_credentials_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, golden: Golden
) -> None:
    """A role or single sign-on that boto3 cannot refresh is an error of the credentials."""

    def refuse(_: object) -> None:
        raise RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired.")

    with s3_responses(monkeypatch, Responses([(200, b"data")])):
        use_profiles(monkeypatch, tmp_path)
        monkeypatch.setattr("botocore.credentials.Credentials.get_frozen_credentials", refuse)
        with golden.raises(StorageError) as caught:
            read("s3://b/a")
    assert "AWS_SESSION_TOKEN" in str(caught.value)


@pytest.mark.parametrize("profile", ["empty", "absent"])
def test_profile_without_a_key_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str, golden: Golden
) -> None:
    """The error names the variables for the key."""
    with s3_responses(monkeypatch, Responses([(200, b"data")])) as server:
        use_profiles(monkeypatch, tmp_path)
        monkeypatch.setenv("AWS_PROFILE", profile)
        with golden.raises(StorageError) as caught:
            read("s3://b/a")
        assert caught.value.location == "s3://b"
        assert "AWS_ACCESS_KEY_ID" in str(caught.value)
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        assert read("s3://b/a") == b"data"
    assert "Authorization" not in server.requests[0][2]
