"""The options of anonymous access, validated."""

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

#: Anybody can become a new visitor at will, so the effective limits are per address and in total.
DEFAULT_LIMITS: Final = (Limit("10/hour"), Limit("30/hour", per="address"))

_DAY: Final = 86_400
_LEAST_SECRET: Final = 32


@runtime_checkable
class CaptchaCheck(Protocol):
    """Distinguish people from programs, or make requests costly for programs."""

    async def verify(self, connection: HTTPConnection) -> bool:
        """Return whether the request carries a correct answer to the captcha.

        Raises:
            UnavailableError: the answer can't be checked now. Nobody is admitted then.
        """

    def headers(self) -> Mapping[str, str]:
        """Return the headers of the refusal, from which a page learns how to answer."""


@runtime_checkable
class AnswerReader(Protocol):
    """An optional method of a captcha: requests without an answer are refused without a check."""

    def has_answer(self, connection: HTTPConnection) -> bool:
        """Return whether the request carries an answer that is worth checking. No I/O."""


@runtime_checkable
class WithTerms(Protocol):
    """An optional property of a captcha: a text that identifies it, the same in every process."""

    @property
    def terms(self) -> str:
        """The text. When it changes, visitors who passed before must pass again."""


#: A captcha, or an async function of `(connection)` that returns whether it is passed.
CaptchaCheckLike: TypeAlias = CaptchaCheck | Callable[[HTTPConnection], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnonymousAccess:
    """Configure anonymous access: how callers without credentials may talk to agents with
    `anonymous=True`.

    Attributes:
        secret: signs the anonymous tokens; 32 characters or more, or a list, the newest first.
            None reads XUNA_ANONYMOUS_SECRET; without that variable, each process generates a
            secret, and its tokens end with the process: every visitor is new after a restart, and
            to another worker.
        limits: count visitors only, in addition to the limits of the gate and of the agent: per
            "subject" is each visitor, per "address" each address, per "all" all visitors together.
            Every anonymous agent needs a `Limit` or `TalkTime` per "all" or "agent" somewhere,
            not `on_unavailable="allow"`, and `max_duration`, so that the cost of a crowd of
            visitors is bounded.
        captcha: a `CaptchaCheck` (`ProofOfWork()`, `turnstile(…)`, `hcaptcha(…)`), or an async
            function of `(connection)` that returns True where it is passed; it has 5 s. Eight
            checks run at once, four of one address, and 64 wait; 16 more of one address wait until
            its four are done; beyond that, 503. Requests without an answer take no place if the
            captcha has a method `has_answer(connection)` that returns False for them: those above
            have one, and a custom captcha may.
            `ProofOfWork()` uses the secret above and the gate's store unless it has its own.
        captcha_seconds: seconds for which a visitor who passed is not asked again by the same
            captcha: a `ProofOfWork` of as many bits, a captcha with the same secret and host
            names, a function or class of the same module and name, or with the same text in its
            attribute `terms`.
        token_seconds: seconds for which a visitor is known again.

    Raises:
        ConfigurationError: one of these is invalid; the text says how to write it.
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
    """Check all limits that apply to visitors of an agent.

    Raises:
        ConfigurationError: one counts by something that no visitor has, or the total that all
            visitors may spend is unbounded.
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
