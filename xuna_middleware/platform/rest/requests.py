"""The requests to the platform: one value for each kind of credential. Pure functions.

Ids and names are parameters or JSON members, encoded by the client that sends them, and never part
of a path. The platform doesn't learn who the caller is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from xuna_middleware.access.grants import Personalization
from xuna_middleware.platform.wire import for_platform

#: How personalization reaches the platform when a token is made; see `XunaPlatform`.
PersonalizationMode: TypeAlias = Literal["body", "query", "client"]
WAYS: Final = ("body", "query", "client")

_SIGNED_URL: Final = "/v1/convai/conversation/get-signed-url"
_TOKEN: Final = "/v1/convai/conversation/token"  # noqa: S105  (a path)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One request to the platform. Its repr leaves out possible personal data.

    `way` is how the request carries personalization; None if it carries none.
    """

    method: Literal["GET", "POST"]
    path: str
    params: Mapping[str, str] = field(repr=False)
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    way: PersonalizationMode | None = None


def ask_signed_url(agent_id: str, options: Mapping[str, str]) -> ApiRequest:
    """Return the request for a signed URL. `options` are further query parameters."""
    return ApiRequest(method="GET", path=_SIGNED_URL, params={**options, "agent_id": agent_id})


def ask_token(
    agent_id: str,
    options: Mapping[str, str],
    personalization: Personalization,
    way: PersonalizationMode,
) -> ApiRequest:
    """Return the request for a token, with the personalization unless the client carries it."""
    personal = for_platform(personalization)
    plain = {**options, "agent_id": agent_id}
    if not personal or way == "client":
        return ApiRequest(method="GET", path=_TOKEN, params=plain)
    if way == "query":
        encoded = {name: _compact(value) for name, value in personal.items()}
        return ApiRequest(method="GET", path=_TOKEN, params={**plain, **encoded}, way=way)
    body = {"agent_id": agent_id, **personal}
    return ApiRequest(method="POST", path=_TOKEN, params=options, json=body, way=way)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
