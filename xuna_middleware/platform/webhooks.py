"""PostCallWebhook: verify and read the platform's signed reports about ended conversations.

- The header contains `t=<unix seconds>,v0=<hex>`, the second part once or more: HMAC-SHA256, with
  the secret that both sides know, over the first part's digits, a dot and the body as it was sent.
- `t` must be close to the current time, before or after it: a captured delivery can't be sent much
  later, and none can be signed in advance.
- No part of a body is parsed before its signature is verified.

XUNA AI documents no webhook. The form, the types and `data.metadata.call_duration_secs` are the
ElevenLabs API's, so the header's name is an option.
"""

import hmac
import os
import re
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final, Self

from starlette.datastructures import Headers

from xuna_middleware._core.strict_json import TRANSCRIPT
from xuna_middleware.errors import (
    ConfigurationError,
    InvalidSignatureError,
    UnavailableError,
)
from xuna_middleware.platform.records import length
from xuna_middleware.platform.rest.responses import Invalid, conversation_id, json_object
from xuna_middleware.platform.secrets import Secret

#: Bytes of a body, which contains the transcript.
MAX_BYTES: Final = 1024 * 1024

_VARIABLE: Final = "XUNA_AI_WEBHOOK_SECRET"
_LEAST_SECRET: Final = 16
_LONGEST_TOLERANCE: Final = 86_400
#: Seconds for which a delivery is remembered after its signature expires.
_GRACE: Final = 60.0
_SIGNED: Final = re.compile(r"t=([0-9]{1,12})((?:,v0=[0-9a-f]{64}){1,8})", re.ASCII)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_TRANSCRIPT: Final = "post_call_transcription"
_AUDIO: Final = "post_call_audio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The claims of a header: when a body was signed, and its possible digests."""

    time: str
    digests: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An ended conversation, and how many seconds it lasted."""

    conversation_id: str
    seconds: float


class PostCallWebhook:
    """Accept the platform's signed reports of how long conversations lasted.

    The gate then serves `POST /webhooks/post-call`; configure that URL in the platform. Time that a
    conversation reserved and didn't use is given back as soon as its transcript arrives. Only the
    type `post_call_transcription` has a conversation's length: leave the audio out, since it
    doesn't fit into 1 MB.

    Args:
        secret: the platform's signing secret, as its console shows it; 16 characters or more. Or
            several during a rotation: any of them verifies. None reads `XUNA_AI_WEBHOOK_SECRET`
            when `check()` or the first delivery needs it.
        header: the name of the signature's header.
        tolerance: seconds by which the time of signing may differ from now, in both directions.
        clock: seconds since the epoch.

    Checks: that there is one such header, strictly of the form above; its time; that one of the
    secrets signed the whole body, in constant time.
    Does not check: whether the platform's report is true; the platform's address.

    Raises:
        ConfigurationError: an option is not as described; the text says how to write it.
    """

    def __init__(
        self,
        secret: str | Sequence[str] | None = None,
        *,
        header: str = "ElevenLabs-Signature",
        tolerance: float = 1800.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = None if secret is None else _concealed(secret)
        del secret  # so that no traceback through here can show it
        _check(self._secrets or (), "secret")
        self._header = _header_name(header)
        self._tolerance = _duration(tolerance)
        self._clock = clock

    def __repr__(self) -> str:
        return "PostCallWebhook(…)"

    @property
    def remembered(self) -> float:
        """Seconds for which a delivery must be remembered: longer than its signature is valid."""
        return 2 * self._tolerance + _GRACE

    def moved(self, *, secret: str | Sequence[str]) -> Self:
        """Return a copy with another secret, such as a sandbox's."""
        elsewhere = copy(self)
        elsewhere._secrets = secrets = _concealed(secret)
        del secret
        _check(secrets, "secret")
        return elsewhere

    def check(self) -> None:
        """Find the secret, in the environment if none was given.

        Raises:
            ConfigurationError: there is none, or it is not usable.
        """
        # Cached, so that a process may remove it from the environment after the start.
        if self._secrets is None:
            self._secrets = _from_environment()

    def claimed(self, headers: Headers) -> Signature:
        """Return the header's claims, or refuse before the body is read.

        Raises:
            InvalidSignatureError: there is no such header, or two, it is malformed, or its time is
                too far from now.
            UnavailableError: there is no secret for the verification.
        """
        try:
            self.check()
        except ConfigurationError as error:
            raise UnavailableError(cause=f"configuration: {error}") from None
        signature = read_signature(headers.getlist(self._header))
        if abs(self._clock() - int(signature.time)) > self._tolerance:
            raise InvalidSignatureError(
                cause="webhook time: too far from now; look at this machine's clock"
            )
        return signature

    def verify(self, signature: Signature, body: bytes) -> None:
        """Check that one of the secrets signed this body at that time.

        Raises:
            InvalidSignatureError: none did.
        """
        signed = b"%s.%s" % (signature.time.encode(), body)
        made = [hmac.digest(_octets(each), signed, "sha256").hex() for each in self._secrets or ()]
        # Each is compared with each, in constant time: the duration reveals nothing.
        equal = [hmac.compare_digest(one, other) for one in made for other in signature.digests]
        if not any(equal):
            raise InvalidSignatureError(cause="webhook signature: no known secret signed this body")


