"""The pages: plain HTML, no script, nothing from elsewhere, each saying that it is a sandbox."""

from collections.abc import Iterable
from html import escape
from typing import Final

from xuna_middleware.sandbox.people import Person

#: No script, no frame, no outside resource; nothing kept, nothing told to the next page.
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2333; --soft: #5b6478; --line: #d9dde6;
  --paper: #ffffff; --ground: #f3f4f8; --accent: #3d4ed8; --mark: #fff3cd; --mark-ink: #5c4700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaf2; --soft: #a3abbf; --line: #353c4d;
  --paper: #1d2230; --ground: #141824; --accent: #9aa6ff; --mark: #453a14; --mark-ink: #ffe9a8; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.25rem;
  background: var(--ground); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 26rem; background: var(--paper); border: 1px solid var(--line);
  border-radius: 1rem; padding: 1.75rem 1.5rem; }
.mark { margin: 0 0 1.25rem; padding: .5rem .75rem; border-radius: .5rem; font-size: .875rem;
  background: var(--mark); color: var(--mark-ink); }
h1 { margin: 0 0 .25rem; font-size: 1.375rem; line-height: 1.25; }
p { margin: 0 0 1.25rem; color: var(--soft); overflow-wrap: anywhere; }
ul { list-style: none; margin: 0; padding: 0; display: grid; gap: .625rem; }
li { overflow-wrap: anywhere; }
button { width: 100%; display: block; text-align: left; padding: .75rem 1rem; cursor: pointer;
  font: inherit; color: inherit; background: transparent; border: 1px solid var(--line);
  border-radius: .625rem; }
button strong { display: block; font-weight: 600; }
button span { display: block; font-size: .875rem; color: var(--soft); }
button:hover { border-color: var(--accent); }
button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.quiet { margin-top: 1rem; text-align: center; border-color: transparent; color: var(--soft); }
code { font-size: .875rem; }
"""


def sign_in(people: Iterable[Person], *, transaction: str, client_id: str, action: str) -> str:
    """Return the sign-in page: one button a person, one to cancel."""
    choices = "".join(_choice(person) for person in people)
    body = (
        f"<h1>Sign in as</h1><p>to go on to <code>{escape(client_id)}</code></p>"
        f'<form method="post" action="{escape(action)}">'
        f'<input type="hidden" name="transaction" value="{escape(transaction)}">'
        f"<ul>{choices}</ul>"
        '<button class="quiet" name="cancel" value="yes">Cancel</button></form>'
    )
    return _page("Sign in · XUNA sandbox", body)


def refusal(message: str) -> str:
    """Return the page of a sign-in that can't go on, for the person who sees it."""
    words = f"<h1>This sign-in can’t go on</h1><p>{escape(message)}</p>"
    return _page("Refused · XUNA sandbox", words)


def provider(issuer: str, people: Iterable[Person]) -> str:
    """Return the root page of the provider."""
    listed = "".join(
        f"<li><strong>{escape(person.name)}</strong> <code>{escape(person.subject)}</code><br>"
        f"{escape(person.note)}</li>"
        for person in people
    )
    body = f"<h1>OpenID provider</h1><p><code>{escape(issuer)}</code></p><ul>{listed}</ul>"
    return _page("OpenID provider · XUNA sandbox", body)


def platform() -> str:
    """Return the root page of the platform."""
    body = (
        "<h1>Voice platform</h1><p>It answers like XUNA AI: signed URLs, conversation tokens, "
        "agents, conversations. A rule does the talking.</p>"
        "<ul><li><code>/v1/convai/conversation/get-signed-url</code></li>"
        "<li><code>/v1/convai/conversation/token</code></li>"
        "<li><code>/v1/convai/conversation</code> (WebSocket)</li>"
        "<li><code>/v1/convai/agents</code></li>"
        "<li><code>/v1/convai/conversations</code></li></ul>"
    )
    return _page("Voice platform · XUNA sandbox", body)


def _choice(person: Person) -> str:
    return (
        f'<li><button name="person" value="{escape(person.subject)}">'
        f"<strong>{escape(person.name)}</strong><span>{escape(person.note)}</span></button></li>"
    )


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        '<p class="mark">This is a <strong>sandbox</strong>, on this machine only. '
        f"Nobody here is real.</p>{body}</main></body></html>"
    )
