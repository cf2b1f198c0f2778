"""Issue credentials and tickets, and carry conversations, for a known caller."""

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


async def issue_to_app(core: Core, request: IssueRequest) -> SignedUrl | ConversationToken:
    """Issue a credential in a route of the app.

    Raises:
        GateError: one of the documented answers, as reported.
    """
    request.attempt.identity, request.attempt.transport = request.identity, request.transport
    with core.refusals.reporting(request.attempt, GateError):
        return await issue_credential(core, request)


async def issue_credential(core: Core, request: IssueRequest) -> SignedUrl | ConversationToken:
    """Issue a credential: the platform's, or one that leads to the gate for a relayed agent.

    Raises:
        GateError: one of the documented answers.
    """
    pipeline = core.pipeline
    request.attempt.agent = named_agent(pipeline, request)
    if request.transport == "websocket" and resolve_agent(pipeline, request).is_relayed:
        return await issue_relay_url(pipeline, core.relay_context, request, _origin_of(request))
    return await issue(pipeline, request)


async def issue_ticket(core: Core, request: IssueRequest, origin: str | None) -> tuple[str, float]:
    """Return a one-time ticket and its lifetime in seconds; `origin` is the page's.

    Raises:
        GateError: one of the documented answers.
    """
    request.attempt.agent = named_agent(core.pipeline, request)
    if request.dynamic_variables is not None or request.overrides is not None:
        raise InvalidRequestError(cause="body: a ticket carries no variables and no overrides")
    agent = await authorize_for_ticket(core.pipeline, request)
    return await core.authentication.make_ticket(ticket_of(request, agent, origin))


async def carry_conversation(core: Core, request: IssueRequest, client: Client) -> None:
    """Carry one conversation to its end.

    Raises:
        GateError: one of the documented answers; the client was not accepted.
    """
    request.attempt.agent = named_agent(core.pipeline, request)
    await run_conversation(core.pipeline, core.relay_context, request, client)


def _origin_of(request: IssueRequest) -> str | None:
    return None if request.connection is None else request.connection.headers.get("origin")
