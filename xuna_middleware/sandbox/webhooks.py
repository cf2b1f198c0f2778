"""The post-call webhook, as the platform sends it: signed, and sent again where that fails.

The form is the ElevenLabs API's: `ElevenLabs-Signature: t=<unix>,v0=<hex>`, HMAC-SHA256 over the
time's digits, a dot and the body. Each attempt is signed anew. Whatever becomes of it, the
conversation it is about has ended and nobody waits.
"""

import asyncio
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from xuna_middleware.sandbox.redirects import on_loopback

_HEADER: Final = "ElevenLabs-Signature"
#: Seconds before the second and the third attempt.
_PAUSES: Final = (0.2, 1.0)
_TIMEOUT: Final = 5.0
logger = logging.getLogger("xuna_middleware.sandbox")


class Webhook:
    """Send deliveries to one address. Raises ValueError where that would leave this machine."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        transport: httpx.AsyncBaseTransport | None,
        clock: Callable[[], float],
    ) -> None:
        self._url = _checked(url, in_process=transport is not None)
        self._secret = secret
        self._transport = transport
        self._clock = clock
        self._sending: set[asyncio.Task[None]] = set()

    def begin(self, data: Mapping[str, Any]) -> None:
        """Begin to tell of a conversation that ended, beside all else."""
        said = {
            "type": "post_call_transcription",
            "event_timestamp": int(self._clock()),
            "data": data,
        }
        task = asyncio.get_running_loop().create_task(self._send(json.dumps(said).encode()))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, body: bytes) -> None:
        client = httpx.AsyncClient(transport=self._transport, timeout=_TIMEOUT, trust_env=False)
        async with client:
            for pause in (*_PAUSES, None):
                outcome = await self._attempt(client, body)
                if outcome is None:
                    return
                logger.warning("the webhook was not taken: %s", outcome)
                if pause is not None:
                    await asyncio.sleep(pause)

    async def _attempt(self, client: httpx.AsyncClient, body: bytes) -> str | None:
        """Send it once; say what went wrong, None where nothing did."""
        headers = {_HEADER: self._signature(body), "Content-Type": "application/json"}
        try:
            answer = await client.post(self._url, content=body, headers=headers)
        except httpx.HTTPError as error:
            return type(error).__name__
        return None if answer.is_success else f"status {answer.status_code}"

    def _signature(self, body: bytes) -> str:
        time = int(self._clock())
        signed = b"%d.%s" % (time, body)
        return f"t={time},v0={hmac.digest(self._secret.encode(), signed, 'sha256').hex()}"


def _checked(url: str, *, in_process: bool) -> str:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("webhook_url is where the gate takes webhooks: http://127.0.0.1:…")
    if not in_process and not on_loopback(url):
        raise ValueError("webhook_url: the sandbox stays on this machine, so http and loopback")
    return url
