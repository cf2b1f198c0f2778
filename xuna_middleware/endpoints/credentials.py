"""Hand out credentials and tickets, and carry conversations, for a caller who is known."""

from xuna_middleware.endpoints.core import Core
from xuna_middleware.errors import GateError, InvalidRequestError
from xuna_middleware.issuing.pipeline import (
    IssueRequest,
    authorize_for_ticket,
    issue,
    named_agent,
    resolve_agent,
)
from xuna_middleware.platform.issued import ConversationToken, SignedUrl
from xuna_middleware.relay.client import Client
from xuna_middleware.relay.conversation import issue_relay_url, run_conversation, ticket_of


async def issue_to_app(core: Core, order: IssueRequest) -> SignedUrl | ConversationToken:
    """Issue a credential in a route of the app's.

    Raises:
        GateError: one of the documented answers, as it was reported.
    """
    order.attempt.identity, order.attempt.transport = order.identity, order.transport
    with core.refusals.reporting(order.attempt, GateError):
        return await issue_credential(core, order)


async def issue_credential(core: Core, order: IssueRequest) -> SignedUrl | ConversationToken:
    """Issue a credential: the platform's, or for a relayed agent one that leads to the gate.

    Raises:
        GateError: one of the documented answers.
    """
    pipeline = core.pipeline
    order.attempt.agent = named_agent(pipeline, order)
    if order.transport == "websocket" and resolve_agent(pipeline, order).is_relayed:
        return await issue_relay_url(pipeline, core.relaying, order, _origin_of(order))
    return await issue(pipeline, order)


async def issue_ticket(core: Core, order: IssueRequest, origin: str | None) -> tuple[str, float]:
    """Return a one-time ticket's text and its seconds; `origin` is the page's.

    Raises:
        GateError: one of the documented answers.
    """
    order.attempt.agent = named_agent(core.pipeline, order)
    if order.dynamic_variables is not None or order.overrides is not None:
        raise InvalidRequestError(cause="body: a ticket carries no variables and no overrides")
    agent = await authorize_for_ticket(core.pipeline, order)
    return await core.authentication.make_ticket(ticket_of(order, agent, origin))


async def carry_conversation(core: Core, order: IssueRequest, client: Client) -> None:
    """Carry one conversation to its end.

    Raises:
        GateError: one of the documented answers; the client was not accepted then.
    """
    order.attempt.agent = named_agent(core.pipeline, order)
    await run_conversation(core.pipeline, core.relaying, order, client)


def _origin_of(order: IssueRequest) -> str | None:
    return None if order.connection is None else order.connection.headers.get("origin")
