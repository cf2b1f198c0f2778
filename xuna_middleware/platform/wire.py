"""Personalization in its two spellings: the platform's, and that of a client's `startSession`.

What travels through a client can be read and changed by it. So a prompt, a model and a `secret__`
variable never go that way, and neither does what the JS client would drop without a word: it
builds its first frame from the paths of `CARRIED` alone (`@elevenlabs/client` 1.25, the client of
the API whose shape XUNA AI's has).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from xuna_middleware.access.grants import Personalization, Transport
from xuna_middleware.errors import ConfigurationError

#: Platform path → path in the `overrides` of `startSession`.
CARRIED: Final[Mapping[str, str]] = {
    "agent.first_message": "agent.firstMessage",
    "agent.language": "agent.language",
    "tts.voice_id": "tts.voiceId",
    "tts.stability": "tts.stability",
    "tts.speed": "tts.speed",
    "tts.similarity_boost": "tts.similarityBoost",
    "conversation.text_only": "conversation.textOnly",
}

#: Reaches tool headers only, never the model (the ElevenLabs API's rule).
_TOOLS_ONLY: Final = "secret__"


def not_for_clients(dynamic_variables: Iterable[str], overrides: Iterable[str]) -> tuple[str, ...]:
    """Return, sorted, the names of variables and the paths of overrides that no client may carry.

    Takes names, so a mapping will do.
    """
    secret = {name for name in dynamic_variables if name.lower().startswith(_TOOLS_ONLY)}
    return tuple(sorted(secret | {path for path in overrides if path not in CARRIED}))


def check_carriable(
    agent: str,
    *,
    transports: Iterable[Transport],
    dynamic_variables: Iterable[str] = (),
    overrides: Iterable[str] = (),
) -> None:
    """Refuse an agent that would have a client carry what it must not.

    Args:
        agent: the configured name, for the message.
        transports: those of the agent's for which `XunaPlatform.client_carries()` is True.
        dynamic_variables, overrides: names, as far as they are known when the gate is built.

    Raises:
        ConfigurationError: something doesn't fit; the text names it, and the relay.
    """
    carried_over = sorted(transports)
    names = not_for_clients(dynamic_variables, overrides)
    if carried_over and names:
        raise ConfigurationError(
            f'agent "{agent}": {", ".join(names)}: over {" and ".join(carried_over)} the client '
            "would have to carry this, which may not or cannot; use the relay "
            '(transports=("relay",)), or transports=("webrtc",) with XunaPlatform('
            'personalization="body"), which attaches it when the token is made'
        )


def for_platform(personalization: Personalization) -> dict[str, Any]:
    """Return what the platform takes when a token is made, without members that would be empty.

    `{"dynamic_variables": {…}, "conversation_config_override": {"agent": {"first_message": …}}}`
    """
    return _without_empty(
        dynamic_variables=dict(personalization.dynamic_variables),
        conversation_config_override=_nested(personalization.overrides),
    )


def for_client(personalization: Personalization) -> dict[str, Any]:
    """Return what `startSession` takes. Only after `not_for_clients` found nothing.

    `{"dynamicVariables": {…}, "overrides": {"agent": {"firstMessage": …}}}`
    """
    respelt = {CARRIED[path]: value for path, value in personalization.overrides.items()}
    return _without_empty(
        dynamicVariables=dict(personalization.dynamic_variables), overrides=_nested(respelt)
    )


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *branches, leaf = path.split(".")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        node[leaf] = value
    return tree


def _without_empty(**members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}
