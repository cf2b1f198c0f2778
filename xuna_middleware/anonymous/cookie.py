"""Anonymous tokens: signed by the gate, they identify visitors who present no credentials.

An anonymous token names the visitor, and the time until which a captcha counts as passed; nothing
about a person. It is signed (HMAC-SHA256, itsdangerous) and expires; a caller with no valid token
is a new visitor. It is sent in a cookie, and in a header for pages on other sites.
"""

import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import Scope

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.credentials import AnonymousVisitor

HEADER: Final = "Xuna-Visitor"
_COOKIE: Final = "xuna_visitor"

_SALT: Final = b"xuna_middleware.visitor"
_OCTETS: Final = 16
_LONGEST: Final = 256
#: Bytes of all Cookie header fields of a request. Servers and proxies take 8 to 16 KiB by default.
_LONGEST_COOKIES: Final = 16 * 1024
_DIGITS: Final = 16
_MISSING: Final = 'visitors need itsdangerous: pip install "xuna-middleware[visitors]"'


class AnonymousTokens:
    """Sign and read anonymous tokens. Of several secrets the first one signs, all verify.

    A token is valid for `seconds` after its date, and as long before it (clocks differ), at gates
    of the same name: the signature covers `namespace`, see `stores/namespace.py`. A passed captcha
    counts only under the same `terms`, so not for a harder captcha.

    Raises:
        ConfigurationError: itsdangerous is missing.
    """

    def __init__(
        self,
        newest_first: Sequence[str],
        *,
        seconds: int,
        namespace: str = "",
        terms: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signer = _signer(newest_first, namespace, clock)
        self._namespace = namespace
        self._seconds = seconds
        self._terms = sha256(terms.encode()).hexdigest()[:_DIGITS]
        self._clock = clock

    def __repr__(self) -> str:
        return "VisitorTickets()"

    def cookie(self, is_secure: bool) -> str:
        """Return the name of the cookie for these tokens; see `cookie_name()`."""
        return cookie_name(is_secure, self._namespace)

    def read(self, scope: Scope, *, is_secure: bool = True) -> AnonymousVisitor | None:
        """Return the visitor of a request from its token; None without a valid token.

        `is_secure` says that the client connected over TLS: see `cookie_name()`.
        """
        text = presented_ticket(Headers(scope=scope), self.cookie(is_secure))
        if text is None or len(text) > _LONGEST or not text.isascii():
            return None
        return self._read(text)

    def write(self, visit: AnonymousVisitor) -> str:
        """Return the anonymous token of a visit."""
        said = f"{visit.visitor}.{visit.passed_until}-{self._terms}"
        return self._signer.sign(said).decode()  # type: ignore[no-any-return]

    def _read(self, text: str) -> AnonymousVisitor | None:
        from itsdangerous import BadData

        try:
            signed, written = self._signer.unsign(text, return_timestamp=True)
        except BadData:
            return None
        # A date in the future is valid, too: a clock went back, or another worker's is fast.
        if abs(self._clock() - written.timestamp()) > self._seconds:
            return None
        visitor, _, said = signed.decode().rpartition(".")
        passed_until, _, terms = said.partition("-")
        return AnonymousVisitor(
            visitor=visitor, passed_until=int(passed_until) if terms == self._terms else 0
        )


def new_visit() -> AnonymousVisitor:
    """Return a new visitor."""
    return AnonymousVisitor(visitor=secrets.token_urlsafe(_OCTETS), is_new=True)


def passed(visit: AnonymousVisitor, until: float) -> AnonymousVisitor:
    """Return the visit of a visitor who passed a captcha."""
    return replace(visit, passed_until=int(until), is_new=True)


def cookie_name(is_secure: bool, namespace: str = "") -> str:
    """Return the cookie's name. Over TLS it is one that no other host of the domain can set
    (RFC 6265bis section 4.1.3.2); otherwise a page on a neighbouring host could plant a token.
    Gates with different names have different cookie names: a browser keeps one cookie of a name for
    each host, whatever the port, and the gates would overwrite each other's.
    """
    digest = f"_{sha256(namespace.encode()).hexdigest()[:_DIGITS]}" if namespace else ""
    return f"{'__Host-' if is_secure else ''}{_COOKIE}{digest}"


def set_cookie(name: str, token: str, seconds: int, *, is_secure: bool) -> str:
    """Return the value of a Set-Cookie header; 0 seconds remove the cookie."""
    secure = "; Secure" if is_secure else ""
    return f"{name}={token}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Lax{secure}"


def presented_ticket(headers: Headers, cookie: str) -> str | None:
    """Return the presented token; the header, which the page sets itself, takes precedence."""
    sent = headers.getlist(HEADER)
    if sent:
        return sent[0] if len(sent) == 1 else None
    return _cookie(headers.getlist("cookie"), cookie)


def _cookie(headers: Sequence[str], name: str) -> str | None:
    """Return the last value of a cookie, as it was sent; a token needs no quotes. None where the
    header fields have more than 16 KiB: they are not searched.

    Starlette's parser unquotes every cookie, with a Python function that takes seconds for 64 KB of
    backslashes (CVE-2024-7592, before Python 3.12.6).
    """
    if sum(map(len, headers)) > _LONGEST_COOKIES:
        return None
    found = [
        value
        for header in headers
        if f"{name}=" in header
        for value in _pattern(name).findall(header)
    ]
    return found[-1].strip() if found else None


@cache
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?:\A|;)[ \t]*{re.escape(name)}=([^;]*)")


def _signer(newest_first: Sequence[str], namespace: str, clock: Callable[[], float]) -> Any:
    try:
        from itsdangerous import TimestampSigner
    except ImportError:
        raise ConfigurationError(_MISSING) from None

    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(clock())

    salt = _SALT + b":" + namespace.encode()
    return Signer(newest_first[::-1], salt=salt, digest_method=sha256, key_derivation="hmac")
