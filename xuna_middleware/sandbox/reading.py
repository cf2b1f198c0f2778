"""Read what a REST call brought, and refuse with a 422 what isn't as documented."""

from typing import Any, Final, TypeVar

from starlette.requests import Request

from xuna_middleware.sandbox import strict_json
from xuna_middleware.sandbox.agents import Scalar
from xuna_middleware.sandbox.refusals import RefusalError, invalid

MAX_BODY: Final = 65_536
_TRUTH: Final = {"true": True, "1": True, "false": False, "0": False}
T = TypeVar("T")


async def json_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body, at most 64 KB of it."""
    body = await _bounded(request)
    try:
        value = strict_json.loads(body)
    except ValueError:
        raise invalid("body", msg="JSON decode error", kind="json_invalid") from None
    return checked(value, dict, "body")


def query(request: Request, name: str) -> str | None:
    """Return a query parameter that may be given once."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise invalid("query", name, msg="Given more than once")
    return values[0] if values else None


def required_query(request: Request, name: str) -> str:
    """Return a query parameter that must be there and hold something."""
    value = query(request, name)
    if not value:
        raise invalid("query", name, msg="Field required", kind="missing")
    return value


def flag(request: Request, name: str) -> bool:
    """Return a query parameter that says true or false; False where it isn't given."""
    value = query(request, name)
    if value is None:
        return False
    if value.lower() not in _TRUTH:
        raise invalid("query", name, msg="Input should be a valid boolean", kind="bool_parsing")
    return _TRUTH[value.lower()]


def json_query(request: Request, name: str) -> Any:
    """Return the value of a JSON-encoded query parameter; None where it isn't given."""
    text = query(request, name)
    try:
        return None if text is None else strict_json.loads(text)
    except ValueError:
        raise invalid("query", name, msg="JSON decode error", kind="json_invalid") from None


def checked(value: Any, kind: type[T], *loc: str) -> T:
    """Return the value if it is of that kind. A boolean is no number."""
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    word = {"dict": "dictionary", "str": "string", "list": "list"}.get(kind.__name__, kind.__name__)
    raise invalid(*loc, msg=f"Input should be a valid {word}", kind=f"{kind.__name__}_type")


def scalars(value: Any, *loc: str) -> dict[str, Scalar]:
    """Return dynamic variables: text, numbers and booleans; no reserved name."""
    variables = checked({} if value is None else value, dict, *loc)
    for name, content in variables.items():
        if not isinstance(content, str | int | float | bool):
            raise invalid(*loc, name, msg="Input should be a string, number or boolean")
        if name.startswith("system__"):
            raise invalid(*loc, name, msg="Names that begin with system__ are reserved")
    return variables


async def _bounded(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise RefusalError(413, "Request body too large")
    return bytes(body)
