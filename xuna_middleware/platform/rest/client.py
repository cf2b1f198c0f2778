"""XunaPlatform: exchange a grant for a signed URL or a conversation token."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from xuna_middleware._core.http import Outbound, OutboundError, Reply
from xuna_middleware._core.strict_json import read_aside
from xuna_middleware.access.grants import Grant, Personalization, Transport
from xuna_middleware.errors import ConfigurationError, UnavailableError
from xuna_middleware.platform import wire as sessions
from xuna_middleware.platform.connect import check_installed, open_line
from xuna_middleware.platform.issued import ConversationToken, SignedUrl
from xuna_middleware.platform.protocol import PlatformConnection
from xuna_middleware.platform.records import (
    MAX_BYTES,
    ConversationRecord,
    ask_conversation,
    read_conversation,
)
from xuna_middleware.platform.rest import errors as refusals
from xuna_middleware.platform.rest import requests as questions
from xuna_middleware.platform.rest import responses as answers
from xuna_middleware.platform.rest import retry as attempts
from xuna_middleware.platform.rest import urls as addresses
from xuna_middleware.platform.rest.requests import ApiRequest, PersonalizationMode
from xuna_middleware.platform.secrets import Secret

if TYPE_CHECKING:
    import httpx

_KEY_VARIABLE: Final = "XUNA_AI_API_KEY"
_BASE_VARIABLE: Final = "XUNA_AI_BASE_URL"
_BASE_URL: Final = "https://api.xuna.ai"

_WITH_ID: Final = {"include_conversation_id": "true"}

#: Connections in each event loop: as many as the gate sends requests at once (for visitors, for
#: callers, to settle), so that no request loses time waiting for a connection.
CONNECTIONS: Final = 20
#: Seconds: to connect, and in total from the first attempt to the last byte.
_CONNECT: Final = 2.0
_TOTAL: Final = 10.0
#: Seconds: for a request whose answer nobody needs.
_SHORT: Final = 3.0
_MAX_BYTES: Final = 64 * 1024
#: Seconds: a week, the longest `start_within`; `start_by`, a sum of two times, stays exact.
_LONGEST: Final = 604_800


class Platform(Protocol):
    """Define the methods that the gate calls on a platform, such as `XunaPlatform`."""

    async def issue(self, grant: Grant) -> SignedUrl | ConversationToken:
        """Return a fresh credential for this grant, or raise PlatformError or UnavailableError."""

    def check(self) -> None:
        """Raise ConfigurationError if a missing setting prevents issuing credentials."""

    def client_carries(self, transport: Transport) -> bool:
        """Return whether personalization travels through the client."""

    async def connect(self, signed: SignedUrl, *, max_frame: int) -> PlatformConnection:
        """Open the conversation behind a signed URL, for the relay. `max_frame` is in bytes.

        Raises PlatformError if the platform doesn't open it.
        """

    def check_relay(self) -> None:
        """Raise ConfigurationError if the relay can't carry conversations."""

    async def get_conversation(self, conversation_id: str) -> ConversationRecord | None:
        """Return how long an ended conversation lasted; None if it is running or unknown."""

    async def aclose(self) -> None:
        """Close open connections."""


