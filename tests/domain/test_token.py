"""Tokens: their form, their hash, their end."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from backdrop.domain.token import SCOPES, Token, hash_token, is_token

NOW = datetime(2013, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["12345678", "x" * 200, "".join(map(chr, range(0x21, 0x7F))), "!!!!!!!!", "~~~~~~~~"]
)
def test_8_to_200_printable_characters_are_a_token(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1234567",
        "x" * 201,
        "1234 5678",
        " 12345678",
        "12345678\n",
        "1234567\t8",
        "12345678é",
        "1234567\x7f8",
        "1234567\0",
        "\uff11" * 8,
    ],
)
def test_nothing_else_is(text: str) -> None:
    assert not is_token(text)


def test_a_hash_is_sha_256_in_hexadecimal() -> None:
    assert hash_token("12345678") == hashlib.sha256(b"12345678").hexdigest()
    assert hash_token("12345678") != hash_token("12345679")
    assert len(hash_token("x")) == 64


def test_the_scopes_are_write_and_read() -> None:
    assert SCOPES == ("write", "read")


def token(expires_at: datetime | None) -> Token:
    return Token(
        id="t1",
        bucket="things",
        hash=hash_token("12345678"),
        scope="read",
        label="",
        created_at=NOW,
        expires_at=expires_at,
    )


def test_a_token_without_an_end_never_expires() -> None:
    assert not token(None).expired(datetime.max.replace(tzinfo=UTC))


def test_a_token_expires_at_its_end_not_before() -> None:
    end = NOW + timedelta(hours=1)
    assert not token(end).expired(end - timedelta(microseconds=1))
    assert token(end).expired(end)
    assert token(end).expired(end + timedelta(microseconds=1))
