"""Sign-in services: where a browser is sent, and who it is that comes back.

OAuth 2.0 and OpenID Connect are Authlib's, over httpx2. Every exchange with a service is bounded in
time and in bytes, and follows no redirect. What goes wrong with it is SignInExpired (a code that is
used up), SignInRefused, ProviderFailed or ProviderTimedOut; no message holds what was exchanged.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import anyio
import httpx2
import msgspec
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from backdrop.domain.loopback import is_loopback_url
from backdrop.domain.user import is_email
from backdrop.errors import ProviderFailed, ProviderTimedOut, SignInExpired, SignInRefused
from backdrop.web.provider import Attempt, Person, told_error

T = TypeVar("T")

MOST_BYTES = 2**20
"""Of one answer of a service."""

_MOST_NAME_CHARACTERS = 200
_LEEWAY = 60
"""Seconds that a service's clock may be off."""

_ALGORITHMS = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
]
"""Of ID tokens: signatures that only the service can make. Neither `none` nor a shared secret."""

_MALFORMED = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What Authlib and joserfc raise for JSON of another shape than they expect."""

_is_access_token = re.compile(r"[\x21-\x7e]+").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How a service knows Backdrop, and for how long an exchange with it may go on."""

    client_id: str
    client_secret: str = field(repr=False)
    seconds: float = 15


# -- GOV.UK Signon ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _SignonUser:
    email: str
    permissions: list[str] = field(default_factory=list)
    name: str | None = None


@dataclass(frozen=True, slots=True)
class _SignonAnswer:
    user: _SignonUser


@dataclass(frozen=True, slots=True)
class Signon:
    """GOV.UK Signon, and what speaks as it does: OAuth 2.0, and `/user.json`."""

    url: str
    registration: Registration

    async def authorize_url(self, attempt: Attempt, state: str) -> str:
        async with _exchange(self.url, self.registration) as client:
            return _authorize_url(client, f"{self.url}/oauth/authorize", attempt, state)

    async def person(self, attempt: Attempt, code: str) -> Person:
        async with _exchange(self.url, self.registration) as client:
            token = await _token(client, f"{self.url}/oauth/token", attempt, code)
            address = f"{self.url}/user.json"
            user = (await _get(client, address, _SignonAnswer, token["access_token"])).user
        if "signin" not in user.permissions:
            raise SignInRefused(
                f"{_shortened(user.email)} has no permission to sign in here: whoever runs the "
                "sign-in service can give you the permission 'signin' for Backdrop"
            )
        return _person(user.email, user.name)


# -- OpenID Connect ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Discovered:
    """What is needed of a service's description of itself (OpenID Connect Discovery 1.0, 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: list[str] = field(default_factory=list)

    def endpoints(self) -> list[str]:
        known = (self.authorization_endpoint, self.token_endpoint, self.jwks_uri)
        return [*known, *([self.userinfo_endpoint] if self.userinfo_endpoint else [])]


@dataclass(frozen=True, slots=True)
class OpenIdConnect:
    """Any OpenID Connect service, by the address of its description (`url`).

    The description and the keys are asked for at each sign-in, so that keys may change.
    """

    url: str
    registration: Registration

    async def authorize_url(self, attempt: Attempt, state: str) -> str:
        async with _exchange(self.url, self.registration) as client:
            address = (await self._discover(client)).authorization_endpoint
            more = {"nonce": attempt.nonce, "scope": "openid email profile"}
            return _authorize_url(client, address, attempt, state, **more)

    async def person(self, attempt: Attempt, code: str) -> Person:
        async with _exchange(self.url, self.registration) as client:
            found = await self._discover(client)
            if "client_secret_post" in found.token_endpoint_auth_methods_supported:
                # In a form every secret is unambiguous; in the header not all services agree.
                client.token_endpoint_auth_method = "client_secret_post"  # noqa: S105  a method
            token = await _token(client, found.token_endpoint, attempt, code)
            keys = await _get(client, found.jwks_uri, dict[str, Any])
            claims = self._checked(token, keys, found.issuer, attempt.nonce)
            if "email" not in claims and found.userinfo_endpoint:
                address, subject = found.userinfo_endpoint, claims["sub"]
                claims = await _get(client, address, dict[str, Any], token["access_token"])
                if claims.get("sub") != subject:
                    raise ProviderFailed("the sign-in service told of another person")
        if claims.get("email_verified", True) not in (True, "true"):
            raise SignInRefused(
                "your e-mail address is not verified: have the sign-in service verify it first"
            )
        return _person(claims.get("email"), claims.get("name") or claims.get("preferred_username"))

    async def _discover(self, client: AsyncOAuth2Client) -> _Discovered:
        found = await _get(client, self.url, _Discovered)
        schemes = ("https://",) if self.url.startswith("https://") else ("https://", "http://")
        if not all(endpoint.startswith(schemes) for endpoint in found.endpoints()):
            raise ProviderFailed("the sign-in service describes itself with an unsafe address")
        return found

    def _checked(
        self, token: Mapping[str, Any], keys: dict[str, Any], issuer: str, nonce: str
    ) -> dict[str, Any]:
        """The claims of the ID token, once they are known to be the service's and for this."""
        client_id = self.registration.client_id
        expected = {"iss": issuer, "aud": client_id, "nonce": nonce}
        try:
            decoded = jwt.decode(
                token.get("id_token", ""),
                KeySet.import_key_set(keys),  # type: ignore[arg-type]  # it refuses what is none
                # Services put more into the header than the standards name.
                registry=JWSRegistry(algorithms=_ALGORITHMS, strict_check_header=False),
            )
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                {name: {"essential": True, "value": value} for name, value in expected.items()},
                {"nonce": nonce, "client_id": client_id, "access_token": token["access_token"]},
            )
            claims.validate(leeway=_LEEWAY)
        except (JoseError, *_MALFORMED) as error:
            raise ProviderFailed(
                f"the ID token of the sign-in service can't be trusted ({type(error).__name__})"
            ) from None
        return dict(claims)


