"""The real SDK of the API whose shape XUNA's has, against the sandbox platform: PyPI `elevenlabs`.

What it accepts, the sandbox gets right; what it refuses, it refuses with its own errors.
"""

import asyncio
import queue
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import pytest
from elevenlabs import AsyncElevenLabs, ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.errors import BadRequestError, UnprocessableEntityError
from websockets.asyncio.client import connect

from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform, serve

with warnings.catch_warnings():
    # Its class for async talk names a type that websockets has deprecated, on import.
    warnings.simplefilter("ignore", DeprecationWarning)
    from elevenlabs.conversational_ai.conversation import (
        AudioInterface,
        Conversation,
        ConversationInitiationData,
        DisconnectionDetails,
    )

AGENT = SandboxAgent(
    "agent_sdk",
    name="Iris",
    first_message="Hello {{user_name}}.",
    allowed_overrides=frozenset({"agent.language"}),
)
PUBLIC = SandboxAgent("agent_open", private=False, first_message="Welcome.")
PATIENCE = 10
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Hold the platform and the two faces of the SDK, as a server of one's own would use them."""

    platform: SandboxPlatform
    url: str
    sync: ElevenLabs
    asynchronous: AsyncElevenLabs


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    platform = SandboxPlatform(agents=[AGENT, PUBLIC])
    async with serve(platform) as url, httpx.AsyncClient(trust_env=False) as client:
        with httpx.Client(trust_env=False) as blocking:
            yield Peers(
                platform=platform,
                url=url,
                sync=sync_client(url, platform.api_key, blocking),
                asynchronous=AsyncElevenLabs(
                    base_url=url, api_key=platform.api_key, httpx_client=client
                ),
            )


def sync_client(url: str, key: str, client: httpx.Client) -> ElevenLabs:
    return ElevenLabs(base_url=url, api_key=key, httpx_client=client)


async def blocking(call: Callable[[], T]) -> T:
    """Run a blocking call beside the loop that serves it."""
    return await asyncio.wait_for(asyncio.to_thread(call), PATIENCE)


async def test_signed_url(peers: Peers) -> None:
    """Both clients get one, and what the platform issued is what they got."""
    talks = peers.sync.conversational_ai.conversations
    first = await blocking(lambda: talks.get_signed_url(agent_id=AGENT.id))
    second = await peers.asynchronous.conversational_ai.conversations.get_signed_url(
        agent_id=AGENT.id, include_conversation_id=True, environment="staging"
    )
    for answer in (first, second):
        assert answer.signed_url.startswith(peers.url.replace("http", "ws"))
    assert getattr(second, "conversation_id", None) == peers.platform.issued[1].conversation_id


async def test_webrtc_token(peers: Peers) -> None:
    """A token of three parts, with its conversation's id."""
    talks = peers.sync.conversational_ai.conversations
    first = await blocking(lambda: talks.get_webrtc_token(agent_id=AGENT.id))
    second = await peers.asynchronous.conversational_ai.conversations.get_webrtc_token(
        agent_id=AGENT.id, participant_name="Ada"
    )
    for answer, issued in zip((first, second), peers.platform.issued, strict=True):
        assert answer.token.count(".") == 2
        assert answer.conversation_id == issued.conversation_id
    assert peers.platform.issued[1].participant == "Ada"


async def test_agents(peers: Peers) -> None:
    """Created, fetched, renamed, listed and deleted, each answer read by the SDK's own models."""
    agents = peers.asynchronous.conversational_ai.agents
    created = await agents.create(
        name="Made", conversation_config={"agent": {"first_message": "Hi {{user_name}}"}}
    )
    shown = await agents.get(created.agent_id)
    renamed = await agents.update(created.agent_id, name="Renamed")
    listed = await agents.list(page_size=2)
    await agents.delete(created.agent_id)
    assert shown.conversation_config.agent is not None
    assert shown.conversation_config.agent.first_message == "Hi {{user_name}}"
    assert shown.platform_settings is not None
    assert shown.platform_settings.auth is not None
    assert shown.platform_settings.auth.enable_auth is True
    assert renamed.name == "Renamed"
    assert [agent.agent_id for agent in listed.agents] == [AGENT.id, PUBLIC.id]
    assert listed.has_more
    assert [agent.id for agent in peers.platform.agents] == [AGENT.id, PUBLIC.id]


