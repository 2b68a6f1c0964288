"""`make signon` follows Backdrop to another port or address."""

from __future__ import annotations

import pytest

from tests.sign_in.signon import addresses_of


@pytest.mark.parametrize(
    ("environment", "addresses"),
    [
        ({}, ["http://localhost:3038", "http://127.0.0.1:3038"]),
        ({"BACKDROP_PORT": "3041"}, ["http://localhost:3041", "http://127.0.0.1:3041"]),
        (
            {"BACKDROP_PORT": "3041", "BACKDROP_PUBLIC_URL": "https://b.example.org/"},
            ["https://b.example.org"],
        ),
    ],
)
def test_it_knows_where_backdrop_is(environment: dict[str, str], addresses: list[str]) -> None:
    assert addresses_of(environment | {"HOME": "x"}) == (environment, addresses)
