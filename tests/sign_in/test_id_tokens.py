"""OpenID Connect: which ID tokens are believed, and which are not."""

from __future__ import annotations

import base64
import hmac
import json
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from backdrop.web.providers import OpenIdConnect
from tests.sign_in.conftest import Browser, Door, door_with, is_page, query_of
from tests.sign_in.http_server import Answer, Asked, http_server
from tests.sign_in.test_failures import REGISTRATION, as_json, says

Claims: TypeAlias = dict[str, Any]

DISCOVERY = "/.well-known/openid-configuration"
_RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
_KEYS: dict[str, Key] = {
    "RS256": _RSA,
    "PS256": RSAKey.generate_key(2048, {"kid": "pss"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
    "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
}
_STRANGER = RSAKey.generate_key(2048, {"kid": "rsa"})


class Service:
    """An OpenID Connect service whose every answer a test can make another one."""

    def __init__(self) -> None:
        self.url = ""
        self.nonce = ""
        self.keys = list(_KEYS.values())
        self.description: Claims = {}
        self.claims: Claims = {}
        self.header: Claims = {"alg": "RS256", "kid": "rsa"}
        self.sign: Callable[[Claims, Claims], str] = lambda header, claims: jwt.encode(
            header, claims, _KEYS.get(header["alg"], _RSA), algorithms=[*_KEYS]
        )
        self.token: Claims = {}
        self.userinfo: Claims = {}
        self.asked: list[Asked] = []

    def __call__(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        if asked.path == DISCOVERY:
            return as_json(without_none(self._description() | self.description))
        if asked.path == "/keys":
            return as_json({"keys": [key.as_dict(private=False) for key in self.keys]})
        if asked.path == "/token":
            token = {"access_token": "t", "token_type": "Bearer", "id_token": self._id_token()}
            return as_json(without_none(token | self.token))
        if asked.path == "/me":
            return as_json(self.userinfo)
        return says(b"{}", 404)(asked)

    def _description(self) -> Claims:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/auth",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/me",
            "id_token_signing_alg_values_supported": ["RS256", "none", "HS256"],
        }

    def _id_token(self) -> str:
        now = int(time.time())
        known: Claims = {
            "iss": self.url,
            "sub": "ada",
            "aud": REGISTRATION.client_id,
            "iat": now,
            "exp": now + 300,
            "nonce": self.nonce,
            "email": "ada@example.org",
            "email_verified": True,
            "name": "Ada",
        }
        return self.sign(self.header, without_none(known | self.claims))


def without_none(claims: Claims) -> Claims:
    return {name: value for name, value in claims.items() if value is not None}


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    with http_server(service) as url:
        service.url = url
        yield service


@pytest.fixture
def door(service: Service) -> Door:
    return door_with(OpenIdConnect(service.url + DISCOVERY, REGISTRATION))


@pytest.fixture
def browser(door: Door) -> Browser:
    return door.browser()


def sign_in(browser: Browser, service: Service, *, nonce: str | None = None) -> Any:
    asked = query_of(browser.leave())
    service.nonce = asked["nonce"] if nonce is None else nonce
    return browser.get(f"/_user/authorized?code=c&state={asked['state']}")


# -- believed ----------------------------------------------------------------------------------


def test_the_browser_is_sent_as_the_description_says(browser: Browser, service: Service) -> None:
    address = browser.leave()
    asked = query_of(address)
    assert address.startswith(f"{service.url}/auth?")
    assert asked["scope"] == "openid email profile"
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["nonce"]) >= 43
    assert asked["nonce"] != query_of(browser.leave())["nonce"]


@pytest.mark.parametrize("algorithm", _KEYS)
def test_a_signature_of_the_service_is_believed(
    browser: Browser, service: Service, algorithm: str
) -> None:
    service.header = {"alg": algorithm, "kid": _KEYS[algorithm].kid}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc would have EdDSA called Ed25519
        service.sign = lambda header, claims: jwt.encode(
            header, claims, _KEYS[algorithm], algorithms=[algorithm]
        )
        assert sign_in(browser, service).status_code == 303
    assert is_page(browser.get("/_user"), 200, "Ada (ada@example.org)")


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [REGISTRATION.client_id]},
        {"aud": [REGISTRATION.client_id, "other"], "azp": REGISTRATION.client_id},
        {"exp": lambda: int(time.time()) - 30},  # a clock may be off by a minute
        {"email_verified": None},
        {"email_verified": "true"},
        {"more": {"roles": []}},
    ],
)
def test_what_is_allowed_is_believed(browser: Browser, service: Service, claims: Claims) -> None:
    service.claims = {name: one() if callable(one) else one for name, one in claims.items()}
    assert sign_in(browser, service).status_code == 303


