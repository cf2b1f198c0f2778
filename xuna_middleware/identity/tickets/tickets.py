"""One-time tickets for clients that can't set a header: they keep the identity until it connects.

URLs end up in logs, so a ticket must be worthless once logged: it is 256 random bits, stored by its
hash, for at most a minute, and usable once. It is bound to the identity and the agent that it was
made for, and to the page (`Origin`) that asked. It records who vouched for the identity, since a
gate that shares the store may not trust that source: see `trust.py`.

If the conversation's token needs rechecks, the ticket's record contains that token, sealed with the
ticket itself: the store alone can't open it (`sealing.py`).
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, get_args

from starlette.types import Scope

from xuna_middleware._core.query import MOST, values_of
from xuna_middleware.errors import (
    InvalidRequestError,
    InvalidTokenError,
    UnavailableError,
    trace_of,
)
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.identity.rechecks import HeldToken
from xuna_middleware.identity.tickets.sealing import seal, unseal
from xuna_middleware.stores.protocol import Region, Store, StoreError

SECONDS: Final = 60.0
PREFIX: Final = "xgt_"

#: Who vouched for an identity: a verifier, the gate's authenticator, nobody (a visitor), or the app
#: around the gate, by calling `gate.issue()`.
Voucher: TypeAlias = Literal["verifier", "authenticator", "visitor", "application"]

_VOUCHERS: Final = get_args(Voucher)
_OCTETS: Final = 32
_LENGTH: Final = len(PREFIX) + 43


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Describe a ticket: whose it is, and who vouched for them.

    `origin` is the Origin of the request that made it, or None; `mark` identifies what the gate
    that made it verifies, see `Trust.mark()`. `token` is the caller's token, if it needs rechecks.
    `until` is its expiry, in seconds since the epoch.
    """

    identity: Identity
    agent: str
    origin: str | None
    voucher: Voucher
    mark: str = ""
    token: HeldToken | None = None
    until: float = 0.0


class Tickets:
    """Make tickets, and accept each one once, in any process."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def make(self, ticket: Ticket) -> tuple[str, float]:
        """Return the ticket's text, and for how many seconds it is valid.

        Raises:
            InvalidTokenError: the identity has expired. UnavailableError: it can't be stored now.
        """
        seconds = self._seconds(ticket.identity)
        text = PREFIX + secrets.token_urlsafe(_OCTETS)
        try:
            await self._keep(text, replace(ticket, until=self._clock() + seconds), seconds)
        except StoreError:
            raise UnavailableError(cause="store: a ticket could not be kept") from None
        return text, seconds

    async def take(self, text: str) -> Ticket:
        """Return a ticket and remove it, so that it can't be used again.

        Raises:
            InvalidTokenError: there is no such ticket any more.
            UnavailableError: it can't be looked up.
        """
        if len(text) != _LENGTH:
            raise InvalidTokenError(cause="ticket: malformed")
        try:
            kept = await self._store.take(_key(text))
        except StoreError:
            raise UnavailableError(cause="store: a ticket could not be looked up") from None
        if kept is None:
            raise InvalidTokenError(cause="ticket: unknown, used or too old")
        ticket = _read(kept, text)
        self._seconds(ticket.identity)
        return ticket

    async def put_back(self, text: str, ticket: Ticket) -> None:
        """Store a taken ticket again for its remaining time, since it couldn't be checked."""
        left = min(SECONDS, ticket.until - self._clock())  # `until` may be from another clock
        if left > 0:
            with suppress(StoreError):
                await self._keep(text, ticket, left)

    async def _keep(self, text: str, ticket: Ticket, seconds: float) -> None:
        region = _region(ticket.identity)
        await self._store.put(_key(text), _written(ticket, text), seconds, region)

    def _seconds(self, identity: Identity) -> float:
        if identity.expires_at is None:
            return SECONDS
        left = identity.expires_at - self._clock()
        if left <= 0:
            raise InvalidTokenError(cause="expired: the identity ended before its ticket")
        return min(SECONDS, left)


def ticket_in(scope: Scope) -> str | None:
    """Return the ticket in a WebSocket's query; other values are left to the app.

    Raises:
        InvalidRequestError: there are two.
    """
    query = scope.get("query_string", b"")
    if scope["type"] != "websocket" or b"ticket" not in query:
        return None
    values = values_of(query, "ticket")
    found = [value for value in values if value.startswith(PREFIX)]
    if len(found) > 1 or len(values) > MOST:
        raise InvalidRequestError(cause="ticket: more than one")
    return found[0] if found else None


def _key(text: str) -> str:
    return "ticket:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _region(identity: Identity) -> Region:
    return Region.VISITORS_TICKETS if identity.is_anonymous else Region.TICKETS


def _written(ticket: Ticket, text: str) -> bytes:
    identity = ticket.identity
    members = {
        "subject": identity.subject,
        "issuer": identity.issuer,
        "scopes": sorted(identity.scopes),
        "roles": sorted(identity.roles),
        "claims": identity.claims,
        "client_id": identity.client_id,
        "expires_at": identity.expires_at,
    }
    try:
        record = json.dumps(
            {
                "identity": members,
                "agent": ticket.agent,
                "origin": ticket.origin,
                "voucher": ticket.voucher,
                "mark": ticket.mark,
                "until": ticket.until,
                "token": None if ticket.token is None else seal(text, ticket.token),
            },
            default=_plain,
            allow_nan=False,
        )
    except (TypeError, ValueError) as error:
        raise UnavailableError(
            cause="ticket: the authenticator's claims are not plain JSON values",
            trace=trace_of(error),
        ) from None
    return record.encode()


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a claim is a {type(value).__name__}")


def _read(kept: bytes, text: str) -> Ticket:
    members = json.loads(kept)
    if members.get("voucher") not in _VOUCHERS:
        raise InvalidTokenError(cause="ticket: does not say who vouched; another version made it")
    identity, sealed = Identity(**members["identity"]), members["token"]
    return Ticket(
        identity=identity,
        agent=members["agent"],
        origin=members["origin"],
        voucher=members["voucher"],
        mark=members["mark"],
        until=members.get("until", 0.0),
        token=None if sealed is None else unseal(text, sealed, identity.issuer),
    )
