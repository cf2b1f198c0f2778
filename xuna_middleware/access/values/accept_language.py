"""The caller's language, from Accept-Language (RFC 9110 section 12.5.4; RFC 4647 section 3.4)."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from starlette.requests import HTTPConnection

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.identity.credentials import Identity

_TAG: Final = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")
_RANGE: Final = re.compile(
    r"\s*(\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?)\s*)?"
)
_LONGEST: Final = 1_000


def accept_language(*languages: str) -> Callable[[Identity, HTTPConnection], str]:
    """Take a variable's or override's value from Accept-Language: the best of these languages.

    `overrides={"agent.language": accept_language("en", "de", "pt-BR")}`. If nothing matches, or
    the header is missing, it is the first. "de-CH" matches "de", and "pt" matches "pt-BR".

    Raises:
        ConfigurationError: none are given, or one is not a language tag (RFC 5646).
    """
    if not languages or not all(isinstance(one, str) and _TAG.fullmatch(one) for one in languages):
        raise ConfigurationError(
            'accept_language takes the languages that the agent speaks: accept_language("en", "de")'
        )

    def language(identity: Identity, connection: HTTPConnection) -> str:
        header = ",".join(connection.headers.getlist("accept-language"))
        return best_language(header, languages)

    return language


def best_language(header: str, languages: tuple[str, ...]) -> str:
    """Return the language that a header prefers, or the first one if none matches."""
    for wanted in _liked(header[:_LONGEST]):
        found = _lookup(wanted, languages)
        if found is not None:
            return found
    return languages[0]


def _liked(header: str) -> Iterator[str]:
    """Return language ranges, the most preferred first, in written order among equals."""
    matches = [_RANGE.fullmatch(part) for part in header.split(",")]
    ranges = [(float(match[2] or 1), match[1].lower()) for match in matches if match]
    ranges.sort(key=lambda each: -each[0])
    return (wanted for quality, wanted in ranges if quality > 0)


def _lookup(wanted: str, languages: tuple[str, ...]) -> str | None:
    if wanted == "*":
        return languages[0]
    known = {language.lower(): language for language in reversed(languages)}
    shorter = wanted
    while shorter:
        if shorter in known:
            return known[shorter]
        shorter = shorter.rpartition("-")[0]
    longer = (each for each in languages if each.lower().startswith(wanted + "-"))
    return next(longer, None)
