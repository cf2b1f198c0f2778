"""The conversations API: list, get, delete; in the platform's own JSON."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from xuna_middleware.sandbox.paging import page
from xuna_middleware.sandbox.reading import query
from xuna_middleware.sandbox.records import Conversation, Line
from xuna_middleware.sandbox.refusals import RefusalError, refusal
from xuna_middleware.sandbox.workspace import Workspace


def listing(workspace: Workspace, request: Request) -> Response:
    """Answer GET conversations, newest first, of one agent where `agent_id` names it."""
    agent_id = query(request, "agent_id")
    kept = [one for one in workspace.records if agent_id in (None, one.agent_id)]
    shown = page(request, kept[::-1], key=lambda one: one.id)
    return JSONResponse(
        {
            "conversations": [_summary(workspace, one) for one in shown.items],
            **shown.to_dict(),
        }
    )


def show(workspace: Workspace, request: Request) -> Response:
    """Answer GET conversations/{id}."""
    found = workspace.records.get(request.path_params["conversation_id"])
    if found is None:
        raise _unknown()
    return JSONResponse(whole(workspace, found))


def delete(workspace: Workspace, request: Request) -> Response:
    """Answer DELETE conversations/{id}. A running one can't be deleted: it counts."""
    conversation_id = request.path_params["conversation_id"]
    found = workspace.records.get(conversation_id)
    if found is None:
        raise _unknown()
    if found.live:
        raise refusal(400, "conversation_in_progress", "Sandbox: this conversation still runs.")
    workspace.records.remove(conversation_id)
    return JSONResponse({})


def whole(workspace: Workspace, one: Conversation) -> dict[str, Any]:
    """Return all that the platform tells of a conversation, as its JSON has it."""
    return {
        "agent_id": one.agent_id,
        "agent_name": one.agent_name,
        "conversation_id": one.id,
        "status": _status(one),
        "user_id": one.user_id,
        "transcript": [_line(line, one) for line in one.transcript],
        "metadata": _metadata(workspace, one),
        "conversation_initiation_client_data": {"dynamic_variables": dict(one.dynamic_variables)},
        "has_audio": False,
        "has_user_audio": False,
        "has_response_audio": False,
        "has_auxiliary_audio": False,
    }


def _summary(workspace: Workspace, one: Conversation) -> dict[str, Any]:
    return {
        "agent_id": one.agent_id,
        "agent_name": one.agent_name,
        "conversation_id": one.id,
        "start_time_unix_secs": int(one.started_at),
        "call_duration_secs": _seconds(workspace, one),
        "message_count": len(one.transcript),
        "status": _status(one),
        "call_successful": "failure" if one.error else "unknown" if one.live else "success",
    }


def _metadata(workspace: Workspace, one: Conversation) -> dict[str, Any]:
    failed = {"code": one.close_code or 1008, "reason": one.error}
    return {
        "start_time_unix_secs": int(one.started_at),
        "call_duration_secs": _seconds(workspace, one),
        "termination_reason": one.error or one.close_reason,
        "authorization_method": {"token": "livekit_token"}.get(one.admitted_by, one.admitted_by),
        "error": failed if one.error else None,
        "text_only": True,
    }


def _line(line: Line, one: Conversation) -> dict[str, Any]:
    since = int(line.time - one.started_at)
    return {"role": line.role, "message": line.text, "time_in_call_secs": since}


def _status(one: Conversation) -> str:
    return "in-progress" if one.live else "failed" if one.error else "done"


def _seconds(workspace: Workspace, one: Conversation) -> int:
    return int((workspace.clock() if one.ended_at is None else one.ended_at) - one.started_at)


def _unknown() -> RefusalError:
    return refusal(404, "conversation_not_found", "Sandbox: no conversation with this id.")
