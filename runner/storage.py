"""Files on the local disk or in an object store.

A *location* is a string: a local path, or a URL `s3://bucket/…`, `gs://bucket/…` or `az://container/…`. It is never a
`pathlib.Path`, which would remove one slash of a URL. Local failures raise `OSError`, failures of an object store raise
`StorageError`. Endpoint, region and credentials come from the environment.

obstore is imported only for remote locations, because the import takes time.
"""

from __future__ import annotations

import gzip
import logging
import os
import re
import stat
import tempfile
import time
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from errno import ELOOP
from functools import lru_cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from shutil import copyfileobj
from threading import Event, Thread
from typing import IO, TYPE_CHECKING, TypeVar

from runner.domain.executions import Window
from runner.domain.numbers import plural
from runner.domain.records import Line
from runner.errors import MissingInput, StorageError, snippet
from runner.urls import redact_urls

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3CredentialProvider, S3Store

    Store = S3Store | GCSStore | AzureStore

MAX_LINE_BYTES = 2**25
"""Maximum length of a line in bytes, including its end; `read_lines` truncates longer lines."""
MAX_FILE_BYTES = 2**36
"""Maximum size in bytes of an object, and of the decompressed data of a gzip file."""
CHUNK_BYTES = 2**22
"""Bytes in memory at a time while a file is decompressed."""
PART_BYTES = 2**16
"""Smallest part of an object that is received at a time."""
MAX_OBJECTS = 10**6
"""Maximum number of objects in a listing."""
RETRIES = 5
"""Maximum number of retries of a request after a connection failure or a status code 5xx."""
BACKOFF = timedelta(milliseconds=100)
"""Pause before the first retry; later pauses are longer."""
RETRY_TIMEOUT = timedelta(seconds=60)
"""Time since the first attempt after which a request is not retried any more."""
READ_TIMEOUT = timedelta(seconds=20)
"""Maximum time without data from a server."""
SLOW_SECONDS = 120
"""Seconds that an operation may take in addition to the transfer of its data."""
MIN_BYTES_PER_SECOND = 2**14
"""Smallest accepted speed of a transfer."""
OBJECT_BYTES = 2**10
"""Bytes of a transfer that one object in a listing counts as."""
WAKE_SECONDS = 0.5
"""Seconds between two checks of a transfer."""
ABSENT = "shapwatch-absent"
"""Name of an object that does not exist."""

Result = TypeVar("Result")

logger = logging.getLogger("shapwatch")


@dataclass(frozen=True)
class File:
    """A listed file.

    Attributes:
        location: path or URL.
        name: path relative to the listed root.
        size: size in bytes.
    """

    location: str
    name: str
    size: int


@dataclass(frozen=True)
class Service:
    """A kind of object store.

    Attributes:
        endpoints: environment variables for its endpoint.
        credentials: environment variables for its credentials, separated by commas, for messages.
    """

    endpoints: tuple[str, ...]
    credentials: str


