"""The two kinds of credentials that XUNA AI issues."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedUrl:
    """A signed WebSocket URL: single-use, short-lived, opaque. Its repr masks it.

    Attributes:
        agent: the configured name.
        conversation_id: if the platform returned one.
        start_by: seconds since the epoch by which the conversation must have started; None if
            unknown.
        session: the options for `startSession` of the JS client in addition to the URL, in its
            spelling; None if the client has to carry nothing.
    """

    transport: ClassVar[Literal["websocket"]] = "websocket"
    url: str = field(repr=False)
    agent: str
    conversation_id: str | None = None
    start_by: float | None = None
    session: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON of the `/get-signed-url` route."""
        return _without_none(
            signed_url=self.url,
            transport=self.transport,
            agent=self.agent,
            conversation_id=self.conversation_id,
            start_by=self.start_by,
            session=self.session,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationToken:
    """A conversation token for WebRTC: short-lived, opaque. Its repr masks it.

    `agent`, `conversation_id` and `session` are as in `SignedUrl`.
    """

    transport: ClassVar[Literal["webrtc"]] = "webrtc"
    token: str = field(repr=False)
    agent: str
    conversation_id: str | None = None
    session: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON of the `/conversation-token` route."""
        return _without_none(
            token=self.token,
            transport=self.transport,
            agent=self.agent,
            conversation_id=self.conversation_id,
            session=self.session,
        )


def _without_none(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
