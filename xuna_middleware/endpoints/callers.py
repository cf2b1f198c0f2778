"""Find out who sent a request, and whether another site's page made their browser send it."""

from starlette.datastructures import Headers
from starlette.types import Scope

from xuna_middleware.endpoints.core import Core
from xuna_middleware.endpoints.lifecycle import start
from xuna_middleware.errors import GateError, NotAuthenticatedError
from xuna_middleware.identity.authentication import Caller
from xuna_middleware.web.refusals import Attempt
from xuna_middleware.web.requests import check_header_size


async def identify(
    core: Core, scope: Scope, *, base: str | None = None, nobody: GateError | None = None
) -> Caller:
    """Return the caller of a scope outside the gate's own routes; visitors are refused.

    `base` is the public address of the app that serves the scope: see `ProofContext`. `nobody` is
    raised instead of a NotAuthenticatedError.

    Raises:
        GateError: the refusal, as reported.
    """
    start(core)
    with core.refusals.reporting(Attempt()):
        check_header_size(scope)
        try:
            return await authenticate(core, scope, base=base)
        except NotAuthenticatedError as error:
            raise nobody or error from None


async def authenticate(
    core: Core, scope: Scope, *, base: str | None = None, visitors: bool = False
) -> Caller:
    """Return the caller of a scope and how they proved it. With `visitors`, a caller without
    credentials is a visitor, if any agent is anonymous.

    Raises:
        GateError: the credentials prove nobody, or another site's page sent the request.
    """
    caller = await _caller(core, scope, base, visitors)
    if caller.ambient and scope["type"] == "websocket":
        core.origins.check_websocket(Headers(scope=scope))
    if caller.ticket is not None:
        core.origins.check_ticket(Headers(scope=scope), caller.ticket.origin)
    core.authentication.note_proof(scope, caller)
    if core.events.has_listeners:
        core.pipeline.emit("verified", caller.identity)
    return caller


async def _caller(core: Core, scope: Scope, base: str | None, visitors: bool) -> Caller:
    admission = core.admission
    try:
        caller = await core.authentication.authenticate(scope, base)
        if caller.identity.is_anonymous and not visitors:  # by a ticket, which is now used up
            raise NotAuthenticatedError(cause="ticket: a visitor's, where none is let in")
    except NotAuthenticatedError:
        # The verifier alone judges an Authorization header; a bad one makes nobody a visitor.
        if admission is None or not visitors or "authorization" in Headers(scope=scope):
            raise
        visit = admission.visit(scope)
        return Caller(visit.identity, True, "visitor", visit=visit)
    if admission is None:
        return caller
    return caller._replace(visit=admission.known(scope))