SERVICES = {
    "s3": Service(
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION",
    ),
    "gs": Service(("GOOGLE_BASE_URL",), "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": Service(
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"), "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY"
    ),
}

NO_CREDENTIALS = (
    "no valid credentials found, or they have expired; set {credentials} in the environment "
    "(AWS profiles require boto3)"
)
PROBLEMS = (
    (r"169\.254\.|metadata\.google\.internal|credential provider", NO_CREDENTIALS),
    (
        r"status code: 40[13]|<Code>(Expired|Invalid)Token",
        "access was denied ({answer}); check the credentials in the environment ({credentials}) "
        "and the permission to list, read and write there",
    ),
    (
        r"without LOCATION|<Code>AuthorizationHeaderMalformed",
        "bucket {bucket} is in another region; set AWS_REGION to its region",
    ),
    (
        r"<Code>(NoSuchBucket|ContainerNotFound)|list request.*status code: 404",
        "bucket {bucket} does not exist ({answer}); check its name, the region and {endpoint}",
    ),
    (r"status code: 404", "the file does not exist ({answer}); check the path"),
    (
        r"[Ii]nvalid list response",
        "the server responds with no listing of objects; check that {endpoint} is the address of an object store",
    ),
    (r"status code: (429|5)", "the object store answered {answer} to every attempt; try again later"),
    (r"status code: ", "the object store answered {answer}; check the location and {credentials}"),
    (
        r"Error performing ",
        "{host} is unreachable or does not respond; check the network, the region and {endpoint}",
    ),
    (
        r"[Pp]ath ",
        "the name {name} has an empty part, a part '.' or '..', or an invalid character; rename the object (with boto3 "
        "installed, such objects of S3 are skipped)",
    ),
)
"""Patterns of obstore's error texts with the message of each; the first match applies."""


def is_remote(location: str) -> bool:
    """Return whether a location is a URL of any scheme.

    >>> is_remote("s3://bucket/prefix"), is_remote("data/captures")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location) is not None


def join(root: str, *parts: str) -> str:
    """Return a location below a root, without double slashes; a leading slash in a part does not leave the root.

    >>> join("s3://bucket/prefix/", "2023/01", "a.jsonl"), join("data/", "/2023", "", "a.jsonl")
    ('s3://bucket/prefix/2023/01/a.jsonl', 'data/2023/a.jsonl')
    """
    below = [part.strip("/") for part in parts]
    if is_remote(root):
        return "/".join([root.rstrip("/"), *filter(None, below)])
    return str(Path(root, *below))


def list_hours(root: str, window: Window, suffixes: tuple[str, ...], below: str = "") -> list[File]:
    """Return the files in the folders `yyyy/mm/dd/hh` of a window's hours, ordered by hour.

    Args:
        root: path or URL of the root folder.
        window: period whose hours are listed.
        suffixes: accepted file name endings; empty for all files.
        below: folder below the root that contains the folders of the hours.

    Raises:
        StorageError: if an object store cannot be listed.
        OSError: if a local folder cannot be listed.
    """
    folders = [f"{below}/{hour}" if below else hour for hour in hour_folders(window)]
    return [file for folder in folders for file in list_files(root, folder, suffixes)]


def hour_folders(window: Window) -> list[str]:
    """Return the folders `yyyy/mm/dd/hh` of a window's hours, whether or not they exist."""
    return [f"{hour:%Y/%m/%d/%H}" for hour in window.hours]


def list_files(root: str, folder: str = "", suffixes: tuple[str, ...] = ()) -> list[File]:
    """Return the files in a folder below `root` and its subfolders, sorted by name; empty if there is no such folder.

    Hidden files, which are still being written, are excluded. Names that are not UTF-8, and keys of objects that are no
    paths, are excluded with a warning. On the local disk, links to files are followed; links to folders inside the
    listed folder are not.

    Raises:
        StorageError: if an object store cannot be listed.
        OSError: if a local folder cannot be listed.
    """
    found = _objects(root, folder, suffixes) if is_remote(root) else _local_files(root, folder, suffixes)
    return sorted(found, key=lambda file: file.name)


def _is_listed(name: str, suffixes: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return bool(name) and not hidden and (not suffixes or name.endswith(suffixes))


def _local_files(root: str, folder: str, suffixes: tuple[str, ...]) -> Iterator[File]:
    odd, special = list[str](), list[str]()
    for parent, folders, names in os.walk(join(root, folder), onerror=_raise_unless_missing):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in names):
            name = path.relative_to(root).as_posix()
            if not _is_listed(name, suffixes):
                continue
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != ELOOP:
                    raise
                special.append(name)
                continue
            if not is_regular(found):
                special.append(name)
            elif any("\ud800" <= c <= "\udfff" for c in name):
                odd.append(name)
            else:
                yield File(str(path), name, found.st_size)
    _warn_skipped(join(root, folder), special, "not regular (pipe, device, socket, file of the kernel, loop of links)")
    _warn_skipped(join(root, folder), odd)


def _warn_skipped(location: str, names: Sequence[str], reason: str = "whose name is not a valid path") -> None:
    if names:
        example = snippet(repr(names[0]))
        logger.warning("%s: skipped %s %s, such as %s", location, plural(len(names), "file"), reason, example)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _objects(root: str, folder: str, suffixes: tuple[str, ...]) -> Iterator[File]:
    """Yield the files of an object store.

    An empty folder can be represented by an object whose key ends in a slash. It is listed without the slash and with
    size 0; a request for an object of this name distinguishes it from an empty file.
    """
    store, base = _store(root)
    location, prefix = join(root, folder), "/".join(filter(None, [base, folder.strip("/")]))
    sizes = _listed_sizes(location, store, prefix)
    for key, size in sizes.items():
        name = key[len(base) :].lstrip("/")
        if _is_listed(name, suffixes) and (size or _is_object(root, store, key)):
            yield File(join(root, name), name, size)


def _listed_sizes(location: str, store: Store, prefix: str) -> dict[str, int]:
    """Return the sizes of the objects below a prefix by their keys; keys that are no paths are skipped."""
    from obstore.exceptions import InvalidPathError

    def collect(transfer: Transfer) -> dict[str, int]:
        pages = store.list(prefix or None, chunk_size=1000)
        try:
            found = ([(meta["path"], meta["size"]) for meta in page] for page in pages)
            sizes = _collected(location, prefix, found, transfer)
        except InvalidPathError:
            if not location.startswith("s3://") or not find_spec("boto3"):
                raise
            return _collected(location, prefix, _boto3_pages(location, prefix), transfer)
        if not sizes and _has_absent(store, prefix):
            raise StorageError(location, _problem(location, "invalid list response") or "")
        return sizes

    return _transferred(location, collect)


def _has_absent(store: Store, prefix: str) -> bool:
    """Return whether a server claims to have an object that does not exist, as a web site does for any address.

    Its pages look like empty listings to obstore if they are well-formed XML.
    """
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    try:
        store.head(f"{prefix}/{ABSENT}".strip("/"))
    except (FileNotFoundError, PermissionDeniedError, UnauthenticatedError):
        return False
    return True


def _collected(
    location: str, prefix: str, pages: Iterable[list[tuple[str, int]]], transfer: Transfer
) -> dict[str, int]:
    """Return the sizes of the objects in the pages of a listing by their keys."""
    sizes: dict[str, int] = {}
    count = 0
    for page in pages:
        transfer.add(len(page) * OBJECT_BYTES)
        count += len(page)
        if count > MAX_OBJECTS:
            remedy = "divide it among several folders, or check the object store"
            raise StorageError(location, f"its listing has more than {MAX_OBJECTS:,} objects; {remedy}")
        for key, size in page:
            if not prefix or key.startswith(f"{prefix}/"):
                sizes[key] = max(size, sizes.get(key, 0))
    return sizes


def _boto3_pages(location: str, prefix: str) -> Iterator[list[tuple[str, int]]]:
    """Yield the pages of a listing of S3, without keys that obstore does not accept: it refuses their whole page."""
    import boto3  # type: ignore[import-untyped]
    from botocore import UNSIGNED  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    seconds = READ_TIMEOUT.total_seconds()
    unsigned = {"signature_version": UNSIGNED} if os.environ.get("AWS_SKIP_SIGNATURE") else {}
    config = Config(connect_timeout=seconds / 4, read_timeout=seconds, **unsigned)
    endpoint = next((os.environ[name] for name in SERVICES["s3"].endpoints if os.environ.get(name)), None)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    bucket = location.partition("://")[2].partition("/")[0]
    skipped: list[str] = []
    try:
        client = boto3.Session().client("s3", region_name=region, endpoint_url=endpoint, config=config)
        with closing(client):
            pages = client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=bucket, Prefix=f"{prefix}/" if prefix else ""):
                found = [(found["Key"], found["Size"]) for found in page.get("Contents", [])]
                skipped += [key for key, _ in found if _is_odd(key)]
                yield [(key.removesuffix("/"), size) for key, size in found if not _is_odd(key)]
    except (BotoCoreError, ClientError, ValueError) as error:
        raise StorageError(location, f"cannot be listed: {snippet(error)}; check {_credentials(location)}") from error
    _warn_skipped(location, skipped)