def read_signature(values: Sequence[str]) -> Signature:
    """Read the signature header, of which there must be exactly one.

    Raises:
        InvalidSignatureError: there is none, or several, or it is malformed.
    """
    if len(values) != 1:
        raise InvalidSignatureError(cause="webhook header: missing, or more than one")
    found = _SIGNED.fullmatch(values[0])
    if found is None:
        raise InvalidSignatureError(cause="webhook header: not t=<digits>,v0=<64 hex digits>")
    return Signature(time=found[1], digests=tuple(found[2].split(",v0=")[1:]))


def read_finished(body: bytes) -> Finished | Invalid:
    """Return a signed body's report of a conversation, or why it contains none."""
    members = json_object(body, TRANSCRIPT)
    if members is None:
        return Invalid("not a strict JSON object")
    if members.get("type") != _TRANSCRIPT:
        return Invalid("audio" if members.get("type") == _AUDIO else "of an unknown type")
    data: Any = members.get("data")
    if not isinstance(data, dict):
        return Invalid("without data")
    known, seconds = conversation_id(data.get("conversation_id")), length(data)
    if known is None or seconds is None:
        return Invalid("without the id or the length of a conversation")
    return Finished(conversation_id=known, seconds=seconds)


def _octets(secret: Secret) -> bytes:
    return secret.reveal().encode()


def _concealed(given: str | Sequence[str]) -> tuple[Secret, ...]:
    texts = given if isinstance(given, list | tuple) else (given,)
    if not texts:
        raise ConfigurationError(f"secret: a text, several, or None for {_VARIABLE}")
    return tuple(Secret(each, "webhook secret") for each in texts)


def _from_environment() -> tuple[Secret, ...]:
    if not os.environ.get(_VARIABLE):
        raise ConfigurationError(
            f"no webhook secret: set the environment variable {_VARIABLE}, or pass "
            "PostCallWebhook(secret=…)"
        )
    found = _concealed(os.environ[_VARIABLE])
    _check(found, _VARIABLE)
    return found


def _check(secrets: Sequence[Secret], source: str) -> None:
    for secret in secrets:
        secret.check(source)
        if len(secret.reveal()) < _LEAST_SECRET:
            raise ConfigurationError(
                f"{source}: a webhook secret has {_LEAST_SECRET} characters or more; a short one "
                "can be guessed from one delivery"
            )


def _header_name(name: str) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ConfigurationError('header: the name of a header, like "ElevenLabs-Signature"')
    return name


def _duration(seconds: float) -> float:
    # Not `isinstance`: True is an int, and would be one second.
    if type(seconds) not in (int, float) or not 0 < seconds <= _LONGEST_TOLERANCE:
        raise ConfigurationError(
            f"tolerance: seconds, more than 0 and at most {_LONGEST_TOLERANCE}"
        )
    return seconds