async def test_a_wrong_key(peers: Peers) -> None:
    """A 401 with the platform's status, and nothing issued."""
    with httpx.Client(trust_env=False) as client:
        talks = sync_client(peers.url, "wrong", client).conversational_ai.conversations
        with pytest.raises(ApiError) as refused:
            await blocking(lambda: talks.get_signed_url(agent_id=AGENT.id))
    assert refused.value.status_code == 401
    assert refused.value.body["detail"]["status"] == "invalid_api_key"
    assert peers.platform.issued == ()


async def test_an_unknown_agent(peers: Peers) -> None:
    """A 404 with status and message."""
    with pytest.raises(ApiError) as refused:
        await peers.asynchronous.conversational_ai.conversations.get_webrtc_token(
            agent_id="agent_x"
        )
    assert refused.value.status_code == 404
    assert refused.value.body["detail"]["status"] == "agent_not_found"


async def test_bad_input(peers: Peers) -> None:
    """A 422 is the SDK's UnprocessableEntityError, with the list of what is wrong."""
    with pytest.raises(UnprocessableEntityError) as refused:
        await peers.asynchronous.conversational_ai.conversations.get_signed_url(agent_id="")
    assert refused.value.body["detail"][0]["loc"] == ["query", "agent_id"]


class Silence(AudioInterface):
    """An audio device that sends one quarter second of silence, and plays nothing."""

    def start(self, input_callback: Callable[[bytes], None]) -> None:
        input_callback(bytes(8_000))

    def stop(self) -> None: ...

    def output(self, audio: bytes) -> None: ...

    def interrupt(self) -> None: ...


class Call:
    """Hold one conversation of the SDK; it runs in the SDK's own thread."""

    def __init__(self, client: ElevenLabs, agent_id: str, **options: Any) -> None:
        self.heard: queue.Queue[str] = queue.Queue()
        self.over = threading.Event()
        self.details: DisconnectionDetails | None = None
        talk: Any = Conversation(
            client,
            agent_id,
            callback_agent_response=self.heard.put,
            callback_disconnect=self._ended,
            **options,
        )
        talk.start_session()
        self.talk = talk

    def _ended(self, details: DisconnectionDetails) -> None:
        self.details = details
        self.over.set()

    def hear(self) -> str:
        return self.heard.get(timeout=PATIENCE)

    def say(self, text: str) -> str:
        self.talk.send_user_message(text)
        return self.hear()

    def hang_up(self) -> str | None:
        self.talk.end_session()
        conversation_id: str | None = self.talk.wait_for_session_end()
        return conversation_id


async def test_a_text_conversation(peers: Peers) -> None:
    """Two turns over the SDK's WebSocket, on a private agent; both sides tell the same story."""
    config = ConversationInitiationData(
        dynamic_variables={"user_name": "Ada"},
        conversation_config_override={"agent": {"language": "de"}},
    )

    def walk() -> tuple[list[str], str | None]:
        call = Call(peers.sync, AGENT.id, requires_auth=True, config=config, user_id="u-1")
        words = [call.hear(), call.say("Who are you?"), call.say("Tea, please")]
        call.talk.send_contextual_update("is on page 2")
        call.talk.register_user_activity()
        return words, call.hang_up()

    words, conversation_id = await blocking(walk)
    (record,) = peers.platform.conversations
    assert words[0] == "[sandbox] Hello Ada."
    assert "Iris" in words[1]
    assert "Tea, please" in words[2]
    assert (record.id, record.user_id) == (conversation_id, "u-1")
    assert record.overrides == {"agent.language": "de", "text_only": True}
    assert [line.text for line in record.transcript if line.role == "agent"] == words