def _is_odd(key: str) -> bool:
    r"""Return whether the key of an object is not a path.

    >>> _is_odd("a/b/"), _is_odd("a//b"), _is_odd("a/../b"), _is_odd("a\tb")
    (False, True, True, True)
    """
    parts = key.removesuffix("/").split("/")
    return any(part in {"", ".", ".."} or re.search(r"[\x00-\x1f\x7f]", part) for part in parts)


@contextmanager
def local_copy(location: str, size: int = 0) -> Iterator[Path]:
    """Yield the path of a local, decompressed copy of a file; the first bytes identify gzip.

    An uncompressed local file is not copied: its own path is yielded. All copies are temporary.

    Args:
        location: path or URL.
        size: size of the file in bytes when it was listed, 0 if it is unknown.

    Raises:
        StorageError: if an object cannot be read, a local path is not a regular file, the file is shorter than when it
            was listed, or gzip data is truncated, corrupt or too large.
        OSError: if a local file cannot be read, or the disk is full.
    """
    with ExitStack() as stack:
        path = Path(location)
        if is_remote(location):
            copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="shapwatch-"))
            _download(location, copy)
            path = Path(copy.name)
        else:
            _check_regular(location)
        if (found := path.stat().st_size) < size:
            problem = f"has {found:,} bytes, but its listing says {size:,}; its end is missing"
            raise StorageError(location, f"{problem}: check what writes it, and try again")
        if _is_gzip(path):
            plain = stack.enter_context(tempfile.NamedTemporaryFile(prefix="shapwatch-"))
            _decompress(path, plain, location)
            path = Path(plain.name)
        yield path