class XunaPlatform:
    """Issue XUNA AI credentials over one long-lived client, from any event loop.

    One call takes at most 10 s (2 s to connect), including a second attempt after a failed
    connection, a 502, 503 or 504; that attempt waits for Retry-After, if it fits. Redirects are
    not followed. The API key travels in the header `xi-api-key` and is shown nowhere.

    Args:
        api_key: None reads `XUNA_AI_API_KEY` when `check()` or the first `issue()` needs it.
        base_url: None reads `XUNA_AI_BASE_URL` in the same way, else it is https://api.xuna.ai.
            https, or http for loopback.
        http_transport: an `httpx.AsyncBaseTransport` instead of the network; `aclose()` closes it.
            With it, the proxy environment variables are ignored, also by the relay.
        personalization: how dynamic variables and overrides reach the platform when it issues a
            conversation token. XUNA AI documents that they do, but not how:

            - `"body"`, the default: a POST with a JSON body. If the platform accepts only the
              documented GET, the answer is a 502 `personalization_unsupported`, whose cause names
              the other two ways; the gate never tries them automatically.
            - `"query"`: JSON-encoded parameters of the GET. They are in the URL, so proxies and the
              platform may log them.
            - `"client"`: given to the client in `session`, for `startSession`. The client can
              read and change them.

            With a signed URL they always travel in `session`: no server can attach them there.
        livekit_url: the platform's LiveKit server, wss (ws for loopback), returned with every token
            as `session["livekitUrl"]`. XUNA AI documents none, and without it a client made for the
            ElevenLabs API connects to that API's host.
        signed_url_hosts: hosts to which a signed URL may lead, in addition to that of `base_url`.
        include_conversation_id: ask for the conversation's id with every signed URL, not only if a
            limit counts conversations or their time. A parameter of the ElevenLabs API that XUNA AI
            doesn't document (nor the next two); otherwise left out.
        branch_id, environment: parameters of the ElevenLabs API for both credentials, always in the
            query.
        start_within: seconds in which a conversation must start with a signed URL, for
            `SignedUrl.start_by`, counted from the request. 15 minutes is the ElevenLabs API's
            figure; XUNA AI says only that the URL expires quickly. None leaves `start_by` out.
        clock: seconds since the epoch.

    Checks: the status and size of an answer, that it is a strict JSON object, that a signed URL is
    wss (ws if `base_url` is loopback) without userinfo and leads to a known host, that a token is
    printable ASCII.
    Does not check: the signed content of either, or whether the platform applied the
    personalization.

    Raises:
        ConfigurationError: an option is not as described; the text says how to write it.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        personalization: PersonalizationMode = "body",
        livekit_url: str | None = None,
        signed_url_hosts: Iterable[str] = (),
        include_conversation_id: bool = False,
        branch_id: str | None = None,
        environment: str | None = None,
        start_within: float | None = 900.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = None if api_key is None else Secret(api_key)
        del api_key  # so that no traceback through here can show it
        if self._key is not None:
            self._key.check("api_key")
        self._base = None if base_url is None else addresses.base_url(base_url, "base_url")
        self._livekit_url = None if livekit_url is None else addresses.livekit_url(livekit_url)
        self._hosts = addresses.host_names(signed_url_hosts)
        self._way: PersonalizationMode = _way(personalization)
        self._start_within = _duration(start_within)
        self._token_options = _options(branch_id=branch_id, environment=environment)
        self._url_options = {**self._token_options, **_flag(include_conversation_id)}
        self._clock = _function(clock)
        self._outbound = Outbound(http_transport=_sender(http_transport), connections=CONNECTIONS)
        self._heeds_proxies = http_transport is None
        self._found: tuple[Secret, addresses.BaseUrl] | None = None

    def moved(
        self,
        *,
        api_key: str,
        base_url: str,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> Self:
        """Return a copy for another address, such as a sandbox; all other options stay."""
        elsewhere = copy(self)
        elsewhere._key = key = Secret(api_key)
        del api_key
        key.check("api_key")
        elsewhere._base = addresses.base_url(base_url, "base_url")
        elsewhere._outbound = Outbound(
            http_transport=_sender(http_transport), connections=CONNECTIONS
        )
        elsewhere._heeds_proxies = http_transport is None
        elsewhere._found = None
        return elsewhere

    @property
    def start_within(self) -> float | None:
        """Seconds in which a conversation must start with a signed URL; None if unknown."""
        return self._start_within

    def check(self) -> None:
        """Find the key and the base URL, in the environment if they weren't given.

        Raises:
            ConfigurationError: there is no key, or one of the two variables is not usable.
        """
        self._settings()

    def client_carries(self, transport: Transport) -> bool:
        """Return whether personalization goes through the client, which can read and change it."""
        return transport == "websocket" or (transport == "webrtc" and self._way == "client")

    async def issue(self, grant: Grant) -> SignedUrl | ConversationToken:
        """Return a fresh credential for this grant. It is never cached or shared.

        Raises:
            PlatformError: 502 or 504, XUNA AI issued none; `cause` says why.
            UnavailableError: XUNA AI is busy (429), or the client would have to carry something
                that no client may.
            ConfigurationError: there is no API key.
        """
        session = self._session(grant)
        if grant.transport == "webrtc":
            return await self._issue_token(grant, session)
        return await self._issue_signed_url(grant, session)

    async def connect(self, signed: SignedUrl, *, max_frame: int) -> PlatformConnection:
        """Open the conversation behind a signed URL: its WebSocket, with sub-protocol `convai`.

        Redirects are not followed, and nothing is compressed. HTTPS_PROXY is honoured,
        unless the user's `http_transport` replaces the network.

        Raises:
            PlatformError: 502 or 504, XUNA AI doesn't open it.
            ConfigurationError: the extra `relay` is not installed.
        """
        return await open_line(signed.url, max_frame=max_frame, heeds_proxies=self._heeds_proxies)

    def check_relay(self) -> None:
        """Check that the relay can carry conversations.

        Raises:
            ConfigurationError: the extra `relay` is not installed.
        """
        check_installed()

    async def get_conversation(self, conversation_id: str) -> ConversationRecord | None:
        """Ask XUNA AI whether a conversation is over, and how long it lasted.

        None if it is running, or if the answer is unclear or missing: none of these proves that
        reserved time was unused. One attempt.

        Raises:
            ConfigurationError: there is no API key.
        """
        question = ask_conversation(conversation_id)
        try:
            reply = await self._once(question, _SHORT, MAX_BYTES)
        except OutboundError:
            return None
        return await read_aside(partial(read_conversation, reply.status), reply.body)

    async def aclose(self) -> None:
        """Close the running event loop's connections and forget the environment's settings."""
        self._found = None
        await self._outbound.aclose()

    async def _issue_signed_url(self, grant: Grant, session: Mapping[str, Any] | None) -> SignedUrl:
        wanted = _WITH_ID if grant.is_metered else {}
        question = questions.ask_signed_url(grant.agent_id, {**self._url_options, **wanted})
        asked_at = self._clock()
        _, base = self._settings()
        check = partial(addresses.flaw_in_signed_url, base=base, further_hosts=self._hosts)
        answer = await self._ask(question, "signed_url", check)
        return SignedUrl(
            url=answer.credential,
            agent=grant.agent,
            conversation_id=answer.conversation_id,
            start_by=None if self._start_within is None else asked_at + self._start_within,
            session=session,
        )

    async def _issue_token(
        self, grant: Grant, session: Mapping[str, Any] | None
    ) -> ConversationToken:
        question = questions.ask_token(
            grant.agent_id, self._token_options, grant.personalization, self._way
        )
        answer = await self._ask(question, "token", answers.flaw_in_token)
        return ConversationToken(
            token=answer.credential,
            agent=grant.agent,
            conversation_id=answer.conversation_id,
            session=session,
        )

    async def _ask(
        self, question: ApiRequest, member: str, check: answers.Check
    ) -> answers.ApiResponse:
        outcome = await attempts.send(
            partial(self._once, question), seconds=_TOTAL, clock=self._clock
        )
        if isinstance(outcome, OutboundError):
            raise refusals.no_answer(outcome)
        refused = refusals.refusal(outcome, question, self._clock())
        if refused is not None:
            raise refused
        answer = answers.read_answer(outcome.status, outcome.body, member, check)
        if isinstance(answer, answers.Invalid):
            raise refusals.nonsense(answer.reason)
        return answer

    async def _once(
        self, question: ApiRequest, seconds: float, max_bytes: int = _MAX_BYTES
    ) -> Reply:
        key, base = self._settings()
        return await self._outbound.request(
            question.method,
            base.address + question.path,
            headers={"xi-api-key": key, "Accept": "application/json"},
            params=question.params,
            json=question.json,
            max_bytes=max_bytes,
            timeout=seconds,
            connect_timeout=_CONNECT,
        )

    def _session(self, grant: Grant) -> dict[str, Any] | None:
        """Return the data that the client has to carry, in its spelling; None if there is none."""
        session: dict[str, Any] = {}
        if self.client_carries(grant.transport):
            personal = grant.personalization
            _check_carried(grant.agent, personal)
            session = sessions.for_client(personal)
        if grant.transport == "webrtc" and self._livekit_url is not None:
            session["livekitUrl"] = self._livekit_url
        return session or None

    def _settings(self) -> tuple[Secret, addresses.BaseUrl]:
        # Cached, so that a process may remove its key from the environment after the start.
        if self._found is None:
            self._found = (self._key or _key_from_environment(), self._base or _base_url())
        return self._found


def _key_from_environment() -> Secret:
    if not os.environ.get(_KEY_VARIABLE):
        raise ConfigurationError(
            f"no API key: set the environment variable {_KEY_VARIABLE}, or pass XunaPlatform(…)"
        )
    key = Secret(os.environ[_KEY_VARIABLE])
    key.check(_KEY_VARIABLE)
    return key


def _base_url() -> addresses.BaseUrl:
    address = os.environ.get(_BASE_VARIABLE)
    return addresses.base_url(address or _BASE_URL, _BASE_VARIABLE)


def _check_carried(agent: str, personal: Personalization) -> None:
    names = sessions.not_for_clients(personal.dynamic_variables, personal.overrides)
    if names:
        raise UnavailableError(
            cause=f'relay: agent "{agent}": {", ".join(names)}: the client would have to carry '
            "this, which may not or cannot; the relay, or a token with "
            'XunaPlatform(personalization="body"), attaches it on the server\'s side'
        )


def _way(value: PersonalizationMode) -> PersonalizationMode:
    if value not in questions.WAYS:
        raise ConfigurationError('personalization: "body", "query" or "client"')
    return value


def _duration(seconds: float | None) -> float | None:
    # Not `isinstance`: True is an int, and would be one second.
    if seconds is None or (type(seconds) in (int, float) and 0 < seconds <= _LONGEST):
        return seconds
    raise ConfigurationError("start_within: seconds, up to a week, or None")


def _flag(include_conversation_id: bool) -> Mapping[str, str]:
    if type(include_conversation_id) is not bool:
        raise ConfigurationError("include_conversation_id: True or False")
    return _WITH_ID if include_conversation_id else {}


def _function(clock: Callable[[], float]) -> Callable[[], float]:
    if not callable(clock):
        raise ConfigurationError("clock: a function such as time.time")
    return clock


def _sender(transport: "httpx.AsyncBaseTransport | None") -> "httpx.AsyncBaseTransport | None":
    # Recognized by its method, since only `_core/http.py` imports httpx.
    sends = getattr(transport, "handle_async_request", None)
    if transport is not None and (isinstance(transport, type) or not callable(sends)):
        raise ConfigurationError(
            "transport: an httpx.AsyncBaseTransport, such as httpx.AsyncHTTPTransport(), or None"
        )
    return transport


def _options(**values: object) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, str) and value and value.isprintable():
            options[name] = value
        elif value is not None:
            raise ConfigurationError(f"{name}: a printable text that is not empty, or None")
    return options