def test_a_header_may_hold_more(browser: Browser, service: Service) -> None:
    service.header |= {"x5t": "x", "pi.atm": "2"}
    lenient = JWSRegistry(algorithms=["RS256"], strict_check_header=False)
    service.sign = lambda header, claims: jwt.encode(header, claims, _RSA, registry=lenient)
    assert sign_in(browser, service).status_code == 303


def test_one_key_needs_no_name(browser: Browser, service: Service) -> None:
    service.keys, service.header = [_RSA], {"alg": "RS256"}
    assert sign_in(browser, service).status_code == 303


def test_keys_may_change(browser: Browser, service: Service) -> None:
    """From one sign-in to the next, without a restart."""
    assert sign_in(browser, service).status_code == 303
    service.keys = [_STRANGER]
    service.sign = lambda header, claims: jwt.encode(header, claims, _STRANGER)
    assert sign_in(browser, service).status_code == 303


@pytest.mark.parametrize("in_form", [True, False])
def test_the_secret_goes_where_the_service_wants_it(
    browser: Browser, service: Service, in_form: bool
) -> None:
    if in_form:
        methods = ["private_key_jwt", "client_secret_post"]
        service.description = {"token_endpoint_auth_methods_supported": methods}
    assert sign_in(browser, service).status_code == 303
    [token] = [asked for asked in service.asked if asked.path == "/token"]
    assert ("client_secret" in token.form) is in_form
    assert ("Authorization" in token.headers) is not in_form


@pytest.mark.parametrize(
    ("claims", "shown"),
    [
        ({"name": None, "preferred_username": "adal"}, "adal (ada@example.org)"),
        ({"name": None}, "ada@example.org"),
        ({"name": "", "email": "ADA@Example.org"}, "ADA@Example.org"),
    ],
)
def test_names_come_from_the_claims(
    browser: Browser, service: Service, claims: Claims, shown: str
) -> None:
    service.claims = claims
    sign_in(browser, service)
    assert is_page(browser.get("/_user"), 200, shown)


def test_an_address_that_the_token_lacks_is_asked_for(browser: Browser, service: Service) -> None:
    service.claims = {"email": None, "email_verified": None, "name": None}
    service.userinfo = {"sub": "ada", "email": "ada@example.net", "name": "Ada B."}
    assert sign_in(browser, service).status_code == 303
    [asked] = [asked for asked in service.asked if asked.path == "/me"]
    assert asked.headers["Authorization"] == "Bearer t"
    assert is_page(browser.get("/_user"), 200, "Ada B. (ada@example.net)")


# -- not believed ------------------------------------------------------------------------------


def _unsigned(header: Claims, claims: Claims) -> str:
    return f"{_encoded(header)}.{_encoded(claims)}."


def _by_public_key(header: Claims, claims: Claims) -> str:
    """Signed with what everybody knows, as if it was a shared secret."""
    text = f"{_encoded(header)}.{_encoded(claims)}"
    signature = hmac.digest(_RSA.as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{_base64(signature)}"


def _encoded(part: Claims) -> str:
    return _base64(json.dumps(part).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _tampered(header: Claims, claims: Claims) -> str:
    whole = jwt.encode(header, claims, _RSA)
    other = jwt.encode(header, claims | {"email": "eve@example.org"}, _RSA)
    first, _, signature = whole.split(".")
    return ".".join([first, other.split(".")[1], signature])


_FORGED: dict[str, tuple[Claims, Callable[[Claims, Claims], str]]] = {
    "none": ({"alg": "none"}, _unsigned),
    "None": ({"alg": "None"}, _unsigned),
    "no alg": ({}, _unsigned),
    "none, with a key's name": ({"alg": "none", "kid": "rsa"}, _unsigned),
    "unsigned": ({"alg": "RS256", "kid": "rsa"}, _unsigned),
    "shared": ({"alg": "HS256", "kid": "rsa"}, _by_public_key),
    "tampered": ({"alg": "RS256", "kid": "rsa"}, _tampered),
    "stranger": (
        {"alg": "RS256", "kid": "rsa"},
        lambda header, claims: jwt.encode(header, claims, _STRANGER),
    ),
    "unknown key": (
        {"alg": "RS256", "kid": "unknown"},
        lambda header, claims: jwt.encode(header, claims, _RSA),
    ),
    "no key's name": ({"alg": "RS256"}, lambda header, claims: jwt.encode(header, claims, _RSA)),
    "its own key": (
        {"alg": "RS256", "jwk": _STRANGER.as_dict(private=False)},
        lambda header, claims: jwt.encode(header, claims, _STRANGER),
    ),
    "another's kind of key": (
        {"alg": "RS256", "kid": "ec"},
        lambda header, claims: jwt.encode(header, claims, _RSA),
    ),
}


@pytest.mark.parametrize("name", _FORGED)
def test_a_forged_token_is_not_believed(browser: Browser, service: Service, name: str) -> None:
    service.header, service.sign = _FORGED[name]
    assert is_page(sign_in(browser, service), 502, "ID token", "can&#39;t be trusted", "Try again")
    assert not browser.is_signed_in()


_NOW = int(time.time())


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"iss": ["x"]},
        {"aud": "other"},
        {"aud": None},
        {"aud": []},
        {"aud": "other", "azp": REGISTRATION.client_id},
        {"aud": [REGISTRATION.client_id, "other"], "azp": "other"},
        {"aud": [REGISTRATION.client_id, "other"]},
        {"exp": _NOW - 120},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": _NOW + 10_000},
        {"iat": None},
        {"nbf": _NOW + 10_000},
        {"sub": None},
        {"nonce": None},
        {"nonce": "other"},
        {"nonce": ""},
        {"nonce": 1},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    ],
)
def test_a_token_for_something_else_is_not_believed(
    browser: Browser, service: Service, claims: Claims
) -> None:
    service.claims = claims
    assert is_page(sign_in(browser, service), 502, "ID token", "can&#39;t be trusted")
    assert not browser.is_signed_in()