def _check_regular(location: str) -> None:
    """Refuse a local path that is not a regular file: reading a pipe or device may never end.

    Raises:
        StorageError: if it is a folder, pipe, device, socket, or file of the kernel.
        OSError: if it does not exist, or cannot be read.
    """
    if not is_regular(Path(location).stat()):
        problem = "is a folder, pipe, device, socket, or file of the kernel"
        raise StorageError(location, f"{problem}; give the path of a regular file")


def is_regular(status: os.stat_result) -> bool:
    """Return whether a file has stored content: the kernel makes up those in /proc and /sys, where reading may wait."""
    return stat.S_ISREG(status.st_mode) and status.st_dev not in _kernel_devices()


@lru_cache
def _kernel_devices() -> frozenset[int]:
    """Return the numbers of the file systems of the kernel that are mounted."""
    folders = ("/proc", "/sys", "/sys/kernel/debug", "/sys/kernel/tracing")
    own = Path("/").stat().st_dev
    return frozenset(Path(folder).stat().st_dev for folder in folders if Path(folder).exists()) - {own}


def _download(location: str, target: IO[bytes]) -> None:
    store, key = _object(location)

    def receive(transfer: Transfer) -> None:
        for chunk in store.get(key).stream(PART_BYTES):
            transfer.add(len(chunk))
            if transfer.bytes > MAX_FILE_BYTES:
                raise StorageError(
                    location, f"it exceeds {MAX_FILE_BYTES:,} bytes; check the object store, or split the file"
                )
            target.write(chunk)

    _transferred(location, receive)
    target.flush()


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _decompress(path: Path, target: IO[bytes], location: str) -> None:
    size = 0
    try:
        with gzip.open(path) as compressed:
            while chunk := compressed.read(CHUNK_BYTES):
                size += target.write(chunk)
                if size > MAX_FILE_BYTES:
                    raise StorageError(location, f"its gzip data exceeds {MAX_FILE_BYTES:,} bytes; split the file")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StorageError(location, f"its gzip data is truncated or corrupt ({error}); write it again") from error
    target.flush()


def read_lines(path: Path, name: str) -> Iterator[Line]:
    """Yield the lines of a local file, without a byte order mark; each `Line` has `name` as its file.

    Lines longer than `MAX_LINE_BYTES` are truncated to `MAX_LINE_BYTES + 1` bytes.
    """
    with path.open("rb") as file:
        if file.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
            file.read(len(BOM_UTF8))
        number = 0
        while data := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            yield Line(name, number, data)
            while len(data) > MAX_LINE_BYTES and not data.endswith(b"\n"):
                data = file.readline(MAX_LINE_BYTES + 1) or b"\n"


def read(location: str) -> bytes:
    """Return the stored bytes of a file.

    Raises:
        StorageError: if an object cannot be read, or a local path is not a regular file.
        OSError: if a local file cannot be read.
    """
    if not is_remote(location):
        _check_regular(location)
        return Path(location).read_bytes()
    data = BytesIO()
    _download(location, data)
    return data.getvalue()


def write(location: str, data: bytes | IO[bytes]) -> None:
    """Write a file atomically: no reader sees an incomplete file.

    Raises:
        StorageError: if an object cannot be written.
        OSError: if a local file cannot be written.
    """
    with replace_file(location) as path, path.open("wb") as file:
        copyfileobj(BytesIO(data) if isinstance(data, bytes) else data, file)


