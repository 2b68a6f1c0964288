"""The HTTP API as the commands use it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import httpx2

from backdrop.domain.loopback import is_loopback_url
from backdrop.refusals import NoAnswer, Refused

_TIMEOUT = httpx2.Timeout(10, read=300, write=60)
"""A batch may wait behind others' writes; whether there is a server shows at once."""
_MAKING_A_BACKUP = httpx2.Timeout(10, read=None)


class Client:
    """One server. Methods raise NoAnswer or Refused, and return the JSON of the answer."""

    def __init__(self, url: str, *, admin_token: str | None = None) -> None:
        self.url = url
        self._admin_token = admin_token
        # A proxy that is set for the outside must not stand between two programs of one machine.
        self._http = httpx2.Client(
            base_url=url, timeout=_TIMEOUT, trust_env=not is_loopback_url(url)
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    @property
    def is_admin(self) -> bool:
        """Whether there is an admin token to try."""
        return self._admin_token is not None

    def status(self) -> None:
        """Return if a server answers there, whatever it says of its store."""
        self._send("GET", "/_status", None, None, fine=(503,))

    # -- buckets ----------------------------------------------------------------------------

    def buckets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._admin("GET", "/_buckets")["buckets"]
        return found

    def bucket(self, name: str) -> dict[str, Any]:
        return self._admin("GET", _bucket_path(name))

    def put_bucket(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        return self._admin("PUT", _bucket_path(name), settings)

    def change_bucket(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        return self._admin("PATCH", _bucket_path(name), settings)

    def delete_bucket(self, name: str) -> None:
        self._admin("DELETE", _bucket_path(name))

    # -- tokens -----------------------------------------------------------------------------

    def tokens(self, bucket: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._admin("GET", f"{_bucket_path(bucket)}/tokens")["tokens"]
        return found

    def create_token(
        self, bucket: str, *, scope: str, label: str, expires_at: datetime | str | None = None
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"scope": scope, "label": label}
        if expires_at is not None:
            body["expires_at"] = (
                expires_at if isinstance(expires_at, str) else expires_at.isoformat()
            )
        return self._admin("POST", f"{_bucket_path(bucket)}/tokens", body)

    def revoke_token(self, bucket: str, token_id: str) -> None:
        self._admin("DELETE", f"{_bucket_path(bucket)}/tokens/{quote(token_id, safe='')}")

    # -- users ------------------------------------------------------------------------------

    def users(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._admin("GET", "/_users")["users"]
        return found

    def put_user(self, email: str, *, buckets: Sequence[str], admin: bool) -> dict[str, Any]:
        body = {"buckets": list(buckets), "admin": admin}
        return self._admin("PUT", _user_path(email), body)

    def delete_user(self, email: str) -> None:
        self._admin("DELETE", _user_path(email))

    # -- the audit log ----------------------------------------------------------------------

    def audit(
        self, *, bucket: str | None = None, limit: str | None = None, before: str | None = None
    ) -> list[dict[str, Any]]:
        asked = {"bucket": bucket, "limit": limit, "before": before}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        found: list[dict[str, Any]] = self._admin("GET", f"/_audit?{query}")["entries"]
        return found

    # -- backups ----------------------------------------------------------------------------

    @contextmanager
    def backup(self) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The size of a new backup, and its bytes. It may take long until there is one."""
        request = self._http.build_request("GET", "/_backup", timeout=_MAKING_A_BACKUP)
        if self._admin_token is not None:
            request.headers["Authorization"] = f"Bearer {self._admin_token}"
        with self._reaching():
            response = self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    response.read()
                    self._answer(response, ())
                yield int(response.headers["content-length"]), response.iter_bytes()
            finally:
                response.close()

    # -- records ----------------------------------------------------------------------------

    def post(self, bucket: str, body: bytes, *, token: str, key: str) -> bool:
        """Store the records of `body`, a JSON array, once under the key, however often it is sent.

        Returns whether they have been stored now, not before.
        """
        path, named = f"/{quote(bucket, safe='')}", {"Idempotency-Key": f'"{key}"'}
        response = self._ask("POST", path, body, token, named)
        self._answer(response, ())
        return "Idempotency-Replayed" not in response.headers

    # -- within -----------------------------------------------------------------------------

    def reads(self, bucket: str) -> bool:
        """Whether the server is also the read API."""
        try:
            return "GET" in self._allowed(f"/{quote(bucket, safe='')}")
        except NoAnswer:
            return True

    def _allowed(self, path: str) -> str:
        """The methods that the path knows; none where there is no such path."""
        return self._ask("OPTIONS", path, None, None, {}).headers.get("allow", "")

    def _admin(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body).encode()
        try:
            return self._send(method, path, content, self._admin_token)
        except Refused as error:
            if error.status == 404 and not self._allowed(path):
                message = f"{self.url} has no admin API: it is the write API that has one"
                raise Refused(404, message, [], 0) from None
            raise

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        token: str | None,
        *,
        fine: Collection[int] = (),
    ) -> dict[str, Any]:
        return self._answer(self._ask(method, path, content, token, {}), fine)

    def _ask(
        self,
        method: str,
        path: str,
        content: bytes | None,
        token: str | None,
        more: Mapping[str, str],
    ) -> httpx2.Response:
        headers = dict(more)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if content is not None:
            headers["Content-Type"] = "application/json"
        with self._reaching():
            return self._http.request(method, path, content=content, headers=headers)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            message = f"no server at {self.url}: start one with `backdrop serve` ({error})"
            raise NoAnswer(message) from None
        except httpx2.HTTPError as error:
            message = f"{self.url} broke off: {error or type(error).__name__}"
            raise NoAnswer(message) from None

    def _answer(self, response: httpx2.Response, fine: Collection[int]) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            message = f"{self.url} is not a Backdrop server: it answered {response.status_code}"
            raise Refused(response.status_code, f"{message} without a JSON object", [], 0)
        if response.is_success or response.status_code in fine:
            return answer
        errors = [one for one in answer.get("errors") or [] if isinstance(one, dict)]
        message = str(answer.get("message", f"the server answered {response.status_code}"))
        count = answer.get("error_count", len(errors))
        raise Refused(response.status_code, message, errors, count)


def _bucket_path(name: str) -> str:
    return f"/_buckets/{quote(name, safe='')}"


def _user_path(email: str) -> str:
    return f"/_users/{quote(email, safe='')}"
