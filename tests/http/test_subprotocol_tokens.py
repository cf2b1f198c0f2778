"""A WebSocket's token as a sub-protocol, for browsers, which can't set a header on one."""

from typing import Any, Final

import pytest
from starlette.types import Message, Receive, Scope, Send
from support.doubles import (
    DENIAL,
    CountedPlatform,
    bearer,
    exchange,
    make_gate,
    one_response,
    websocket_scope,
)
from support.signing import RSA, good_claims

from xuna_middleware import XunaMiddleware, get_identity

CONNECT: Final[Message] = {"type": "websocket.connect"}


async def speaks(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept with the first sub-protocol that is offered, as many apps do."""
    await receive()
    assert get_identity(scope) is not None
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})


async def opened(offered: list[str], **further: Any) -> list[Message]:
    scope = {**websocket_scope("/talk", extensions=DENIAL, **further), "subprotocols": offered}
    app = XunaMiddleware(speaks, make_gate(CountedPlatform()), protect=["/talk"])
    return await exchange(app, scope, [CONNECT])


@pytest.mark.parametrize("spelling", ["bearer.", "Bearer."])
async def test_token_is_taken_and_never_chosen(spelling: str) -> None:
    """The app sees what else is offered, so the token is in no answer."""
    (accepted,) = await opened([spelling + RSA.token(), "chat"])
    assert accepted == {"type": "websocket.accept", "subprotocol": "chat"}


async def test_without_a_token_nothing_changes() -> None:
    """Other sub-protocols are no credentials."""
    sent = await opened(["chat", "bearer"])
    assert one_response(sent, "websocket.http.response").json()["code"] == "not_authenticated"
    (accepted,) = await opened(["chat"], headers=bearer(RSA.token()))
    assert accepted["subprotocol"] == "chat"


@pytest.mark.parametrize(
    ("offered", "headers"),
    [
        (["bearer." + RSA.token(), "bearer." + RSA.token()], []),
        (["bearer." + RSA.token()], bearer(RSA.token())),
        (["bearer."], []),
        (["bearer.a b"], []),
        (["bearer.ä"], []),
        (["bearer." + "A" * 17_000], []),
    ],
    ids=["two", "beside a header", "empty", "white space", "not ASCII", "too long"],
)
async def test_malformed_is_400(offered: list[str], headers: Any) -> None:
    """One token, of a token's letters, of a bounded length."""
    answer = one_response(await opened(offered, headers=headers), "websocket.http.response")
    assert (answer.status, answer.json()["code"]) == (400, "invalid_request")


async def test_token_among_too_many_sub_protocols() -> None:
    """64 are more than any page offers; without a token the app may see as many as it likes."""
    token = "bearer." + RSA.token()
    (accepted,) = await opened([*["chat"] * 63, token])
    assert accepted["subprotocol"] == "chat"
    answer = one_response(await opened([*["chat"] * 64, token]), "websocket.http.response")
    assert (answer.status, answer.json()["code"]) == (400, "invalid_request")
    (accepted,) = await opened(["chat"] * 1_000, headers=bearer(RSA.token()))
    assert accepted["subprotocol"] == "chat"


async def test_bad_token_is_the_one_401() -> None:
    """A sub-protocol is no weaker way in."""
    token = RSA.token(good_claims(aud="other"))
    answer = one_response(await opened(["bearer." + token]), "websocket.http.response")
    assert (answer.status, answer.json()["code"]) == (401, "invalid_token")