@contextmanager
def replace_file(location: str) -> Iterator[Path]:
    """Yield the path of an empty temporary file; at the end it replaces the file at `location`, except after an error.

    The temporary file is renamed on the local disk, or uploaded to an object store.

    Raises:
        StorageError: if an object cannot be written.
        OSError: if a local file cannot be written.
    """
    if is_remote(location):
        store, key = _object(location)
        with tempfile.NamedTemporaryFile(prefix="shapwatch-") as copy:
            yield Path(copy.name)
            size = Path(copy.name).stat().st_size
            _transferred(location, lambda _: store.put(key, Path(copy.name)), size)
        return
    path = Path(location)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def exists(location: str) -> bool:
    """Return whether a file or folder exists; an object store has no empty folders.

    Raises:
        StorageError: if an object store cannot be read.
    """
    if not is_remote(location):
        return Path(location).exists()
    store, key = _store(location)
    if key and _is_object(location, store, key):
        return True
    return _transferred(location, lambda _: any(store.list(key or None))) or not key


def _is_object(location: str, store: Store, key: str) -> bool:
    def has_head(_: Transfer) -> bool:
        try:
            store.head(key)
        except FileNotFoundError:
            return False
        return True

    return _transferred(location, has_head)


def require(location: str, subject: str, key: str, remedy: str) -> str:
    """Return a location after a check that it exists.

    Args:
        location: path or URL.
        subject: noun for the file or folder, for the message.
        key: settings key that contains the location.
        remedy: instruction to the reader of the message.

    Raises:
        MissingInput: if it does not exist.
        StorageError: if an object store cannot be read.
    """
    if not exists(location):
        raise MissingInput(subject, location, key, remedy)
    return location


def _object(location: str) -> tuple[Store, str]:
    """Return the store that contains an object, and the key of the object."""
    store, key = _store(location)
    if not key:
        raise StorageError(location, "is a bucket; add the path of a file in it")
    return store, key


def _store(location: str) -> tuple[Store, str]:
    """Return the store of a remote location and the key in it.

    Raises:
        StorageError: if the scheme is not supported, or the environment is invalid.
    """
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    without_credentials = redact_urls(location)
    if scheme not in SERVICES:
        expected = "expected a local path, s3://bucket/…, gs://bucket/… or az://container/…"
        raise StorageError(without_credentials, f"{scheme}:// is not supported; {expected}")
    if not re.fullmatch(r"[\w.$-]+", bucket, re.ASCII):
        raise StorageError(without_credentials, f"expected the name of a bucket after {scheme}://")
    environment = tuple((k, v) for k, v in sorted(os.environ.items()) if k.startswith(("AWS_", "AZURE_", "GOOGLE_")))
    with _translated(location, f"the environment is invalid; check {_credentials(location)}"):
        return _connected(scheme, bucket, environment), key.strip("/")


@lru_cache(maxsize=32)
def _connected(scheme: str, bucket: str, environment: tuple[tuple[str, str], ...]) -> Store:  # noqa: ARG001
    """Return the store of a bucket; it is cached with its open connections until the environment changes."""
    from obstore.store import AzureStore, GCSStore, S3Store

    client: ClientConfig = {
        "allow_http": _plain_http(scheme, bucket),
        "connect_timeout": READ_TIMEOUT / 4,
        "read_timeout": READ_TIMEOUT,
        "timeout": timedelta(days=1),
    }
    retry: RetryConfig = {
        "max_retries": RETRIES,
        "retry_timeout": RETRY_TIMEOUT,
        "backoff": {"init_backoff": BACKOFF, "max_backoff": timedelta(seconds=15), "base": 2},
    }
    if scheme == "gs":
        return GCSStore(bucket, client_options=client, retry_config=retry)
    if scheme == "az":
        return AzureStore(bucket, client_options=client, retry_config=retry)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return S3Store(
        bucket,
        config={"region": region} if region else None,
        client_options=client,
        retry_config=retry,
        credential_provider=_profile(bucket),
    )


