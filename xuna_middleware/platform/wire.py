"""Personalization in its two spellings: the platform's, and that of a client's `startSession`.

A client can read and change any personalization that it carries. So a prompt, a model and a
`secret__` variable never go that way, nor do values that the JS client would drop silently: it
builds its first frame only from the paths of `CARRIED` (`@elevenlabs/client` 1.25, the client of
the API that XUNA AI's is modelled on).
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

#: Prefix of variables that reach only tool headers, never the model (a rule of the ElevenLabs API).
_TOOLS_ONLY: Final = "secret__"


def not_for_clients(dynamic_variables: Iterable[str], overrides: Iterable[str]) -> tuple[str, ...]:
    """Return, sorted, the names of variables and the paths of overrides that no client may carry.

    Only the names are read, so a mapping works, too.
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
    """Refuse an agent if a client would carry variables or overrides that it must not.

    Args:
        agent: the configured name, for the message.
        transports: the agent's transports for which `XunaPlatform.client_carries()` is True.
        dynamic_variables, overrides: names, as far as they are known when the gate is built.

    Raises:
        ConfigurationError: some must not be carried; the text names them, and the relay.
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
    """Return the platform's JSON for a token request, without empty members.

    `{"dynamic_variables": {…}, "conversation_config_override": {"agent": {"first_message": …}}}`
    """
    return _without_empty(
        dynamic_variables=dict(personalization.dynamic_variables),
        conversation_config_override=_nested(personalization.overrides),
    )


def for_client(personalization: Personalization) -> dict[str, Any]:
    """Return the options for `startSession`. Call it only after `not_for_clients` found nothing.

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
