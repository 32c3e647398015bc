"""Inference ids of shapwatch's own calls, signed so that other clients of an endpoint cannot use them.

Captures with such an id are not traffic. Processes of one user share the key through a file; processes of several users
or machines share it through an environment variable.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from runner.domain.records import PROBE

KEY_VARIABLE = "SHAPWATCH_PROBE_KEY"
"""Environment variable with the key, which all monitors and servers of an endpoint must share."""
KEY_FILE = "probe.key"
SIGNATURE_CHARACTERS = 24


def probe_id(number: int) -> str:
    """Return the signed inference id of shapwatch's call with a number."""
    return _signed(f"{PROBE}-{number}")


def is_claimed(inference_id: str) -> bool:
    """Return whether an inference id has the prefix of shapwatch's own calls without a valid signature."""
    if not inference_id.startswith(PROBE):
        return False
    expected = _signed(inference_id.rpartition("-")[0])
    return not hmac.compare_digest(inference_id.encode(), expected.encode())


def is_probe(inference_id: str | None) -> bool:
    """Return whether an inference id is that of a call of shapwatch itself."""
    return inference_id is not None and inference_id.startswith(PROBE) and not is_claimed(inference_id)


def _signed(text: str) -> str:
    key = os.environ.get(KEY_VARIABLE) or _stored_key()
    signature = hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
    return f"{text}-{signature[:SIGNATURE_CHARACTERS]}"


@lru_cache(maxsize=1)
def _stored_key() -> str:
    """Return the key of this user, created at the first use; a key of this process if no folder is writable."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    for folder in (Path(state).expanduser() / "shapwatch", Path(tempfile.gettempdir()) / f"shapwatch-{os.getuid()}"):
        with suppress(OSError, RuntimeError):
            return _key_in(folder)
    return secrets.token_hex()


def _key_in(folder: Path) -> str:
    """Return the key in a folder, which belongs to this user.

    Raises:
        OSError: if the folder is not writable, or others can read or replace the key.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder) as new:
        new.write(secrets.token_hex())
        new.flush()
        with suppress(FileExistsError):
            os.link(new.name, folder / KEY_FILE)
    for path in (folder, folder / KEY_FILE):
        status = path.lstat()
        writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        readable = status.st_mode & (stat.S_IRGRP | stat.S_IROTH) and path.name == KEY_FILE
        if status.st_uid != os.getuid() or writable or readable or stat.S_ISLNK(status.st_mode):
            raise PermissionError(f"{path} can be changed or read by other users")
    return (folder / KEY_FILE).read_text()