# -- what both do -----------------------------------------------------------------------------


@asynccontextmanager
async def _exchange(url: str, registration: Registration) -> AsyncIterator[AsyncOAuth2Client]:
    """A client for a few requests to one service; what goes wrong there is an error of ours."""
    client = AsyncOAuth2Client(
        registration.client_id,
        registration.client_secret,
        code_challenge_method="S256",
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        event_hooks={"response": [_bound]},
        timeout=registration.seconds,
        trust_env=not is_loopback_url(url),  # a proxy for the outside is not for this machine
        verify=_tls(),
    )
    try:
        with anyio.fail_after(registration.seconds):
            async with client:
                yield client
    except (TimeoutError, httpx2.TimeoutException):
        raise ProviderTimedOut("the sign-in service did not answer in time") from None
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        raise ProviderFailed(f"the sign-in service answered with the status {status}") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        message = f"the sign-in service can't be reached ({type(error).__name__})"
        raise ProviderFailed(message) from None


@cache
def _tls() -> ssl.SSLContext:
    """Made once: it reads all the certificates that this machine trusts."""
    return httpx2.create_ssl_context()


class _Bounded(httpx2.AsyncByteStream):
    """A body that may have so many bytes and no more."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > MOST_BYTES:
                raise ProviderFailed("the sign-in service's answer is too large")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ProviderFailed("the sign-in service's answer is packed, which was not asked for")
    assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101  the client is async
    response.stream = _Bounded(response.stream)


def _authorize_url(
    client: AsyncOAuth2Client, address: str, attempt: Attempt, state: str, **more: str
) -> str:
    url, _ = client.create_authorization_url(
        address,
        state=state,
        redirect_uri=attempt.redirect_uri,
        code_verifier=attempt.code_verifier,
        **more,
    )
    return str(url)


async def _token(
    client: AsyncOAuth2Client, address: str, attempt: Attempt, code: str
) -> Mapping[str, Any]:
    """What the service gives for the code: an `access_token`, at least."""
    try:
        token = await client.fetch_token(
            address,
            grant_type="authorization_code",
            code=code,
            redirect_uri=attempt.redirect_uri,
            code_verifier=attempt.code_verifier,
        )
    except OAuthError as error:
        if error.error == "invalid_grant":
            raise SignInExpired("this sign-in took too long, or was used already") from None
        told = told_error(str(error.error))
        raise ProviderFailed(f"the sign-in service refused Backdrop's request{told}") from None
    except _MALFORMED:
        raise ProviderFailed("the sign-in service's answer is not what was expected") from None
    access_token = token.get("access_token")
    if not isinstance(access_token, str) or not _is_access_token(access_token):
        raise ProviderFailed("the sign-in service gave no access token")
    found: Mapping[str, Any] = token
    return found


async def _get(
    client: AsyncOAuth2Client, address: str, form: type[T], access_token: str | None = None
) -> T:
    """The JSON at the address, in that form."""
    headers = {} if access_token is None else {"Authorization": f"Bearer {access_token}"}
    answer = await client.request("GET", address, headers=headers, withhold_token=True)
    answer.raise_for_status()
    try:
        return msgspec.json.decode(answer.content, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ProviderFailed("the sign-in service's answer is not what was expected") from None


def _person(email: object, name: object) -> Person:
    if not isinstance(email, str) or not is_email(email):
        raise ProviderFailed("the sign-in service gave no e-mail address")
    shown = _shortened(name) if isinstance(name, str) else ""
    return Person(email, shown or email)


def _shortened(text: str) -> str:
    """The text as it can be shown: on one line, and not too long."""
    return " ".join("".join(one for one in text if one.isprintable()).split())[
        :_MOST_NAME_CHARACTERS
    ]
