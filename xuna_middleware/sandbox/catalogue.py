"""The agents API: create, list, get, patch, delete; in the platform's own JSON."""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from xuna_middleware.sandbox.agents import SandboxAgent, flatten
from xuna_middleware.sandbox.paging import page
from xuna_middleware.sandbox.reading import checked, json_object, query, scalars
from xuna_middleware.sandbox.refusals import invalid
from xuna_middleware.sandbox.workspace import Workspace

_CONFIG = "conversation_config"
_SETTINGS = "platform_settings"
_LONGEST = 24 * 3600
_OWNER = {
    "is_creator": True,
    "creator_name": "XUNA sandbox",
    "creator_email": "sandbox@example.com",
    "role": "admin",
}


async def create(workspace: Workspace, request: Request) -> Response:
    """Answer POST agents. An agent is private unless `platform_settings.auth` says otherwise."""
    blank = SandboxAgent(f"agent_{secrets.token_hex(13)}", first_message="")
    agent = workspace.put(from_json(blank, await json_object(request)))
    return JSONResponse({"agent_id": agent.id})


def listing(workspace: Workspace, request: Request) -> Response:
    """Answer GET agents: newest last, `page_size` and `cursor` as the platform has them."""
    wanted = (query(request, "search") or "").lower()
    agents = [agent for agent in workspace.agents.values() if wanted in agent.name.lower()]
    shown = page(request, agents, key=lambda agent: agent.id)
    return JSONResponse(
        {"agents": [_summary(workspace, agent) for agent in shown.items], **shown.to_dict()}
    )


def show(workspace: Workspace, request: Request) -> Response:
    """Answer GET agents/{id}."""
    agent = workspace.agent(request.path_params["agent_id"])
    return JSONResponse(_whole(workspace, agent))


async def change(workspace: Workspace, request: Request) -> Response:
    """Answer PATCH agents/{id}: what is named changes, the rest stays."""
    agent = workspace.agent(request.path_params["agent_id"])
    changed = workspace.put(from_json(agent, await json_object(request)))
    return JSONResponse(_whole(workspace, changed))


def delete(workspace: Workspace, request: Request) -> Response:
    """Answer DELETE agents/{id}. Running conversations go on; unused passes open nothing."""
    agent = workspace.agent(request.path_params["agent_id"])
    del workspace.agents[agent.id]
    del workspace.created[agent.id]
    return JSONResponse({})


def from_json(agent: SandboxAgent, body: Mapping[str, Any]) -> SandboxAgent:
    """Return the agent with what the body names; other members of the platform's are let pass."""
    told = _told(_config(body) | _settings(body) | {"name": _leaf(body, str, "name")})
    opened = told.pop("overrides", None)
    if opened is not None:
        told["allowed_overrides"] = _switched(agent, opened)
    return replace(agent, **told)


def to_json(agent: SandboxAgent) -> dict[str, Any]:
    """Return the agent as the platform shows it."""
    voice = {"voice_id": agent.voice_id}
    talk = {
        "first_message": agent.first_message,
        "language": agent.language,
        "prompt": {"prompt": agent.prompt},
        "dynamic_variables": {"dynamic_variable_placeholders": dict(agent.default_variables)},
    }
    limits = {"max_duration_seconds": agent.max_duration}
    settings = {
        "auth": {"enable_auth": agent.private},
        "overrides": {"conversation_config_override": _nested(agent.allowed_overrides)},
        "call_limits": {"agent_concurrency_limit": agent.concurrency},
    }
    config = {"agent": talk, "tts": voice, "conversation": limits}
    return {"agent_id": agent.id, "name": agent.name, _CONFIG: config, _SETTINGS: settings}


def _config(body: Mapping[str, Any]) -> dict[str, Any]:
    defaults = ("agent", "dynamic_variables", "dynamic_variable_placeholders")
    given = _leaf(body, dict, _CONFIG, *defaults)
    return {
        "first_message": _leaf(body, str, _CONFIG, "agent", "first_message"),
        "language": _leaf(body, str, _CONFIG, "agent", "language"),
        "prompt": _leaf(body, str, _CONFIG, "agent", "prompt", "prompt"),
        "default_variables": None if given is None else scalars(given, "body", *defaults),
        "voice_id": _leaf(body, str, _CONFIG, "tts", "voice_id"),
        "max_duration": _duration(body),
    }


def _duration(body: Mapping[str, Any]) -> int | None:
    path = (_CONFIG, "conversation", "max_duration_seconds")
    seconds: int | None = _leaf(body, int, *path)
    if seconds is not None and not 1 <= seconds <= _LONGEST:
        raise invalid("body", *path, msg=f"Input should be between 1 and {_LONGEST}")
    return seconds


def _settings(body: Mapping[str, Any]) -> dict[str, Any]:
    overrides = ("overrides", "conversation_config_override")
    return {
        "private": _leaf(body, bool, _SETTINGS, "auth", "enable_auth"),
        "overrides": _leaf(body, dict, _SETTINGS, *overrides),
        "concurrency": _leaf(body, int, _SETTINGS, "call_limits", "agent_concurrency_limit"),
    }


def _switched(agent: SandboxAgent, switches: Mapping[str, Any]) -> frozenset[str]:
    flat = flatten(switches)
    on = {path for path, value in flat.items() if value is True}
    return (agent.allowed_overrides - flat.keys()) | on


def _leaf(body: Mapping[str, Any], kind: type, *path: str) -> Any:
    """Return the member at that path, of that kind; None where the way there ends or holds null."""
    value: Any = body
    for depth, name in enumerate(path):
        value = checked(value, dict, "body", *path[:depth]).get(name)
        if value is None:
            return None
    return checked(value, kind, "body", *path)


def _told(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _nested(paths: frozenset[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        *way, last = path.split(".")
        place = tree
        for name in way:
            place = place.setdefault(name, {})
        place[last] = True
    return tree


def _whole(workspace: Workspace, agent: SandboxAgent) -> dict[str, Any]:
    made = int(workspace.created[agent.id])
    stamps = {"created_at_unix_secs": made, "updated_at_unix_secs": made}
    return {**to_json(agent), "metadata": stamps, "access_info": _OWNER, "tags": ["sandbox"]}


def _summary(workspace: Workspace, agent: SandboxAgent) -> dict[str, Any]:
    made = int(workspace.created[agent.id])
    return {
        "agent_id": agent.id,
        "name": agent.name,
        "voice_id": agent.voice_id,
        "tags": ["sandbox"],
        "created_at_unix_secs": made,
        "updated_at_unix_secs": made,
        "access_info": _OWNER,
    }
