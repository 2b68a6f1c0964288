"""Every exception that Backdrop raises on purpose.

    BackdropError                 code, message, problems
    ├── InvalidRequest            what was sent can't be understood or used
    │   ├── InvalidRecords        records break the rules of fields, values, times, ids or schema
    │   ├── InvalidQuery          parameters of a GET
    │   ├── InvalidSettings       settings of a bucket, a token or a user
    │   └── InvalidBody           the body is not the JSON that was expected
    ├── Unauthorized              no token, or none that is known
    ├── Forbidden                 a token that opens another door
    ├── NotFound                  no such bucket, record, token or route
    ├── MethodNotAllowed          the route knows other methods
    ├── Conflict                  something else has that place already
    ├── BodyTooLarge              past a size limit
    ├── UnsupportedMediaType      a content type or encoding that is not understood
    └── StorageUnavailable        the store doesn't answer

Nothing here knows HTTP: the one table from exception to status is in `backdrop.api.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

MOST_PROBLEMS_LISTED = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: a stable code, a sentence, and where.

    `where` holds what locates it: `index` and `field` of a record, `parameter` of a query,
    `setting` of a bucket, `line` and `column` of a body.
    """

    code: str
    message: str
    where: dict[str, str | int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The problem as it stands in an answer: `{"code", …where, "message"}`."""
        return {"code": self.code, **self.where, "message": self.message}


class BackdropError(Exception):
    """The root. `problems` lists each thing that is wrong, at least one."""

    default_code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        problems: Sequence[Problem] = (),
        count: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.problems = tuple(problems) or (Problem(code or self.default_code, message),)
        self.count = len(self.problems) if count is None else count
        """How many problems there are; `problems` holds the first `MOST_PROBLEMS_LISTED`."""


class InvalidRequest(BackdropError):
    default_code = "invalid_request"


class InvalidRecords(InvalidRequest):
    default_code = "invalid_record"


class InvalidQuery(InvalidRequest):
    default_code = "invalid_parameter"


class InvalidSettings(InvalidRequest):
    default_code = "invalid_setting"


class InvalidBody(InvalidRequest):
    default_code = "invalid_body"


class Unauthorized(BackdropError):
    default_code = "unauthorized"


class Forbidden(BackdropError):
    default_code = "forbidden"


class NotFound(BackdropError):
    default_code = "not_found"


class MethodNotAllowed(BackdropError):
    default_code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class Conflict(BackdropError):
    default_code = "conflict"


class BodyTooLarge(BackdropError):
    default_code = "body_too_large"


class UnsupportedMediaType(BackdropError):
    default_code = "unsupported_media_type"


class StorageUnavailable(BackdropError):
    default_code = "storage_unavailable"