def test_the_token_of_another_sign_in_is_not_believed(browser: Browser, service: Service) -> None:
    """Though it is the same person's: its nonce is another."""
    old = query_of(browser.leave())["nonce"]
    assert is_page(sign_in(browser, service, nonce=old), 502, "can&#39;t be trusted")


@pytest.mark.parametrize(
    "id_token", [None, "", "a.b", "a.b.c", "....", 1, {}, [], "\u00e9.\u00e9.\u00e9"]
)
def test_what_is_no_token_is_not_believed(
    browser: Browser, service: Service, id_token: object
) -> None:
    service.token = {"id_token": id_token}
    assert is_page(sign_in(browser, service), 502, "can&#39;t be trusted")


@pytest.mark.parametrize("verified", [False, "false", 0, "", "no"])
@pytest.mark.parametrize("asked_for", [False, True])
def test_an_address_that_is_not_verified_is_nobodys(
    browser: Browser, service: Service, verified: object, asked_for: bool
) -> None:
    """Whoever wants to could give another's."""
    claims = {"email": "ada@example.org", "email_verified": verified}
    if asked_for:
        service.claims = {"email": None, "email_verified": None}
        service.userinfo = claims | {"sub": "ada"}
    else:
        service.claims = claims
    assert is_page(sign_in(browser, service), 403, "is not verified", "Sign in again")
    assert not browser.is_signed_in()


@pytest.mark.parametrize("sub", ["eve", None, ["ada"]])
def test_another_persons_address_is_not_taken(
    browser: Browser, service: Service, sub: object
) -> None:
    service.claims = {"email": None}
    service.userinfo = {"sub": sub, "email": "eve@example.org"}
    assert is_page(sign_in(browser, service), 502, "another person")


@pytest.mark.parametrize("email", [None, "", "ada", 5, ["ada@example.org"]])
def test_without_an_address_nobody_is_signed_in(
    browser: Browser, service: Service, email: object
) -> None:
    service.claims, service.userinfo = {"email": email}, {"sub": "ada"}
    assert is_page(sign_in(browser, service), 502, "gave no e-mail address")


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": None},
        {"authorization_endpoint": None},
        {"token_endpoint": 5},
        {"jwks_uri": "ftp://example.org"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"userinfo_endpoint": "//evil.example"},
    ],
)
def test_a_description_that_can_not_be_used_is_said_to_be(
    browser: Browser, service: Service, description: Claims
) -> None:
    service.description = description
    assert is_page(browser.get("/_user/sign_in"), 502, "sign-in service", "Try again")


@pytest.mark.parametrize(
    "keys", [b"{}", b'{"keys": []}', b'{"keys": [{"kty": "x"}]}', b'{"keys": 5}']
)
def test_keys_that_can_not_be_used_are_said_to_be(keys: bytes) -> None:
    service = Service()

    def answer(asked: Asked) -> Answer:
        return says(keys)(asked) if asked.path == "/keys" else service(asked)

    with http_server(answer) as service.url:
        browser = door_with(OpenIdConnect(service.url + DISCOVERY, REGISTRATION)).browser()
        assert is_page(sign_in(browser, service), 502, "can&#39;t be trusted")
