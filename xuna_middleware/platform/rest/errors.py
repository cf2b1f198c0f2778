"""Map the platform's failures to issue a credential to the gate's answers. Pure functions.

| the platform | the gate's answer | cause |
|---|---|---|
| 404, 405 on a personalized token request | 502 | `personalization_unsupported` |
| 429 | 503 with Retry-After | `platform_busy` |
| 400 … 499 with `quota_exceeded` | 502 | `platform_quota` |
| 401, 403 | 502 | `platform_auth` |
| 404 | 502 | `platform_agent` |
| other 4xx | 502 | `platform_request` |
| 3xx | 502 | `platform_redirect` |
| 5xx, after the second attempt | 502, its Retry-After passed on | `platform_fault` |
| no connection, after the second attempt | 502 | `platform_unreachable` |
| no whole answer in time | 504 | `platform_timeout` |
| nonsense: too long, broken off, encoded, not as documented | 502 | `platform_answer` |

A cause is for the operator's log. It consists of words written here and contains nothing from an
answer's body.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from xuna_middleware._core.http import OutboundError, Reply
from xuna_middleware.errors import GateError, PlatformError, UnavailableError
from xuna_middleware.platform.rest.requests import ApiRequest
from xuna_middleware.platform.rest.responses import json_object
from xuna_middleware.platform.rest.retry import retry_after

_BY_STATUS: Final[Mapping[int, str]] = {
    401: "platform_auth: XUNA AI refused the API key or its quota is spent",
    403: "platform_auth: XUNA AI does not let this API key use the agent",
    404: "platform_agent: XUNA AI knows no such agent; see the id of the agent, and whether the "
    "API key is of the same workspace",
}
_BY_HUNDRED: Final[Mapping[int, str]] = {
    3: "platform_redirect: XUNA AI answered with a redirect, which is never followed; see base_url",
    4: "platform_request: XUNA AI did not take the request; see the id of the agent, and "
    "XunaPlatform's options",
    5: "platform_fault: XUNA AI has a fault of its own",
}
_QUOTA: Final = "platform_quota: the quota of the API key is spent, XUNA AI says"
_BUSY: Final = "platform_busy: XUNA AI takes no more requests or conversations right now"
_UNSUPPORTED: Final = (
    "personalization_unsupported: XUNA AI took no {method} with variables or overrides for a token "
    "(or has no agent of this id); the fix: XunaPlatform(personalization={hint})"
)
_HINTS: Final = {"body": '"query" or "client"', "query": '"client"'}
_FAULTS: Final = {"connect": "platform_unreachable", "timeout": "platform_timeout"}


def refusal(reply: Reply, question: ApiRequest, now: float) -> GateError | None:
    """Return the error for an answer; None if it may hold a credential.

    `now` is in seconds since the epoch, for a Retry-After that is a date.
    """
    if reply.status == 429:
        wait = retry_after(reply, now)
        cause = f"{_BUSY} (429)"
        return UnavailableError(cause=cause, retry_after=5 if wait is None else math.ceil(wait))
    if reply.status in (404, 405) and question.way is not None:
        return _unsupported(reply, question)
    words = _words(reply)
    return None if words is None else _fault(reply, words, now)


def nonsense(reason: str) -> PlatformError:
    """Return the error for an answer that holds no credential as documented."""
    return PlatformError(cause=f"platform_answer: {reason}")


def no_answer(fault: OutboundError) -> PlatformError:
    """Return the error for an answer that never came, or was incomplete."""
    cause = f"{_FAULTS.get(fault.kind, 'platform_answer')}: {fault}"
    if fault.kind == "timeout":
        return PlatformError(
            "The voice platform did not answer in time.",
            cause=cause,
            code="platform_timeout",
            status_code=504,
        )
    return PlatformError(cause=cause)


def _unsupported(reply: Reply, question: ApiRequest) -> PlatformError:
    hint = _HINTS.get(question.way or "", "")
    cause = f"{_UNSUPPORTED.format(method=question.method, hint=hint)} ({reply.status})"
    return PlatformError(cause=cause, code="personalization_unsupported")


def _words(reply: Reply) -> str | None:
    hundred = reply.status // 100
    if hundred == 4 and _is_quota(reply.body):
        return _QUOTA
    return _BY_STATUS.get(reply.status) or _BY_HUNDRED.get(hundred)


def _fault(reply: Reply, words: str, now: float) -> PlatformError:
    wait = retry_after(reply, now) if reply.status >= 500 else None
    headers = {} if wait is None else {"Retry-After": str(max(1, math.ceil(wait)))}
    return PlatformError(cause=f"{words} ({reply.status})", headers=headers)


def _is_quota(body: bytes) -> bool:
    """Return whether `detail.status` is `quota_exceeded`, which comes with 400 or 401."""
    detail: Any = (json_object(body) or {}).get("detail")
    return isinstance(detail, dict) and detail.get("status") == "quota_exceeded"
