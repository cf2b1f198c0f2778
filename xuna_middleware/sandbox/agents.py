"""Agents of the sandbox, and how their words are filled in. Pure."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, TypeAlias

#: What a dynamic variable may hold.
Scalar: TypeAlias = str | int | float | bool

#: The sandbox speaks text and nothing else, so asking for text is never refused. The second
#: spelling is that of the Python SDK `elevenlabs`, where there is no audio interface.
ALWAYS_OPEN: Final = frozenset({"conversation.text_only", "text_only"})

_PLACEHOLDER: Final = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_DEEPEST: Final = 8
_HELLO: Final = "Hello, I stand in for your agent. Nothing said here is real. What shall we try?"
_PERSONA: Final = "You are a friendly stand-in for a voice agent."


@dataclass(frozen=True, slots=True)
class SandboxAgent:
    """Describe an agent as its maker would on the platform.

    Attributes:
        id: the platform's id, `agent_…`.
        name: what it calls itself.
        private: True demands a signed URL or a token; a public agent also takes its bare id.
        first_message: its first words; empty lets the user begin. `prompt`: its persona.
        required_variables: dynamic variables that must come, beside those that `first_message`
            and `prompt` name as `{{name}}` and `default_variables` doesn't hold.
        default_variables: values where none come.
        allowed_overrides: switched-on override paths, such as `agent.first_message`. Any other
            ends the conversation in silence. `conversation.text_only` is always on here.
        max_duration: seconds after which the platform ends a conversation.
        concurrency: conversations at one time; -1 sets no limit.
    """

    id: str
    _: KW_ONLY
    name: str = "Sandbox agent"
    private: bool = True
    first_message: str = _HELLO
    prompt: str = _PERSONA
    language: str = "en"
    voice_id: str = "voice_sandbox"
    required_variables: tuple[str, ...] = ()
    default_variables: Mapping[str, Scalar] = field(default_factory=dict, hash=False)
    allowed_overrides: frozenset[str] = frozenset()
    max_duration: float = 600
    concurrency: int = 10

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("A SandboxAgent needs an id: SandboxAgent('agent_…')")
        if not (math.isfinite(self.max_duration) and self.max_duration > 0):
            raise ValueError("max_duration is in seconds, more than 0")
        _no_lone_text("required_variables", self.required_variables)
        _no_lone_text("allowed_overrides", self.allowed_overrides)
        object.__setattr__(self, "required_variables", tuple(self.required_variables))
        object.__setattr__(self, "default_variables", dict(self.default_variables))
        object.__setattr__(self, "allowed_overrides", frozenset(self.allowed_overrides))

    def missing(self, variables: Mapping[str, Scalar], *, said: Iterable[str]) -> tuple[str, ...]:
        """Return the required variables that are not there, `said` being the texts to fill."""
        named = {name for text in said for name in placeholders(text)}
        wanted = {*self.required_variables, *named} - self.default_variables.keys()
        return tuple(sorted(name for name in wanted if name not in variables))

    def closed(self, overrides: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the override paths that this agent doesn't take, or whose value is unset.

        An empty text and a null are not "left out", so they close the conversation as well.
        """
        opened = self.allowed_overrides | ALWAYS_OPEN
        return tuple(
            sorted(path for path, value in overrides.items() if path not in opened or _unset(value))
        )


def placeholders(text: str) -> Iterator[str]:
    """Yield the names in `{{name}}` that a caller has to supply; `system__…` fills itself."""
    for name in _PLACEHOLDER.findall(text):
        if not name.startswith(("system__", "secret__")):
            yield name


def fill(text: str, variables: Mapping[str, Scalar]) -> str:
    """Return the text with `{{name}}` filled in. `secret__…` reaches no words, as documented."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        return match.group(0) if name.startswith("secret__") else _spoken(variables.get(name, ""))

    return _PLACEHOLDER.sub(value, text)


def flatten(overrides: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Return nested overrides by path: `{"agent": {"language": "de"}}` → `agent.language`.

    Below eight levels, where the platform has nothing, an object counts as a value.
    """
    flat: dict[str, Any] = {}
    for name, value in overrides.items():
        if isinstance(value, Mapping) and depth < _DEEPEST:
            flat |= flatten(value, f"{prefix}{name}.", depth + 1)
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _spoken(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unset(value: Any) -> bool:
    return value is None or value == ""


def _no_lone_text(name: str, value: object) -> None:
    if isinstance(value, str):
        raise TypeError(f"{name} is a collection of names: write ({value!r},)")
