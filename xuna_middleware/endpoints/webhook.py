"""What the platform's webhooks do: each settles the reservation of its conversation, once.

- Who may not say anything gets a 401 before the body is read, where its header alone shows that,
  and else before anything in the body is looked at.
- Whatever is signed and has no effect is a 200: the platform switches off webhooks that fail.
- What a delivery does comes first, and that it was there is remembered after that. When the store
  is down the answer is 503, nothing is remembered, and the platform's next attempt has the effect.
  Settling twice does nothing the second time (`Store.settle`), so no order of events does it twice.
- Two deliveries are the same if they are of one type and about one conversation, however they were
  signed and whatever else they say.
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

#: Where the platform sends them, relative to the prefix or mount.
WEBHOOK: Final = "/webhooks/post-call"

_RECEIVED: Final = {"received": True}


async def receive_webhook(core: Core, scope: Scope, receive: Receive) -> Response:
    """Answer one delivery.

    Raises:
        InvalidSignatureError: it isn't the platform's, or not of now.
        InvalidRequestError: the body is over 1 MB, compressed or too slow; or no webhook is set.
        UnavailableError: the store can't be asked, or there is no secret.
        ClientDisconnect: nobody is there to answer.
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
    """Settle what the delivery is about, remember it, and say what became of it."""
    is_settled = await core.pipeline.settlement.settle(said.conversation_id, said.seconds)
    is_new = await _remember(core.store, said, seconds)
    if is_settled:
        return "settled"
    return "nothing to settle" if is_new else "a duplicate"


async def _remember(store: Store, said: Finished, seconds: float) -> bool:
    """Tell whether this is the first such delivery.

    A store that can't say lets it pass for that: what it is about is settled by now.
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