async def test_a_conversation_with_audio(peers: Peers) -> None:
    """Audio is taken, on a public agent without a key's help, and said not to be heard."""

    def walk() -> list[str]:
        call = Call(peers.sync, PUBLIC.id, requires_auth=False, audio_interface=Silence())
        words = [call.hear(), call.hear()]
        call.hang_up()
        return words

    words = await blocking(walk)
    (record,) = peers.platform.conversations
    assert words[0] == "[sandbox] Welcome."
    assert "nobody here can hear" in words[1]
    assert (record.admitted_by, record.audio_bytes) == ("public", 8_000)


@pytest.mark.parametrize(
    ("variables", "override", "code", "reason"),
    [
        ({}, {}, 1008, "sandbox: missing_dynamic_variable"),
        ({"user_name": "Ada"}, {"tts": {"voice_id": "v"}}, 1008, ""),
    ],
)
async def test_what_the_platform_ends(
    peers: Peers,
    variables: dict[str, str],
    override: dict[str, Any],
    code: int,
    reason: str,
) -> None:
    """A missing variable, and an override that isn't on, reach the SDK as an error's close."""
    config = ConversationInitiationData(
        dynamic_variables=variables, conversation_config_override=override
    )

    def walk() -> DisconnectionDetails | None:
        call = Call(peers.sync, AGENT.id, requires_auth=True, config=config)
        assert call.over.wait(PATIENCE)
        call.talk.wait_for_session_end()
        return call.details

    details = await blocking(walk)
    assert details is not None
    assert (details.reason, details.close_code, details.close_reason) == ("error", code, reason)


async def test_history(peers: Peers) -> None:
    """The SDK's models read what the platform remembers of a conversation."""

    def walk() -> str | None:
        call = Call(peers.sync, PUBLIC.id, requires_auth=False)
        call.hear()
        call.say("Tea")
        return call.hang_up()

    conversation_id = await blocking(walk)
    assert conversation_id is not None
    talks = peers.asynchronous.conversational_ai.conversations
    shown = await talks.get(conversation_id)
    listed = await talks.list(agent_id=PUBLIC.id)
    assert [line.role for line in shown.transcript] == ["agent", "user", "agent"]
    assert shown.metadata.call_duration_secs >= 0
    assert [one.conversation_id for one in listed.conversations] == [conversation_id]


async def test_its_webhooks_are_signed_as_the_sdk_wants() -> None:
    """What the sandbox sends when a conversation ends passes the SDK's check; bent, it doesn't."""
    arrived: asyncio.Queue[httpx.Request] = asyncio.Queue()

    async def take(request: httpx.Request) -> httpx.Response:
        arrived.put_nowait(request)
        return httpx.Response(200)

    platform = SandboxPlatform(
        agents=[PUBLIC],
        webhook_url="https://gate.test/webhooks/post-call",
        webhook_transport=httpx.MockTransport(take),
    )
    async with serve(platform) as url, asyncio.timeout(PATIENCE):
        address = f"{url.replace('http', 'ws', 1)}/v1/convai/conversation?agent_id={PUBLIC.id}"
        async with connect(address, proxy=None) as socket:
            await socket.recv()
        request = await arrived.get()
    body, header = request.content.decode(), request.headers["elevenlabs-signature"]
    check = ElevenLabs(api_key="x").webhooks.construct_event
    event = check(body, header, platform.webhook_secret)
    assert event["data"]["conversation_id"] == platform.conversations[0].id
    for bent in (body + " ", body.replace("agent_open", "agent_sdk")):
        with pytest.raises(BadRequestError):
            check(bent, header, platform.webhook_secret)