def _plain_http(scheme: str, bucket: str) -> bool:
    """Return whether the environment sets an endpoint without TLS."""
    endpoints = {name: os.environ[name] for name in SERVICES[scheme].endpoints if name in os.environ}
    for name, endpoint in endpoints.items():
        if not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d+)?(/\S*)?", endpoint, re.ASCII):
            problem = f"the environment variable {name} is not a URL such as https://host:9000; correct it, or unset it"
            raise StorageError(f"{scheme}://{bucket}", problem)
    return any(endpoint.startswith("http://") for endpoint in endpoints.values())


def _profile(bucket: str) -> S3CredentialProvider | None:
    """Return boto3's credentials (profiles, single sign-on, roles), None if the environment contains a key.

    Without boto3, obstore supports the environment and the roles of machines and containers, but no profiles.
    """
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_SKIP_SIGNATURE"):
        return None
    try:
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    try:
        return Boto3CredentialProvider()
    except (BotoCoreError, ValueError) as error:
        location = f"s3://{bucket}"
        raise StorageError(location, NO_CREDENTIALS.format(credentials=_credentials(location))) from error


class Transfer:
    """A transfer of data in another thread.

    Attributes:
        bytes: number of bytes so far.
        abandoned: set once nobody waits for its end.
    """

    def __init__(self, size: int = 0) -> None:
        self.bytes = size
        self.abandoned = Event()

    def add(self, size: int) -> None:
        """Count bytes.

        Raises:
            RuntimeError: if nobody waits for the end of the transfer.
        """
        self.bytes += size
        if self.abandoned.is_set():
            raise RuntimeError("abandoned")


def _transferred(location: str, work: Callable[[Transfer], Result], size: int = 0) -> Result:
    """Return the result of an operation of obstore, which runs in another thread.

    obstore neither notices signals nor limits the total time of an operation. So this thread waits, and abandons an
    operation after a signal, or if it transfers fewer than `MIN_BYTES_PER_SECOND` for `SLOW_SECONDS`.

    Raises:
        StorageError: if the operation fails or is too slow.
    """
    transfer, future, started = Transfer(size), Future[Result](), time.monotonic()

    def run() -> None:
        try:
            future.set_result(work(transfer))
        except BaseException as error:  # noqa: BLE001  raised again by the future
            future.set_exception(error)

    Thread(target=run, name="shapwatch-transfer", daemon=True).start()
    try:
        while not wait([future], WAKE_SECONDS).done:
            seconds = time.monotonic() - started
            if seconds > SLOW_SECONDS + transfer.bytes / MIN_BYTES_PER_SECOND:
                problem = f"the object store is too slow: {transfer.bytes:,} bytes in {seconds:.0f} s"
                raise StorageError(location, f"{problem}; check the network and the object store, and try again")
        with _translated(location):
            return future.result()
    finally:
        transfer.abandoned.set()


@contextmanager
def _translated(location: str, default: str = "the transfer was interrupted; try again") -> Iterator[None]:
    """Turn errors of obstore into `StorageError`.

    Messages do not quote the texts of these errors, which may contain signed URLs. If an environment variable contains
    a line end, obstore's Rust code panics. The panic is a `BaseException`, but not an `Exception`.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, FileNotFoundError, ValueError) as error:
        raise StorageError(location, _problem(location, str(error)) or default) from None
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        problem = f"the request is invalid; check for blanks and line ends in {_credentials(location)}"
        raise StorageError(location, problem) from None


def _problem(location: str, text: str) -> str | None:
    """Return the message for an error text of obstore, None if it is unknown."""
    text = text.partition("\n\nDebug source")[0]
    answer = re.search(r"status code: (\d+)(?:.*?<Code>(\w+))?", text, re.DOTALL)
    host = re.search(r"Error performing [A-Z]+ \w+://([^/?\s]+)", text)
    name = re.search(r'Path "(.*?)"(?: contained|:)', text, re.DOTALL)
    scheme, _, rest = location.partition("://")
    values = {
        "answer": " ".join(filter(None, answer.groups())) if answer else "",
        "bucket": rest.partition("/")[0],
        "credentials": _credentials(location),
        "endpoint": SERVICES[scheme].endpoints[0],
        "host": host[1] if host else "",
        "name": snippet(repr(name[1])) if name else "of an object",
    }
    messages = (message for pattern, message in PROBLEMS if re.search(pattern, text, re.DOTALL))
    return next((message.format(**values) for message in messages), None)


def _credentials(location: str) -> str:
    return SERVICES[location.partition("://")[0]].credentials
