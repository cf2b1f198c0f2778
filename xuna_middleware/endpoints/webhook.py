"""The platform's webhooks: each settles the reservation of its conversation, once.

- A delivery without a valid signature gets a 401: before the body is read if the header alone shows
  it, otherwise before the body is parsed.
- A signed delivery without effect gets a 200: the platform switches off webhooks that fail.
- A delivery first takes effect and is then remembered. If the store is down the answer is 503,
  nothing is remembered, and the platform's next attempt takes effect. Settling again does nothing
  (`Store.settle`), so no order of events settles twice.
- Two deliveries are the same if they have the same type and conversation, whatever their signatures
  and other content.
"""

import hashlib
import logging
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope

from xuna_middleware._core.strict_json import read_aside
from xuna_middleware.endpoints.core import Core
from xuna_middleware.events import Event
from xuna_middleware.platform.rest.responses import Invalid
from xuna_middleware.platform.webhooks import (
    MAX_BYTES,
    Finished,
    read_finished,
)
from xuna_middleware.stores.protocol import Region, Store, StoreError
from xuna_middleware.web.requests import read_raw
from xuna_middleware.web.responses import answer, not_found

logger = logging.getLogger("xuna_middleware")

#: The path to which the platform sends webhooks, relative to the prefix or mount.
WEBHOOK: Final = "/webhooks/post-call"

_RECEIVED: Final = {"received": True}


async def receive_webhook(core: Core, scope: Scope, receive: Receive) -> Response:
    """Answer one delivery.

    Raises:
        InvalidSignatureError: the signature isn't the platform's, or isn't current.
        InvalidRequestError: the body is over 1 MB, compressed or too slow; or there is no webhook.
        UnavailableError: the store is unavailable, or there is no secret.
        ClientDisconnect: the client has gone.
    """
    webhook = core.webhook
    if webhook is None:
        raise not_found()
    signature = webhook.claimed(Headers(scope=scope))
    body = await read_raw(scope, receive, MAX_BYTES)
    webhook.verify(signature, body)
    said = await read_aside(read_finished, body)
    if isinstance(said, Invalid):
        logger.info("a webhook without effect: %s", said.reason)
        _emit(core, said.reason)
    else:
        _emit(core, await _settle(core, said, webhook.remembered), said)
    return answer(_RECEIVED)


async def _settle(core: Core, said: Finished, seconds: float) -> str:
    """Settle a delivery's conversation, remember the delivery, and return the outcome."""
    is_settled = await core.pipeline.settlement.settle(said.conversation_id, said.seconds)
    is_new = await _remember(core.store, said, seconds)
    if is_settled:
        return "settled"
    return "nothing to settle" if is_new else "a duplicate"


async def _remember(store: Store, said: Finished, seconds: float) -> bool:
    """Return whether this is the first such delivery.

    Returns True if the store fails: the conversation is settled already.
    """
    try:
        return await store.put(_key(said.conversation_id), b"", seconds, Region.DELIVERIES)
    except StoreError:
        return True


def _emit(core: Core, cause: str, said: Finished | None = None) -> None:
    core.events.emit(
        Event(
            name="webhook_received",
            time=time.time(),
            conversation_id=said.conversation_id if said else None,
            seconds=said.seconds if said else None,
            cause=cause,
        )
    )


def _key(conversation_id: str) -> str:
    digest = hashlib.sha256(f"post_call_transcription {conversation_id}".encode()).hexdigest()
    return f"webhook:{digest}"
