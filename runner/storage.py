"""Where files lie: on the local disk, or in an object store. The one place that opens them for the rest.

A *location* is a plain string, a local path or a URL `s3://bucket/…`, `gs://bucket/…`, `az://container/…`; never a
`pathlib.Path`, which would eat one slash of a URL. What happens on the local disk raises `OSError` as ever; whatever
an object store refuses becomes a `StorageError`. Endpoint, region and credentials come from the environment.

obstore does the talking; it is imported where a location turns out to be remote, so that nothing local waits for it.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import tempfile
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from shutil import copyfileobj
from typing import IO, TYPE_CHECKING

from runner.domain.executions import Window
from runner.domain.records import Line
from runner.errors import MissingInput, StorageError

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3CredentialProvider, S3Store

    Store = S3Store | GCSStore | AzureStore

LONGEST_LINE = 2**25
"""Bytes of a line, its end included; of a longer one `lines` gives one byte more than that and drops the rest."""
LARGEST_FILE = 2**36
"""Bytes that a gzip file may grow to."""
CHUNK = 2**22
"""Bytes that are in memory at a time while a file is fetched."""
RETRIES = 5
"""How often a request is sent again that met no server, or one that answered 5xx."""
BACKOFF = timedelta(milliseconds=100)
"""The pause before the first of these; the later ones are longer."""
PATIENCE = timedelta(seconds=60)
"""How long a request may be sent again."""
SILENCE = timedelta(seconds=20)
"""How long a server may say nothing."""


@dataclass(frozen=True)
class File:
    """A file that was listed: where it is, its path relative to the listed root, its size in bytes."""

    location: str
    name: str
    size: int


@dataclass(frozen=True)
class Service:
    """A kind of object store: the variables that may hold its endpoint, and those that say who is asking."""

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

NO_CREDENTIALS = "no usable credentials were found: set {credentials} in the environment (profiles of AWS need boto3)"
PROBLEMS = (
    (r"169\.254\.|metadata\.google\.internal|credential provider", NO_CREDENTIALS),
    (
        r"status code: 40[13]|<Code>(Expired|Invalid)Token",
        "access was refused ({answer}): check the credentials in the environment ({credentials}) "
        "and the permission to list, read and write there",
    ),
    (
        r"without LOCATION|<Code>AuthorizationHeaderMalformed",
        "the bucket {bucket} is in another region: set AWS_REGION to it",
    ),
    (
        r"<Code>(NoSuchBucket|ContainerNotFound)|list request.*status code: 404",
        "there is no bucket {bucket} ({answer}): check its name, the region and {endpoint}",
    ),
    (r"status code: 404", "there is no such file ({answer}): check the path"),
    (r"status code: (429|5)", "the store answered {answer} to every attempt: try again later"),
    (r"status code: ", "the store answered {answer}: check the location and {credentials}"),
    (
        r"Error performing ",
        "{host} could not be reached, or does not answer: check the network, the region and {endpoint}",
    ),
    (r"[Pp]ath ", "a path in it has a part that is empty, . or .., or a character that is not allowed: rename it"),
)
"""What obstore's text shows to have gone wrong, the first that matches, and the sentence for it."""


