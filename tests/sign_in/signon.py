"""A sign-on service that speaks as GOV.UK Signon does, to try Backdrop with and to test it.

The authorization server is Authlib's: it checks the client's secret, the redirect address (which
must be exactly one that is registered), the code and PKCE as strictly as a real one. `make signon`
runs it, with two people to pick from: one has the permission to sign in to Backdrop, one has not.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import (
    AuthorizationCodeMixin,
    AuthorizationServer,
    ClientMixin,
    InvalidRequestError,
    OAuth2Error,
    OAuth2Request,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge

from tests.sign_in.http_server import Answer, Asked, http_server

PORT = 3050
_CODE_SECONDS = 600


@dataclass(frozen=True)
class Account:
    """Someone whom the service knows, as `/user.json` tells of them."""

    name: str
    email: str
    permissions: tuple[str, ...]
    uid: str = field(default_factory=lambda: secrets.token_hex(8))

    def as_json(self) -> dict[str, Any]:
        whole = {"name": self.name, "email": self.email, "uid": self.uid}
        return {"user": whole | {"permissions": list(self.permissions)}}


ADA = Account("Ada Lovelace", "ada@example.org", ("signin",))
BOB = Account("Bob Visitor", "bob@example.org", ())


@dataclass(frozen=True)
class Registered(ClientMixin):  # type: ignore[misc]  # Authlib ships no types
    """An application that the service knows."""

    redirect_uris: tuple[str, ...]
    client_id: str = "backdrop"
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str | None) -> str:  # noqa: ARG002  there are none
        return ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.client_secret, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002
        return method in ("client_secret_basic", "client_secret_post")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass(frozen=True)
class _Code(AuthorizationCodeMixin):  # type: ignore[misc]
    text: str
    client_id: str
    redirect_uri: str
    account: Account
    code_challenge: str
    code_challenge_method: str
    until: float

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return ""


class _Request(OAuth2Request):  # type: ignore[misc]
    def __init__(self, asked: Asked) -> None:
        super().__init__(asked.method, asked.url, headers=asked.headers)
        self._asked = asked
        self.payload = BasicOAuth2Payload(asked.query | self.form)

    @property
    def args(self) -> dict[str, str]:
        return self._asked.query

    @property
    def form(self) -> dict[str, str]:
        return self._asked.form if self._asked.method == "POST" else {}


class _Challenge(CodeChallenge):  # type: ignore[misc]
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if "code_challenge" not in data or "code_challenge_method" not in data:
            raise InvalidRequestError("PKCE is required here")
        super().validate_code_challenge(grant, redirect_uri)


class _Grant(AuthorizationCodeGrant):  # type: ignore[misc]
    server: Signon

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        data = request.payload.data
        self.server.codes[code] = _Code(
            text=code,
            client_id=request.client.client_id,
            redirect_uri=data["redirect_uri"],
            account=request.user,
            code_challenge=data["code_challenge"],
            code_challenge_method=data["code_challenge_method"],
            until=time.monotonic() + self.server.code_seconds,
        )

    def query_authorization_code(self, code: str, client: Registered) -> _Code | None:
        found = self.server.codes.get(code)
        if found is None or found.client_id != client.client_id or found.until < time.monotonic():
            return None
        return found

    def delete_authorization_code(self, authorization_code: _Code) -> None:
        del self.server.codes[authorization_code.text]

    def authenticate_user(self, authorization_code: _Code) -> Account:
        return authorization_code.account


class Signon(AuthorizationServer):  # type: ignore[misc]
    """The service: who may sign in, the one application, and what was given out."""

    def __init__(self, application: Registered, *accounts: Account) -> None:
        super().__init__()
        self.application = application
        self.accounts = {account.uid: account for account in accounts}
        self.codes: dict[str, _Code] = {}
        self.code_seconds: float = _CODE_SECONDS
        self.tokens: dict[str, Account] = {}
        generator = BearerTokenGenerator(lambda **_: secrets.token_urlsafe(32))
        self.register_token_generator("default", generator)
        self.register_grant(_Grant, [_Challenge(required=True)])

    # -- what Authlib asks for ----------------------------------------------------------------

    def query_client(self, client_id: str) -> Registered | None:
        return self.application if client_id == self.application.client_id else None

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        self.tokens[token["access_token"]] = request.user

    def create_oauth2_request(self, request: Asked) -> OAuth2Request:
        return _Request(request)

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Answer:
        text = body if isinstance(body, str) else json.dumps(body)
        return Answer(text.encode(), status, dict(headers))

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        pass

    # -- the service's addresses --------------------------------------------------------------

    def __call__(self, asked: Asked) -> Answer:
        if asked.path == "/oauth/authorize":
            return self._decide(asked) if asked.method == "POST" else self._ask(asked)
        if (asked.method, asked.path) == ("POST", "/oauth/token"):
            answer: Answer = self.create_token_response(asked)
            return answer
        if asked.path == "/user.json":
            account = self.tokens.get(asked.headers.get("Authorization", "").partition(" ")[2])
            if account is None:
                return Answer(b'{"error": "invalid_token"}', 401)
            return Answer(json.dumps(account.as_json()).encode())
        return _page("<h1>Not found</h1>", 404)

    def _ask(self, asked: Asked) -> Answer:
        """Who are you? A button for each account, and one to refuse."""
        request = self.create_oauth2_request(asked)
        try:
            self.get_authorization_grant(request).validate_authorization_request()
        except OAuth2Error as error:
            return _page(f"<h1>{html.escape(str(error))}</h1>", 400)
        query = html.escape(urlsplit(asked.url).query)
        buttons = "".join(
            f'<p><button name="uid" value="{uid}">{html.escape(account.name)}</button> '
            f"{html.escape(account.email)}, permissions: {', '.join(account.permissions) or '-'}"
            for uid, account in self.accounts.items()
        )
        refuse = '<p><button name="uid" value="">Cancel</button>'
        return _page(
            f'<h1>Sign in to Backdrop</h1><form method="post" action="?{query}">{buttons}{refuse}'
        )

    def _decide(self, asked: Asked) -> Answer:
        request = self.create_oauth2_request(asked)
        account = self.accounts.get(asked.form.get("uid", ""))
        grant = self.get_authorization_grant(request)
        answer: Answer = self.create_authorization_response(asked, account, grant)
        return answer


def _page(text: str, status: int = 200) -> Answer:
    whole = f"<!doctype html><html lang=en><title>Signon</title>{text}"
    return Answer(whole.encode(), status, {"Content-Type": "text/html; charset=utf-8"})


def main(environment: Mapping[str, str]) -> None:
    """Run until Ctrl-C, for Backdrop where these variables have it."""
    exports, addresses = addresses_of(environment)
    redirect_uris = tuple(f"{url}/_user/authorized" for url in addresses)
    signon = Signon(Registered(redirect_uris), ADA, BOB)
    with http_server(signon, port=PORT) as url:
        settings = {
            **exports,
            "BACKDROP_OAUTH_BASE_URL": url,
            "BACKDROP_OAUTH_CLIENT_ID": signon.application.client_id,
            "BACKDROP_OAUTH_CLIENT_SECRET": signon.application.client_secret,
        }
        lines = "\n".join(f"  export {name}={value}" for name, value in settings.items())
        print(f"""A sign-on service is ready at {url}. Start Backdrop in another terminal with

{lines}
  make run

and open {addresses[0]}/_user/sign_in
The secret is new each time this service starts.""")  # noqa: T201
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def addresses_of(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Where Backdrop is: the variables that say it other than by default, and its addresses."""
    exports = {
        name: environment[name]
        for name in ("BACKDROP_PORT", "BACKDROP_PUBLIC_URL")
        if environment.get(name)
    }
    port = exports.get("BACKDROP_PORT", "3038")
    own = [f"http://localhost:{port}", f"http://127.0.0.1:{port}"]
    public = exports.get("BACKDROP_PUBLIC_URL")
    return exports, [public.rstrip("/")] if public else own


if __name__ == "__main__":
    main(os.environ)
