"""Addresses of endpoints, and what in them is secret.

An address stands in grids, plans and results, which people pass on; so nothing secret may be written into it. Names and
passwords before the host are refused. A value in the query is written `${NAME}` and filled in from the environment
variable NAME when a request is sent; as it stands only where its name is one that selects what is asked (`PLAIN`).
Messages show an address without any value of its query.
"""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from testbed.errors import DataError, UsageError

#: Names of a query's values that may stand in a grid: they say which model or version is asked, not who asks.
PLAIN: Final = frozenset(
    {"alt", "api-version", "api_version", "deployment", "format", "model", "revision", "v", "version"}
)
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def check_address(url: str, who: str) -> None:
    """UsageError where an address is none that can be asked, or holds what is secret; the message never shows that."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise UsageError(f"{who}: url is not an address; expected https://HOST[:PORT]/PATH") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"{who}: url holds a name or password before the host ({shown(url)}); write it without, and name the "
            "environment variable that holds a token with `token_env`"
        )
    if parts.scheme not in ("http", "https") or not host or port == 0 or not _is_written(url):
        raise UsageError(f"{who}: url must start with http:// or https:// and a host, got {shown(url)!r}")
    if parts.fragment:
        raise UsageError(f"{who}: url has a part behind '#', which is never sent; leave it out ({shown(url)})")
    if "${" in _VARIABLE.sub("", url) or _VARIABLE.search(url.partition("?")[0]):
        raise UsageError(f"{who}: url: ${{NAME}}, an environment variable, may be a value behind '?' and nothing else")
    for piece in filter(None, re.split("[&;]", parts.query)):
        name, equals, value = piece.partition("=")
        if equals and value and name.lower() not in PLAIN and not _VARIABLE.fullmatch(value):
            raise UsageError(
                f"{who}: url: the value of {name!r} may be secret and would stand in plan and results; put it into an "
                f"environment variable and write {name}=${{VARIABLE}}, or send it as a token with `token_env`"
            )
        if not equals:
            raise UsageError(f"{who}: url: expected NAME=VALUE behind '?', got a bare word; leave it out")


def _is_written(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url


def filled(url: str) -> str:
    """The address that is asked: every `${NAME}` replaced by that environment variable; DataError if unset."""

    def value(found: re.Match[str]) -> str:
        held = os.environ.get(found.group(1))
        if not held:
            raise DataError(f"{shown(url)}: the environment variable {found.group(1)}, which url names, is not set")
        return quote(held, safe="")

    return _VARIABLE.sub(value, url)


def shown(url: str) -> str:
    """An address for messages: no name, password or fragment, and no value of its query.

    >>> shown("https://me:pw@host:8443/v1?key=abc&version=3")
    'https://host:8443/v1?key=...&version=...'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    pieces = [piece.partition("=") for piece in re.split("[&;]", parts.query) if piece]
    query = "&".join(f"{name}=..." if equals else "..." for name, equals, _ in pieces)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def without_values(text: str, address: str) -> str:
    """A text with every value of an address's query, as it was sent or as it is meant, replaced by dots."""
    raw = [piece.partition("=")[2] for piece in re.split("[&;]", urlsplit(address).query)]
    meant = [value for _, value in parse_qsl(urlsplit(address).query)]
    for value in sorted({*raw, *meant} - {""}, key=len, reverse=True):
        text = text.replace(value, "...") if len(value) > 3 else text
    return text
