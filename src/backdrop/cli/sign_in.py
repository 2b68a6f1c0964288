"""How people sign in to the pages of a server: from its settings, and in words at its start."""

from __future__ import annotations

from urllib.parse import urlsplit

from backdrop.cli.output import Stop
from backdrop.domain.loopback import is_loopback_url
from backdrop.settings import Settings, variable
from backdrop.web.provider import Provider
from backdrop.web.sign_in import CALLBACK, Link, SignIn

SIGN_IN = (
    "public_url",
    "oauth_base_url",
    "oidc_discovery_url",
    "oauth_client_id",
    "oauth_client_secret",
)
"""The settings that say it."""


def sign_in_of(settings: Settings, address: str, *, local: bool) -> SignIn:
    """How people sign in to the server at `address`, which is `local` to this machine or not.

    Raises Stop for half a configuration.
    """
    provider, public_url = _provider(settings), settings.public_url
    if not local and public_url is None and provider is not None:
        raise Stop(
            f"set {variable('public_url')}: the sign-in service sends browsers back to "
            f"{CALLBACK} below it, such as https://backdrop.example.org{CALLBACK}"
        )
    return SignIn(
        addresses=_own_addresses(address) if public_url is None else (public_url,),
        provider=provider,
        # A public address says that a proxy lets others in.
        links=local and provider is None and is_loopback_url(public_url or address),
    )


def _own_addresses(address: str) -> tuple[str, ...]:
    """The address as the server prints it, and by the name that people type."""
    by_name = f"http://localhost:{urlsplit(address).port}"
    return tuple(dict.fromkeys((address, by_name)))


def _provider(settings: Settings) -> Provider | None:
    signon, connect = settings.oauth_base_url, settings.oidc_discovery_url
    client_id, secret = settings.oauth_client_id, settings.oauth_client_secret
    service = variable("oauth_base_url") + " or " + variable("oidc_discovery_url")
    if signon and connect:
        raise Stop(f"{service}: set one of them, there is one sign-in service")
    needed = {
        service: signon or connect,
        variable("oauth_client_id"): client_id,
        variable("oauth_client_secret"): secret,
    }
    missing = [name for name, value in needed.items() if not value]
    if len(missing) == len(needed):
        return None
    if missing or client_id is None or secret is None:
        raise Stop(f"the sign-in service is configured by half: set {', and '.join(missing)} too")
    # Here, not above: it brings what speaks OAuth, which takes time and memory, and few need it.
    from backdrop.web.providers import OpenIdConnect, Registration, Signon

    registration = Registration(client_id=client_id, client_secret=secret.reveal())
    if signon:
        return Signon(signon, registration)
    return OpenIdConnect(connect or "", registration)


def sign_in_words(sign_in: SignIn | None, link: Link | None) -> str:
    """How the pages are opened, for the person who starts the server."""
    if sign_in is None:
        return "none: the read API has no pages"
    if sign_in.provider is not None:
        first = sign_in.addresses[0]
        service = f"{sign_in.provider.url} (back to {first}{CALLBACK})"
        return f"open {first}/_user, signing in by {service}"
    if link is None:
        service = f"{variable('oauth_base_url')} or {variable('oidc_discovery_url')}"
        return f"nobody can sign in: set {service}"
    return f"upload a spreadsheet: open {link.url(sign_in)} (once, within an hour)"
