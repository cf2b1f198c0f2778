"""What left a gate in a test, as values to compare with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from starlette.types import ASGIApp

from xuna_middleware import ConversationToken, Platform, SignedUrl
from xuna_middleware.platform import Grant, PlatformConnection
from xuna_middleware.testing.lines import connect_in_process


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedPass:
    """Tell of one pass that a gate handed out: to whom, for what and with what. Holds no secret
    of its own; the values of variables, which are yours, are left out of the repr.

    Attributes:
        agent: the configured name. agent_id: what the platform was asked for.
        transport: `websocket` (a signed URL) or `webrtc` (a conversation token).
        issuer, subject: who got it. rule: the name of the rule that said yes.
        dynamic_variables: all that travel, the server's and the client's together.
        overrides: likewise, by platform path: `{"agent.language": "de"}`.
        conversation_id: where the platform told one.
    """

    agent: str
    agent_id: str
    transport: Literal["websocket", "webrtc", "relay"]
    issuer: str
    subject: str
    rule: str
    dynamic_variables: Mapping[str, Any] = field(repr=False)
    overrides: Mapping[str, Any] = field(repr=False)
    conversation_id: str | None

    @classmethod
    def of(cls, grant: Grant, credential: SignedUrl | ConversationToken) -> Self:
        """Put together what was granted and what the platform made of it."""
        return cls(
            agent=grant.agent,
            agent_id=grant.agent_id,
            transport=grant.transport,
            issuer=grant.identity.issuer,
            subject=grant.identity.subject,
            rule=grant.rule,
            dynamic_variables=dict(grant.personalization.dynamic_variables),
            overrides=dict(grant.personalization.overrides),
            conversation_id=credential.conversation_id,
        )


class RecordingPlatform:
    """Issue as a platform does, and remember what left.

    Only the grant knows what goes through the client, which the platform never sees.
    """

    def __init__(self, platform: Platform, stage: ASGIApp) -> None:
        self._platform = platform
        self._stage = stage
        self.issued: list[IssuedPass] = []
        self.check = platform.check
        self.client_carries = platform.client_carries
        self.get_conversation = platform.get_conversation
        self.aclose = platform.aclose

    def check_relay(self) -> None:
        """Carry conversations without a library: it all stays in this process."""

    async def connect(self, signed: SignedUrl, *, max_frame: int) -> PlatformConnection:
        """Open the conversation on the local platform."""
        return await connect_in_process(self._stage, signed.url)

    async def issue(self, grant: Grant) -> SignedUrl | ConversationToken:
        """Return the credential, once it is noted."""
        credential = await self._platform.issue(grant)
        self.issued.append(IssuedPass.of(grant, credential))
        return credential
