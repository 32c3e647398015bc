"""URLs of endpoints: validation, secrets, and loopback addresses."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import unquote_plus, urlsplit

SECRET_CHARACTERS = 6
"""Minimum number of characters of a value in a query that may be a secret."""


def is_plain_url(url: str) -> bool:
    """Return whether a string is a valid HTTP URL without credentials.

    Messages must not quote any other string, because it may contain a secret.

    >>> is_plain_url("https://example.com/v1/models/churn:predict"), is_plain_url("https://user:secret@example.com/")
    (True, False)
    >>> is_plain_url("http://127.0.0.1:99999/"), is_plain_url("http://example..com/")
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


def bearer_token(text: str) -> str:
    r"""Return a token for an HTTP header, without surrounding white space such as the line end of a file.

    Raises:
        ValueError: if the token is empty, or an HTTP header cannot contain it.

    >>> bearer_token("s3cret\n")
    's3cret'
    """
    if not re.fullmatch(r"[!-~]+", text.strip()):
        raise ValueError("contains no valid token; expected printable ASCII characters without blanks")
    return text.strip()


def redact(text: str, *tokens: str) -> str:
    r"""Return a string with `…` in place of all tokens, even if JSON escapes some characters of a token.

    >>> redact('{"got": "Bearer s3\\/cret\\u003d"}', "s3/cret=")
    '{"got": "Bearer …"}'
    """
    for token in filter(None, tokens):
        characters = (rf"(?:\\?{re.escape(c)}|(?i:\\u{ord(c):04x}))" for c in token)
        text = re.sub("".join(characters), "…", text)
    return text


def query_secrets(url: str) -> list[str]:
    """Return the query of a URL, and its long values as they are and decoded; an endpoint may repeat each of them.

    >>> query_secrets("https://example.com/score?version=2&key=%21secret")
    ['version=2&key=%21secret', '%21secret', '!secret']
    """
    query = urlsplit(url).query
    values = [value for part in query.split("&") if len(value := part.partition("=")[2]) >= SECRET_CHARACTERS]
    return [query, *dict.fromkeys(form for value in values for form in (value, unquote_plus(value)))] if query else []


def without_secrets(url: str) -> str:
    """Return a URL without credentials and fragment, and with `…` in place of its query.

    >>> without_secrets("https://user:secret@example.com:8443/invocations?key=secret")
    'https://example.com:8443/invocations?…'
    """
    parts = urlsplit(url)
    cleaned = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="…" if parts.query else "")
    return cleaned._replace(fragment="").geturl()


def redact_urls(text: str) -> str:
    r"""Return a string with `…` in place of the credentials, queries and fragments of all URLs in it.

    >>> redact_urls("got 'postgresql://me:p/w@h/db?password=secret'")
    "got 'postgresql://…@h/db?…'"
    >>> redact_urls("expected sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE")
    'expected sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE'
    """
    text = re.sub(r"//(?!USER@)\S*@", "//…@", text)
    return re.sub(r"(://[^\s'\"?#]*)[?#][^\s'\"]+", r"\1?…", text)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine.

    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("::1")
    (True, True, True)
    >>> is_loopback("10.0.0.1"), is_loopback("example.com")
    (False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@lru_cache(maxsize=64)
def is_public_name(host: str) -> bool:
    """Return whether a Host header contains a domain name that anybody could own, not an address or a local name.

    A web page can let its own domain name point to this machine, but it cannot change the name in the header.

    >>> is_public_name("page.example:8080"), is_public_name("10.0.0.1.example.")
    (True, True)
    >>> is_public_name("127.0.0.1:8080"), is_public_name("[::1]:8080"), is_public_name("localhost"), is_public_name("")
    (False, False, False, False)
    >>> is_public_name("host.docker.internal:8080"), is_public_name("model.localhost")
    (False, False)
    """
    name = host.strip().lower()
    if not name.startswith("["):
        name = name.partition(":")[0]
    name = name.rstrip(".")
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." in name and not name.endswith((".localhost", ".internal"))
    return False
