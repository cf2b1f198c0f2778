"""The code flow with PKCE: a request comes in, a person chooses, a code goes out and comes back."""

from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from xuna_middleware.sandbox import pages
from xuna_middleware.sandbox.authorization import (
    CODE_LIFE,
    SIGN_IN_LIFE,
    AuthorizationError,
    AuthorizationRequest,
    Grant,
    Waiting,
    checked,
    proves,
)
from xuna_middleware.sandbox.discovery import endpoint
from xuna_middleware.sandbox.forms import FormError, fields, read_form
from xuna_middleware.sandbox.people import Person
from xuna_middleware.sandbox.redirects import check_registered, is_registered


class CodeFlow:
    """Hold sign-ins under way and codes that are out. Both are short-lived, both have a size."""

    def __init__(
        self,
        *,
        issuer: str,
        people: Mapping[str, Person],
        audiences: tuple[str, ...],
        client_id: str,
        redirect_uris: Iterable[str],
        clock: Callable[[], float],
    ) -> None:
        self._issuer = issuer
        self._people = people
        self._audiences = audiences
        self._client_id = client_id
        self._redirects = tuple(check_registered(uri) for uri in redirect_uris)
        self._clock = clock
        self._sign_ins: Waiting[AuthorizationRequest] = Waiting(life=SIGN_IN_LIFE, clock=clock)
        self._codes: Waiting[Grant] = Waiting(life=CODE_LIFE, clock=clock)

    async def ask(self, request: Request) -> Response:
        """Show the sign-in page. Only a request whose way back is certain is sent back."""
        try:
            query = fields(request.scope["query_string"])
        except FormError as bad:
            return _refused(f"In this request, {bad}.")
        redirect_uri = query.get("redirect_uri", "")
        if query.get("client_id") != self._client_id:
            return _refused("This application is not registered here.")
        if not is_registered(redirect_uri, self._redirects):
            return _refused("The address to return to is not registered for this application.")
        try:
            asked = checked(
                query,
                redirect_uri=redirect_uri,
                client_id=self._client_id,
                audiences=self._audiences,
            )
        except AuthorizationError as error:
            return self._sent_back_refused(redirect_uri, error, query.get("state"))
        return self._sign_in_page(asked)

    async def choose(self, request: Request) -> Response:
        """Take the choice from the sign-in page, and send the person back with a code."""
        try:
            form = await read_form(request)
        except FormError as bad:
            return _refused(f"In this form, {bad}.")
        asked = self._sign_ins.take(form.get("transaction", ""))
        if asked is None:
            return _refused("It was used before or is too old. Start again from your application.")
        person = self._people.get(form.get("person", ""))
        if person is None:
            denied = AuthorizationError("access_denied", "Nobody was chosen.")
            return self._sent_back_refused(asked.redirect_uri, denied, asked.state)
        code = self._codes.put(Grant(person=person, request=asked, at=self._clock()))
        return self._sent_back(asked.redirect_uri, code=code, state=asked.state)

    def redeem(self, form: Mapping[str, str]) -> Grant | None:
        """Return what the code stands for. A code that meets a wrong word is spent all the same."""
        grant = self._codes.take(form.get("code", ""))
        if grant is None or form.get("redirect_uri") != grant.request.redirect_uri:
            return None
        known = proves(form.get("code_verifier", ""), grant.request.code_challenge)
        return grant if known else None

    def _sign_in_page(self, asked: AuthorizationRequest) -> Response:
        page = pages.sign_in(
            self._people.values(),
            transaction=self._sign_ins.put(asked),
            client_id=asked.client_id,
            action=endpoint(self._issuer, "authorize"),
        )
        return HTMLResponse(page, headers=pages.HEADERS)

    def _sent_back(self, redirect_uri: str, **answer: str) -> Response:
        """Redirect with an answer; 303, so that the form isn't posted onwards."""
        joint = "&" if "?" in redirect_uri else "?"
        address = f"{redirect_uri}{joint}{urlencode({**answer, 'iss': self._issuer})}"
        return RedirectResponse(address, 303, headers={"Cache-Control": "no-store"})

    def _sent_back_refused(
        self, redirect_uri: str, error: AuthorizationError, state: str | None
    ) -> Response:
        told = {"error": error.code, "error_description": f"Sandbox: {error.description}"}
        return self._sent_back(redirect_uri, **told, **({"state": state} if state else {}))


def _refused(message: str) -> Response:
    return HTMLResponse(pages.refusal(message), 400, headers=pages.HEADERS)