def is_remote(location: str) -> bool:
    """Return whether a location is a URL, of whatever scheme.

    >>> is_remote("s3://bucket/prefix"), is_remote("data/captures")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location) is not None


def join(root: str, *parts: str) -> str:
    """Return the location of something below a root; slashes are neither doubled nor able to lead out of the root.

    >>> join("s3://bucket/prefix/", "2023/01", "a.jsonl"), join("data/", "/2023", "", "a.jsonl")
    ('s3://bucket/prefix/2023/01/a.jsonl', 'data/2023/a.jsonl')
    """
    below = [part.strip("/") for part in parts]
    if is_remote(root):
        return "/".join([root.rstrip("/"), *filter(None, below)])
    return str(Path(root, *below))


def listing_hours(root: str, window: Window, suffixes: tuple[str, ...], below: str = "") -> list[File]:
    """Return the files in the folders `yyyy/mm/dd/hh` of a window's hours, hour by hour; raises as `listing` does.

    The folders lie in the root, or in a folder `below` it.
    """
    folders = [f"{below}/{hour}" if below else hour for hour in hour_folders(window)]
    return [file for folder in folders for file in listing(root, folder, suffixes)]


def hour_folders(window: Window) -> list[str]:
    """Return the folders `yyyy/mm/dd/hh` that hold what belongs to a window, whether they exist or not."""
    return [f"{hour:%Y/%m/%d/%H}" for hour in window.hours]


def listing(root: str, folder: str = "", suffixes: tuple[str, ...] = ()) -> list[File]:
    """Return the files in a folder below `root` and in its folders, by name; none where there is no such folder.

    Hidden ones, which are still being written, are left out. On the local disk, links to files are followed, links to
    folders only above the listed one.

    Raises:
        StorageError: when an object store cannot be listed.
        OSError: when a local folder cannot be.
    """
    found = _objects(root, folder, suffixes) if is_remote(root) else _local_files(root, folder, suffixes)
    return sorted(found, key=lambda file: file.name)


def _wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return bool(name) and not hidden and (not suffixes or name.endswith(suffixes))


def _local_files(root: str, folder: str, suffixes: tuple[str, ...]) -> Iterator[File]:
    for parent, folders, names in os.walk(join(root, folder), onerror=_unless_absent):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in names):
            name = path.relative_to(root).as_posix()
            with suppress(FileNotFoundError):
                if _wanted(name, suffixes) and stat.S_ISREG((found := path.stat()).st_mode):
                    yield File(str(path), name, found.st_size)


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _objects(root: str, folder: str, suffixes: tuple[str, ...]) -> Iterator[File]:
    """Yield the files of an object store.

    What stands for an empty folder, an object whose key ends in a slash, is listed without that slash: it is told from
    an empty file by asking for the latter.
    """
    store, top = _store(root)
    prefix = "/".join(filter(None, [top, folder.strip("/")]))
    sizes: dict[str, int] = {}
    with _explained(join(root, folder)):
        for found in store.list(prefix or None, chunk_size=1000):
            for key, size in ((meta["path"], meta["size"]) for meta in found):
                if not prefix or key.startswith(f"{prefix}/"):
                    sizes[key] = max(size, sizes.get(key, 0))
    for key, size in sizes.items():
        name = key[len(top) :].lstrip("/")
        if _wanted(name, suffixes) and (size or _is_object(root, store, key)):
            yield File(join(root, name), name, size)


@contextmanager
def fetched(file: str) -> Iterator[Path]:
    """Yield the content of a file as a plain local file, decompressed if it is gzip by its first bytes.

    A local file that is not compressed comes as it is; anything else is streamed into a file that is gone afterwards.

    Raises:
        StorageError: when an object cannot be read, or the gzip data is truncated, corrupt or grows beyond all measure.
        OSError: when there is no such local file, or the disk is full.
    """
    with ExitStack() as stack:
        path = Path(file)
        if not is_remote(file) and path.exists() and not path.is_file():
            raise StorageError(file, "is no file that can be read to an end: give a regular file")
        if is_remote(file):
            copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="shapwatch-"))
            _download(file, copy)
            path = Path(copy.name)
        if _is_gzip(path):
            plain = stack.enter_context(tempfile.NamedTemporaryFile(prefix="shapwatch-"))
            _decompress(path, plain, file)
            path = Path(plain.name)
        yield path


def _download(location: str, target: IO[bytes]) -> None:
    store, key = _object(location)
    with _explained(location):
        for chunk in store.get(key).stream(CHUNK):
            target.write(chunk)
    target.flush()


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _decompress(path: Path, target: IO[bytes], location: str) -> None:
    size = 0
    try:
        with gzip.open(path) as packed:
            while chunk := packed.read(CHUNK):
                size += target.write(chunk)
                if size > LARGEST_FILE:
                    raise StorageError(location, f"its gzip data holds more than {LARGEST_FILE} bytes: split it")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StorageError(location, f"its gzip data is truncated or corrupt ({error}): write it again") from error
    target.flush()


def lines(path: Path, name: str) -> Iterator[Line]:
    """Yield the lines of a local file one by one, as lines of `name`; a byte order mark is no part of the first.

    Of a line longer than `LONGEST_LINE` bytes, only the first `LONGEST_LINE + 1` come.
    """
    with path.open("rb") as file:
        if file.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
            file.read(len(BOM_UTF8))
        number = 0
        while data := file.readline(LONGEST_LINE + 1):
            number += 1
            yield Line(name, number, data)
            while len(data) > LONGEST_LINE and not data.endswith(b"\n"):
                data = file.readline(LONGEST_LINE + 1) or b"\n"


def read(location: str) -> bytes:
    """Return the bytes of a file as they are stored.

    Raises:
        StorageError: when an object cannot be read.
        OSError: when a local file cannot be.
    """
    if not is_remote(location):
        return Path(location).read_bytes()
    store, key = _object(location)
    with _explained(location):
        return bytes(store.get(key).bytes())


def write(location: str, data: bytes | IO[bytes]) -> None:
    """Write a file whole: no reader ever sees half of it.

    Raises:
        StorageError: when an object cannot be written.
        OSError: when a local file cannot be.
    """
    with replacing(location) as path, path.open("wb") as file:
        copyfileobj(BytesIO(data) if isinstance(data, bytes) else data, file)


@contextmanager
def replacing(location: str) -> Iterator[Path]:
    """Yield a local file to fill; it takes the place of the one at `location` afterwards, unless something was raised.

    Locally it is renamed into place, for an object store it is sent.

    Raises:
        StorageError: when an object cannot be written.
        OSError: when a local file cannot be.
    """
    if is_remote(location):
        store, key = _object(location)
        with tempfile.NamedTemporaryFile(prefix="shapwatch-") as copy:
            yield Path(copy.name)
            with _explained(location):
                store.put(key, Path(copy.name))
        return
    path = Path(location)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-")
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o644)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def exists(location: str) -> bool:
    """Return whether there is a file, or a folder; in an object store, a folder is what has something in it.

    Raises:
        StorageError: when an object store does not say.
    """
    if not is_remote(location):
        return Path(location).exists()
    store, key = _store(location)
    if key and _is_object(location, store, key):
        return True
    with _explained(location):
        return any(store.list(key or None)) or not key


def _is_object(location: str, store: Store, key: str) -> bool:
    with _explained(location):
        try:
            store.head(key)
        except FileNotFoundError:
            return False
        return True


def existing(location: str, what: str, key: str, remedy: str) -> str:
    """Return a location at which there is something.

    Raises:
        MissingInput: when there is not, saying which setting named it and what to do.
        StorageError: when an object store does not say.
    """
    if not exists(location):
        raise MissingInput(what, location, key, remedy)
    return location


def _object(location: str) -> tuple[Store, str]:
    """Return the store of an object and its key."""
    store, key = _store(location)
    if not key:
        raise StorageError(location, "it is a whole bucket: add the path of a file in it")
    return store, key


def _store(location: str) -> tuple[Store, str]:
    """Return the store of a remote location and the key in it.

    Raises:
        StorageError: when it is none that is supported, or the environment does not fit.
    """
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    shown = re.sub(r"//.*@", "//…@", location)
    if scheme not in SERVICES:
        allowed = "give a local path, s3://bucket/…, gs://bucket/… or az://container/…"
        raise StorageError(shown, f"{scheme}:// is not supported: {allowed}")
    if not re.fullmatch(r"[\w.$-]+", bucket, re.ASCII):
        raise StorageError(shown, f"{scheme}:// is not followed by the name of a bucket: correct it")
    environment = tuple((k, v) for k, v in sorted(os.environ.items()) if k.startswith(("AWS_", "AZURE_", "GOOGLE_")))
    with _explained(location, f"the environment does not fit: check {_credentials(location)}"):
        return _connected(scheme, bucket, environment), key.strip("/")


@lru_cache(maxsize=32)
def _connected(scheme: str, bucket: str, environment: tuple[tuple[str, str], ...]) -> Store:  # noqa: ARG001
    """Return the store of a bucket: the same one, with its open connections, until the environment changes."""
    from obstore.store import AzureStore, GCSStore, S3Store

    client: ClientConfig = {
        "allow_http": _plain_http(scheme, bucket),
        "connect_timeout": SILENCE / 4,
        "read_timeout": SILENCE,
        "timeout": timedelta(days=1),
    }
    retry: RetryConfig = {
        "max_retries": RETRIES,
        "retry_timeout": PATIENCE,
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
    """Return whether the environment names an endpoint without TLS."""
    endpoints = {name: os.environ[name] for name in SERVICES[scheme].endpoints if name in os.environ}
    for name, endpoint in endpoints.items():
        if not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d+)?(/\S*)?", endpoint, re.ASCII):
            problem = f"the environment variable {name} is no URL such as https://host:9000: correct it, or unset it"
            raise StorageError(f"{scheme}://{bucket}", problem)
    return any(endpoint.startswith("http://") for endpoint in endpoints.values())


def _profile(bucket: str) -> S3CredentialProvider | None:
    """Return the credentials that boto3 finds (profiles, single sign-on, roles), if the environment holds no key.

    Without boto3, obstore still knows the environment and the roles of machines and containers, but no profiles.
    """
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_SKIP_SIGNATURE"):
        return None
    try:
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    try:
        return Boto3CredentialProvider()
    except (BotoCoreError, ValueError) as error:
        location = f"s3://{bucket}"
        raise StorageError(location, NO_CREDENTIALS.format(credentials=_credentials(location))) from error


@contextmanager
def _explained(location: str, otherwise: str = "it broke off midway: try again") -> Iterator[None]:
    """Turn what obstore raises into a sentence; its own text may hold signed URLs and stays out of it, and of the log.

    A panic of its Rust code, which no `except Exception` catches, comes from a line end in one of the variables.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, FileNotFoundError, ValueError) as error:
        raise StorageError(location, _problem(location, str(error)) or otherwise) from None
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        problem = f"the request cannot be built: look for blanks and line ends in {_credentials(location)}"
        raise StorageError(location, problem) from None


def _problem(location: str, text: str) -> str | None:
    """Return what went wrong and what to do, from obstore's text."""
    text = text.partition("\n\nDebug source")[0]
    answer = re.search(r"status code: (\d+)(?:.*?<Code>(\w+))?", text, re.DOTALL)
    host = re.search(r"Error performing [A-Z]+ \w+://([^/?\s]+)", text)
    scheme, _, rest = location.partition("://")
    facts = {
        "answer": " ".join(filter(None, answer.groups())) if answer else "",
        "bucket": rest.partition("/")[0],
        "credentials": _credentials(location),
        "endpoint": SERVICES[scheme].endpoints[0],
        "host": host[1] if host else "",
    }
    found = (sentence for pattern, sentence in PROBLEMS if re.search(pattern, text, re.DOTALL))
    return next((sentence.format(**facts) for sentence in found), None)


def _credentials(location: str) -> str:
    return SERVICES[location.partition("://")[0]].credentials
