"""Captchas of external services: Cloudflare Turnstile and hCaptcha.

The page solves it and sends the answer in the header `Xuna-Challenge`. Both services accept the
answer once, at their `siteverify` URL with the site's secret, and respond `{"success": true}`.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from starlette.requests import HTTPConnection

from xuna_middleware._core.http import Outbound, OutboundError
from xuna_middleware._core.strict_json import StrictJSONError, strict_object
from xuna_middleware.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    import httpx

HEADER: Final = "Xuna-Challenge"

_TURNSTILE: Final = "https://challenges.cloudflare.com/turnstile/v0/siteverify"
_HCAPTCHA: Final = "https://api.hcaptcha.com/siteverify"
_LONGEST: Final = 8_192
_DIGITS: Final = 32
_MAX_BYTES: Final = 16_384
_SECONDS: Final = 4.0


class Captcha:
    """Verify a page's answer with a service; made by `turnstile()` and `hcaptcha()`."""

    def __init__(
        self,
        name: str,
        address: str,
        secret: str,
        hostnames: tuple[str, ...],
        http_transport: "httpx.AsyncBaseTransport | None",
    ) -> None:
        if not isinstance(secret, str) or not secret or not secret.isprintable():
            raise ConfigurationError(f"{name} takes the site's secret key, as its console shows it")
        is_list = isinstance(hostnames, list | tuple | set | frozenset)
        if not is_list or not all(isinstance(each, str) and each for each in hostnames):
            raise ConfigurationError(f'{name}: hostnames are names, like ("www.acme.com",)')
        self._name, self._address, self._secret = name, address, secret
        self._hostnames = frozenset(hostnames)
        self._outbound = Outbound(http_transport=http_transport)

    def __repr__(self) -> str:
        return f"{self._name}(…)"

    @property
    def terms(self) -> str:
        """Identifies the captcha by this site's secret and host names, without showing them."""
        said = json.dumps([self._address, self._secret, sorted(self._hostnames)])
        return f"{self._name}({sha256(said.encode()).hexdigest()[:_DIGITS]})"

    def headers(self) -> Mapping[str, str]:
        """Name the service, so that a page knows which widget to show."""
        return {HEADER: self._name}

    def has_answer(self, connection: HTTPConnection) -> bool:
        """Return whether the request carries one answer that may be sent to the service."""
        answers = connection.headers.getlist(HEADER)
        return len(answers) == 1 and 0 < len(answers[0]) <= _LONGEST

    async def verify(self, connection: HTTPConnection) -> bool:
        """Return whether the request's answer is correct. It is sent once, and never logged.

        Raises:
            UnavailableError: the service gives no result.
        """
        if not self.has_answer(connection):
            return False
        told = await self._ask(connection.headers[HEADER])
        return told.get("success") is True and self._is_ours(told.get("hostname"))

    async def aclose(self) -> None:
        """Close the running event loop's connections."""
        await self._outbound.aclose()

    async def _ask(self, answer: str) -> Mapping[str, Any]:
        form = urlencode({"secret": self._secret, "response": answer})
        try:
            reply = await self._outbound.request(
                "POST", self._address, form=form, max_bytes=_MAX_BYTES, timeout=_SECONDS
            )
            return strict_object(reply.body)
        except (OutboundError, StrictJSONError):
            pass
        raise UnavailableError(cause=f"challenge: {self._name} does not answer as documented")

    def _is_ours(self, hostname: Any) -> bool:
        if not self._hostnames:
            return True
        return isinstance(hostname, str) and hostname in self._hostnames


def turnstile(
    secret: str,
    *,
    hostnames: tuple[str, ...] = (),
    http_transport: "httpx.AsyncBaseTransport | None" = None,
) -> Captcha:
    """Challenge visitors with Cloudflare Turnstile.

    Args:
        secret: the site's secret key.
        hostnames: the hosts on which the widget may be solved; empty leaves that to the service.

    *Checks* `success` and the host name. *Does not check* `action` and `cdata`.

    Raises:
        ConfigurationError: the secret is not a text, or `hostnames` are not names.
    """
    return Captcha("turnstile", _TURNSTILE, secret, hostnames, http_transport)


def hcaptcha(
    secret: str,
    *,
    hostnames: tuple[str, ...] = (),
    http_transport: "httpx.AsyncBaseTransport | None" = None,
) -> Captcha:
    """Challenge visitors with hCaptcha; see `turnstile()`."""
    return Captcha("hcaptcha", _HCAPTCHA, secret, hostnames, http_transport)
