"""The two passes: signed URLs and conversation tokens. Made here, redeemed here, once each.

A signed URL carries an HMAC over agent, conversation and end of life. A conversation token is a
LiveKit access token in shape: an HS256 JWT whose `video` grants admit to one room, which is named
after the conversation. Both are remembered until they are used, so neither works twice; beyond
10,000 unused ones the oldest is forgotten, which only ever refuses.
"""

import base64
import hashlib
import hmac
import math
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from joserfc import jwt
from joserfc.jwk import OctKey

from xuna_middleware.sandbox.agents import Scalar

SIGNED_URL_LIFE: Final = 15 * 60
TOKEN_LIFE: Final = 10 * 60
MAX_UNUSED: Final = 10_000
_REMEMBERED: Final = 1_000


class PassError(Exception):
    """Say why a pass doesn't open the door; the text tells nothing secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """Tell of one pass that left the platform; holds no part of it.

    Attributes:
        transport: `websocket` (a signed URL) or `webrtc` (a conversation token).
        dynamic_variables, overrides: what was attached at creation; overrides by path.
        issued_at, start_by: seconds since the epoch.
        participant: the identity in a token: `participant_name`, or a random one.
    """

    transport: Literal["websocket", "webrtc"]
    agent_id: str
    conversation_id: str
    issued_at: float
    start_by: float
    dynamic_variables: Mapping[str, Scalar] = field(default_factory=dict, repr=False, hash=False)
    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    participant: str | None = None


class Passes:
    """Make passes and take them back. Everything it keeps has a size."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._token_key = OctKey.import_key(secrets.token_urlsafe(32))
        self._unused: OrderedDict[str, Issued] = OrderedDict()
        self.issued: deque[Issued] = deque(maxlen=_REMEMBERED)

    def sign(self, agent_id: str) -> tuple[Issued, str]:
        """Return what was issued and the signature that goes into the URL."""
        issued = self._new("websocket", agent_id, SIGNED_URL_LIFE)
        self._remember(issued.conversation_id, issued)
        return issued, self._signature(issued)

    def token(
        self,
        agent_id: str,
        *,
        participant: str | None = None,
        dynamic_variables: Mapping[str, Scalar] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> tuple[Issued, str]:
        """Return what was issued and the token that admits to its room."""
        issued = self._new(
            "webrtc",
            agent_id,
            TOKEN_LIFE,
            dynamic_variables=dynamic_variables or {},
            overrides=overrides or {},
            participant=participant or f"user_{secrets.token_hex(8)}",
        )
        token = self._jwt(issued)
        self._remember(_digest(token), issued)
        return issued, token

    def redeem_signature(self, agent_id: str, signature: str) -> Issued:
        """Return what the signature was issued for, and forget it. Raises PassError."""
        key = signature.partition(".")[0]
        expected = self._unused.get(key)
        if expected is None:
            raise PassError("signed URL unknown or used before")
        if not _same(self._signature(expected), signature) or expected.agent_id != agent_id:
            raise PassError("signed URL not genuine")
        return self._redeem(key, "signed URL expired")

    def redeem_token(self, token: str) -> Issued:
        """Return what the token was issued for, and forget it. Raises PassError.

        Only a token that this platform made is known by its digest, so nothing that a stranger
        wrote is ever decoded.
        """
        return self._redeem(self._known(token), "conversation token expired")

    def check_token(self, token: str) -> None:
        """Let a token pass that could be redeemed now, and leave it unused. Raises PassError."""
        self._check_life(self._unused[self._known(token)], "conversation token expired")

    def _redeem(self, key: str, too_late: str) -> Issued:
        issued = self._unused.pop(key)
        self._check_life(issued, too_late)
        return issued

    def _known(self, token: str) -> str:
        key = _digest(token)
        if key not in self._unused:
            raise PassError("conversation token unknown or used before")
        return key

    def _check_life(self, issued: Issued, too_late: str) -> None:
        if self._clock() >= issued.start_by:
            raise PassError(too_late)

    def _new(
        self, transport: Literal["websocket", "webrtc"], agent_id: str, life: int, **attached: Any
    ) -> Issued:
        now = self._clock()
        return Issued(
            transport=transport,
            agent_id=agent_id,
            conversation_id=new_conversation_id(),
            issued_at=now,
            start_by=now + life,
            **attached,
        )

    def _remember(self, key: str, issued: Issued) -> None:
        self._unused[key] = issued
        while len(self._unused) > MAX_UNUSED:
            self._unused.popitem(last=False)
        self.issued.append(issued)

    def _signature(self, issued: Issued) -> str:
        signed = f"{issued.agent_id}\n{issued.conversation_id}\n{issued.start_by}"
        mac = hmac.digest(self._secret, signed.encode(), hashlib.sha256)
        return f"{issued.conversation_id}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    def _jwt(self, issued: Issued) -> str:
        claims = {
            "iss": "xuna-sandbox",
            "sub": issued.participant,
            "name": issued.participant,
            "nbf": math.floor(issued.issued_at),
            "exp": math.ceil(issued.start_by),
            "video": _grants(issued.conversation_id),
        }
        return jwt.encode({"alg": "HS256"}, claims, self._token_key)


def new_conversation_id() -> str:
    """Return a fresh `conv_…` id."""
    return f"conv_{secrets.token_hex(13)}"


def _grants(room: str) -> dict[str, Any]:
    return {
        "room": room,
        "roomJoin": True,
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
    }


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogatepass"))
