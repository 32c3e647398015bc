"""Addresses of endpoints: what they may hold, what of them may be shown, and whether they are this machine's."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit


def plain(url: str) -> bool:
    """Return whether a text is a URL without credentials; if it is not, no message repeats it.

    >>> plain("https://example.com/v1/models/churn:predict"), plain("https://user:secret@example.com/")
    (True, False)
    >>> plain("http://127.0.0.1:99999/"), plain("http://example..com/")
    (False, False)
    """
    if not re.fullmatch(r"https?://[^\s/?#@]+([/?][^\s#]*)?", url):
        return False
    import httpx

    try:
        host = httpx.URL(url).raw_host.decode("ascii")
        return bool(host.encode("idna")) and urlsplit(url).port != 0
    except (httpx.InvalidURL, ValueError):
        return False


def bearer(token: str) -> str:
    r"""Return a token as a header can carry it; white space around it, which files end with, is none of it.

    Raises:
        ValueError: when there is nothing, or what no header can carry.

    >>> bearer("s3cret\n")
    's3cret'
    """
    if not re.fullmatch(r"[!-~]+", token.strip()):
        raise ValueError("holds no token: expected printable ASCII without blanks")
    return token.strip()


def redacted(text: str, token: str) -> str:
    r"""Return a text without a token, also where JSON escapes its characters; an empty token is none.

    >>> redacted('{"got": "Bearer s3\\/cret\\u003d"}', "s3/cret=")
    '{"got": "Bearer …"}'
    """
    characters = (rf"(?:\\?{re.escape(c)}|(?i:\\u{ord(c):04x}))" for c in token)
    return re.sub("".join(characters), "…", text) if token else text


def shown(url: str) -> str:
    """Return a URL without what may be secret in it.

    >>> shown("https://user:secret@example.com:8443/invocations?key=secret")
    'https://example.com:8443/invocations?…'
    """
    address = urlsplit(url)
    shortened = address._replace(netloc=address.netloc.rpartition("@")[2], query="…" if address.query else "")
    return shortened._replace(fragment="").geturl()


def loopback(host: str) -> bool:
    """Return whether a host is this machine.

    >>> loopback("localhost"), loopback("127.0.0.1"), loopback("::1"), loopback("10.0.0.1"), loopback("example.com")
    (True, True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
