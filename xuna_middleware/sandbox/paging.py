"""Lists in pages: `page_size`, `cursor`, `has_more`, `next_cursor`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from starlette.requests import Request

from xuna_middleware.sandbox.reading import query
from xuna_middleware.sandbox.refusals import invalid

_LARGEST: Final = 100
_USUAL: Final = 30
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Hold one page of a list; `next_cursor` is the key of its last item, where more follow."""

    items: Sequence[T]
    next_cursor: str | None

    def to_dict(self) -> dict[str, Any]:
        return {"has_more": self.next_cursor is not None, "next_cursor": self.next_cursor}


def page(request: Request, items: Sequence[T], *, key: Callable[[T], str]) -> Page[T]:
    """Return the page that the request asks for: what follows its cursor. Raises a 422."""
    start, size = _start(request, items, key), _size(request)
    shown = items[start : start + size]
    more = start + size < len(items)
    return Page(items=shown, next_cursor=key(shown[-1]) if more else None)


def _start(request: Request, items: Sequence[T], key: Callable[[T], str]) -> int:
    cursor = query(request, "cursor")
    if not cursor:
        return 0
    for position, item in enumerate(items):
        if key(item) == cursor:
            return position + 1
    raise invalid("query", "cursor", msg="Unknown cursor")


def _size(request: Request) -> int:
    text = query(request, "page_size")
    if text is None:
        return _USUAL
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= _LARGEST):
        raise invalid("query", "page_size", msg="Input should be between 1 and 100")
    return int(text)
