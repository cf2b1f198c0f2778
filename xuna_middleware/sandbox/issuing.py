"""The two REST calls that hand out passes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from xuna_middleware.sandbox.agents import Scalar, flatten
from xuna_middleware.sandbox.reading import (
    checked,
    flag,
    json_object,
    json_query,
    query,
    required_query,
    scalars,
)
from xuna_middleware.sandbox.refusals import invalid
from xuna_middleware.sandbox.workspace import Workspace

_FIELDS = ("dynamic_variables", "conversation_config_override")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """Hold what a conversation token is asked for with; overrides by path."""

    agent_id: str
    participant: str | None
    dynamic_variables: Mapping[str, Scalar]
    overrides: Mapping[str, Any]


def signed_url(workspace: Workspace, request: Request, base_url: str | None) -> Response:
    """Answer GET get-signed-url. `branch_id`, `environment` and others are taken and do nothing."""
    agent = workspace.agent(required_query(request, "agent_id"))
    tell = flag(request, "include_conversation_id")
    workspace.check_capacity(agent)
    issued, signature = workspace.passes.sign(agent.id)
    pair = urlencode({"agent_id": agent.id, "conversation_signature": signature})
    answer = {"signed_url": f"{_websocket_url(request, base_url)}?{pair}"}
    return JSONResponse(answer | ({"conversation_id": issued.conversation_id} if tell else {}))


async def token_by_post(workspace: Workspace, request: Request) -> Response:
    """Answer POST token: variables and overrides travel in a JSON body."""
    body = await json_object(request)
    agent_id = body.get("agent_id")
    participant = body.get("participant_name", query(request, "participant_name"))
    if not agent_id:
        raise invalid("body", "agent_id", msg="Field required", kind="missing")
    asked = _asked(
        checked(agent_id, str, "body", "agent_id"),
        None if participant is None else checked(participant, str, "body", "participant_name"),
        *(body.get(name) for name in _FIELDS),
        where="body",
    )
    return _token(workspace, asked)


async def token_by_get(workspace: Workspace, request: Request) -> Response:
    """Answer GET token: variables and overrides, if any, are JSON-encoded parameters."""
    asked = _asked(
        required_query(request, "agent_id"),
        query(request, "participant_name"),
        *(json_query(request, name) for name in _FIELDS),
        where="query",
    )
    return _token(workspace, asked)


def _asked(
    agent_id: str, participant: str | None, variables: Any, overrides: Any, *, where: str
) -> TokenRequest:
    nested = checked({} if overrides is None else overrides, dict, where, _FIELDS[1])
    return TokenRequest(
        agent_id=agent_id,
        participant=participant,
        dynamic_variables=scalars(variables, where, _FIELDS[0]),
        overrides=flatten(nested),
    )


def _token(workspace: Workspace, asked: TokenRequest) -> Response:
    agent = workspace.agent(asked.agent_id)
    workspace.check_capacity(agent)
    issued, token = workspace.passes.token(
        agent.id,
        participant=asked.participant,
        dynamic_variables=asked.dynamic_variables,
        overrides=asked.overrides,
    )
    return JSONResponse({"token": token, "conversation_id": issued.conversation_id})


def _websocket_url(request: Request, base_url: str | None) -> str:
    """Return where clients reach the conversation: below `base_url`, or where this call came in."""
    root = base_url or f"{request.url.scheme}://{request.url.netloc}{_root_path(request)}"
    parts = urlsplit(root)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/v1/convai/conversation"


def _root_path(request: Request) -> str:
    return str(request.scope.get("root_path", ""))
