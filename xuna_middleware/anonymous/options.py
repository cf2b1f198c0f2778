"""Whom an agent admits without credentials, and on which terms: the options, checked."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from starlette.requests import HTTPConnection

from xuna_middleware._core.callables import is_async
from xuna_middleware.access.limits.limits import AnyLimit, Concurrent, Limit, checked_limits
from xuna_middleware.access.values.sources import MISSING, Claim
from xuna_middleware.errors import ConfigurationError

SECRET_VARIABLE: Final = "XUNA_ANONYMOUS_SECRET"  # noqa: S105  (a variable's name)

#: Anybody can become a new visitor at will, so what counts is the address, and all together.
DEFAULT_LIMITS: Final = (Limit("10/hour"), Limit("30/hour", per="address"))

_DAY: Final = 86_400
_LEAST_SECRET: Final = 32


@runtime_checkable
class CaptchaCheck(Protocol):
    """Tell people from programs, or make programs pay."""

    async def verify(self, connection: HTTPConnection) -> bool:
        """Tell whether the request carries a good answer to the challenge.

        Raises:
            UnavailableError: that can't be known now. Nobody is admitted then.
        """

    def headers(self) -> Mapping[str, str]:
        """Return what the refusal carries beside its body, so that a page can answer."""


@runtime_checkable
class AnswerReader(Protocol):
    """What a challenge may have beside: a request without an answer is refused without asking."""

    def has_answer(self, connection: HTTPConnection) -> bool:
        """Tell whether the request carries an answer that is worth asking about. No I/O."""


@runtime_checkable
class WithTerms(Protocol):
    """What a challenge may have beside: which one it is, in words the same in every process."""

    @property
    def terms(self) -> str:
        """A text that is another one where a visitor who passed must pass again."""


#: A challenge, or an async function of `(connection)` that tells whether it is passed.
CaptchaCheckLike: TypeAlias = CaptchaCheck | Callable[[HTTPConnection], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnonymousAccess:
    """Say on which terms callers without credentials may talk to agents with `anonymous=True`.

    Attributes:
        secret: signs the visitors' tickets; 32 characters or more, or a list, the newest first.
            None reads XUNA_ANONYMOUS_SECRET; without that one, each process makes one up, and its
            tickets end with it: everybody is new after a restart, and to another worker.
        limits: count visitors only, beside the limits of the gate and of the agent: per "subject"
            is each visitor, per "address" each address, per "all" all visitors together. For every
            anonymous agent there must be a `Limit` or `TalkTime` per "all" or "agent" somewhere,
            not `on_unavailable="allow"`, and `max_duration`: a crowd may come, and what it costs
            must have an end.
        captcha: a `CaptchaCheck` (`ProofOfWork()`, `turnstile(…)`, `hcaptcha(…)`), or an async
            function of `(connection)` that returns True where it is passed; it has 5 s. Eight of
            these are asked for at once, four of one address, and 64 wait; 16 more of one address
            wait until its four are answered; beyond that, 503. Requests without an answer take no
            place where the challenge says so: those above do, and one of your own may, by a method
            `has_answer(connection)` that returns False.
            `ProofOfWork()` uses the secret above and the gate's store, where it has none of its
            own.
        captcha_seconds: seconds for which a visitor who passed is not asked again by the same
            captcha: a `ProofOfWork` of as many bits, a captcha with the same secret and host
            names, a function or class of the same module and name, or with the same text in its
            attribute `terms`.
        token_seconds: seconds for which a visitor is known again.

    Raises:
        ConfigurationError: one of these makes no sense; the text says how to write it.
    """

    secret: str | Sequence[str] | None = field(default=None, repr=False)
    limits: Sequence[AnyLimit] = DEFAULT_LIMITS
    captcha: CaptchaCheckLike | None = None
    captcha_seconds: int = 3600
    token_seconds: int = 30 * _DAY

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", checked_limits(self.limits))
        secret = self.secret or os.environ.get(SECRET_VARIABLE) or None
        object.__setattr__(self, "secret", None if secret is None else _secrets(secret))
        for name, longest in (("captcha_seconds", 30 * _DAY), ("token_seconds", 366 * _DAY)):
            seconds: Any = getattr(self, name)
            if type(seconds) is not int or not 1 <= seconds <= longest:
                raise ConfigurationError(
                    f"AnonymousAccess({name}=…) takes whole seconds from 1 to {longest}"
                )
        challenge = self.captcha
        if challenge is not None and not _is_challenge(challenge):
            raise ConfigurationError(
                "AnonymousAccess(captcha=…) takes a CaptchaCheck such as ProofOfWork(), or an "
                "async function of (connection)"
            )


def _secrets(secret: Any) -> tuple[str, ...]:
    several = tuple(secret) if isinstance(secret, list | tuple) else (secret,)
    if not all(isinstance(each, str) and len(each) >= _LEAST_SECRET for each in several):
        raise ConfigurationError(
            f"AnonymousAccess(secret=…) is a random text of {_LEAST_SECRET} characters or more, or "
            "a list of them, the newest first: "
            'python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    return several


def check_visitors_limits(agent: str, limits: Sequence[AnyLimit]) -> None:
    """Check all limits that visitors of an agent meet.

    Raises:
        ConfigurationError: one counts by what no visitor has, or what all of them may spend
            together has no end.
    """
    for one in limits:
        if not all(map(_is_had_by_visitors, one.counted.parts)):
            raise ConfigurationError(
                f"Agent({agent!r}, anonymous=True): {one.title!r} counts by what no visitor has, "
                "so all of them would be refused: give the claim a default, or put the limit on "
                "agents that are not open to them"
            )
    if not any(map(_is_common_budget, limits)):
        raise ConfigurationError(
            f"Agent({agent!r}, anonymous=True) needs a budget for all visitors together, such as "
            'limits=[TalkTime("5 hours/day", per="all")], on the agent or in '
            'anonymous=AnonymousAccess(limits=…); one that is on_unavailable="allow" is none'
        )


def _is_had_by_visitors(part: Any) -> bool:
    if isinstance(part, Claim):
        return part.default is not MISSING
    return bool(part != "client")


def _is_common_budget(one: AnyLimit) -> bool:
    has_end = not isinstance(one, Concurrent) and one.on_unavailable != "allow"
    return has_end and one.counted.is_shared


def _is_challenge(value: Any) -> bool:
    return is_async(value) or (isinstance(value, CaptchaCheck) and not isinstance(value, type))
