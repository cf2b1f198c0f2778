"""Values of the access step: a caller's request, and the grant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from xuna_middleware.identity.credentials import Identity

#: How a conversation reaches the platform: over a signed URL, a conversation token, or the gate.
Transport: TypeAlias = Literal["websocket", "webrtc", "relay"]
#: What a dynamic variable may hold.
Scalar: TypeAlias = str | int | float | bool

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Personalization:
    """Hold dynamic variables and overrides; overrides are keyed by platform path.

    `overrides` is flat: `{"agent.first_message": "Hello", "tts.voice_id": "…"}`.
    The repr shows names only, since values are personal data.
    """

    dynamic_variables: Mapping[str, Scalar] = field(default_factory=lambda: _NOTHING)
    overrides: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    def __bool__(self) -> bool:
        return bool(self.dynamic_variables or self.overrides)

    def __repr__(self) -> str:
        return f"Personalization({sorted(self.dynamic_variables)}, {sorted(self.overrides)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Say that this caller may talk to this agent, over this transport, with this personal data.

    Attributes:
        identity: the caller; never sent to the platform.
        agent: the configured name; agent_id: the platform's id for it.
        personalization: the server's and the client's values, already merged.
        rule: the name of the rule that said yes.
        is_metered: a limit counts the conversation or its time, so its id is needed.
    """

    identity: Identity
    agent: str
    agent_id: str
    transport: Transport
    personalization: Personalization
    rule: str
    is_metered: bool = False
