"""Every exception that Backdrop raises on purpose.

    BackdropError                 code, message, problems
    ├── InvalidRequest            what was sent can't be understood or used
    │   ├── AmbiguousRequest      headers that others on its way may understand otherwise
    │   ├── BodyBrokeOff          a body that has no end
    │   ├── InvalidRecords        records break the rules of fields, values, times, ids or schema
    │   ├── InvalidQuery          parameters of a GET
    │   ├── InvalidSettings       settings of a bucket, a token or a user
    │   ├── InvalidBody           the body is not the JSON that was expected
    │   └── SignInExpired         a sign-in that can't be gone on with: late, used, or another's
    ├── Unauthorized              no token, or none that is known
    ├── Forbidden                 a token that opens another door
    │   └── SignInRefused         someone is not to be signed in, or did not want to be
    ├── NotFound                  no such bucket, record, token or route
    ├── MethodNotAllowed          the route knows other methods
    ├── Conflict                  something else has that place already
    ├── KeyReused                 an idempotency key that another request has used
    ├── BodyTooLarge              past a size limit
    ├── ClientTooSlow             a body or an answer that goes over the line too slowly
    ├── UnsupportedMediaType      a content type or encoding that is not understood
    ├── ProviderFailed            the sign-in service does not answer as it should
    │   ├── ProviderRefused       or sends a browser back with an error
    │   └── ProviderTimedOut      or not in time
    ├── TooManyRequests           more at once, or in a second, than is allowed
    ├── QueryTooSlow              a query past the time that it may take
    ├── QueryTooLarge             a query past the memory that the engine may take
    └── StorageUnavailable        the store doesn't answer
        └── StorageFull           its disk takes no more

Nothing here knows HTTP: the one table from exception to status is in `backdrop.api.errors`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

MOST_PROBLEMS_LISTED = 100

CODES: Mapping[str, str] = {
    # any request
    "not_found": "There is no such path, bucket, record or token, or the bucket is not to be read: "
    "check the address.",
    "method_not_allowed": "The path is there, but not for this method: use one that `Allow` names.",
    "unauthorized": "A token is needed, and none was sent or it is not known or has expired: send "
    "`Authorization: Bearer <token>`.",
    "forbidden": "The token is good, but for another bucket, another scope, or records rather than "
    "administration: send the one that is for this.",
    "storage_unavailable": "The store does not answer: nothing was changed; try again after "
    "`Retry-After`, but if the message says that the store's file is damaged.",
    "outcome_unknown": "The store did not say whether it kept the write: it is whole, or not there "
    "at all. Send it again, with the same `Idempotency-Key` if it had one; without one only if its "
    "records have an `_id` or get one by `auto_ids`, else look first.",
    "storage_full": "The store's disk is full, so nothing was stored, and nothing is lost: reading "
    "goes on; send it again once there is room.",
    "storage_write_failed": "The store's disk refused to write, so nothing was stored: look at the "
    "disk; send it again once it is well.",
    "query_too_slow": "The query took longer than it may: ask for a shorter range, or fewer "
    "groups.",
    "query_too_large": "The query took more memory and temporary files than the engine may: "
    "ask for a shorter range or fewer groups, or when less is asked at once.",
    "too_many_queries": "More queries run and wait here than may: try again after `Retry-After`.",
    "too_many_requests": "This token, or this address, sends more requests a second than it may: "
    "go on after `Retry-After`.",
    "too_many_bodies": "The bodies that are under way here have more bytes than they may, and "
    "this one came the most slowly: nothing was stored; send it again after `Retry-After`.",
    "internal_error": "A fault of the server: report it with the answer's `request_id`.",
    "invalid_request": "What was asked for can't be understood: see what the message expects.",
    "ambiguous_request": "The headers do not say, or say twice, where the request ends or whom it "
    "is for: send one valid `Host`, and one of `Content-Length` and `Transfer-Encoding: chunked`.",
    # writes that are sent again
    "invalid_idempotency_key": "The header `Idempotency-Key` is not what it takes: send 1 to 255 "
    "printable ASCII characters in quotes, such as a UUID, once.",
    "idempotency_key_reused": "The bucket has stored another request under this "
    "`Idempotency-Key`, and nothing of this one: give each its own.",
    # bodies
    "body_too_large": "The body is past a size limit, as sent or unpacked: send smaller batches.",
    "body_too_slow": "The body took too long to arrive: send it in smaller batches, or over a "
    "better line.",
    "body_broke_off": "The body ended before it was whole, or its chunks are not as "
    "`Transfer-Encoding: chunked` has them: nothing was stored; send it again.",
    "unsupported_media_type": "The body is not declared as JSON in UTF-8: send "
    "`Content-Type: application/json`.",
    "unsupported_content_encoding": "The body is packed in a way that is not understood: send it "
    "plain, or with `Content-Encoding: gzip` or `zstd`.",
    "invalid_body": "The body is empty, broken, or not an object (or array) as expected here: see "
    "the message.",
    "invalid_json": "The body is not JSON: see the `line` and `column` at which it breaks.",
    # records
    "not_an_object": "An item of the batch is not a JSON object: send objects alone.",
    "empty_record": "The record has no field: give it at least one.",
    "invalid_field_name": "The name can't be a field's: use 2 to 64 letters, digits and `_`, not "
    "with a digit first.",
    "reserved_field": "Names that begin with `_` are reserved: use another, or one of `_id`, "
    "`_timestamp`, `_start_at`, `_end_at`.",
    "invalid_value": "A value is a list or an object: records are flat, of strings, numbers, "
    "`true`, `false` and `null`.",
    "integer_out_of_range": "The integer does not fit 64 bits: send it as a string or a float.",
    "number_not_finite": "NaN and the infinities are not numbers here: leave the field out, or "
    "send `null`.",
    "invalid_string": "The string holds half of a surrogate pair, which is no character: mend the "
    "text at its source.",
    "invalid_timestamp": "The value is not a time, or no such time exists: write it as "
    "`2013-01-31` or `2013-01-31T09:30:00Z`.",
    "invalid_id": "The `_id` is not a string of 1 to 512 characters without white space: shorten "
    "or change it.",
    "id_mismatch": "The `_id`, or a field that makes it, differs from what it must be: leave it "
    "out, or write a new record.",
    "missing_field": "The record lacks a field that makes its `_id` in this bucket: give it "
    "(`null` counts).",
    "schema_violation": "The record does not satisfy the bucket's JSON Schema: see the message.",
    # parameters of a GET
    "unknown_parameter": "There is no such parameter: check the spelling.",
    "repeated_parameter": "A parameter, or a field of `group_by`, is given more than once: give "
    "it once.",
    "invalid_parameter": "The parameter's value is not what it takes: see what the message "
    "expects.",
    "missing_parameter": "A parameter needs another one: add the one that is named.",
    "conflicting_parameters": "Parameters that exclude each other are given: leave one out.",
    "invalid_range": "The range ends before it begins, or leaves the years 1 to 9999: change its "
    "ends.",
    "internal_field": "Fields that begin with `_` can't be grouped or collected: name another, or "
    "use `period` for time.",
    "unknown_sort_key": "The answer has no such key to sort by: use one that the message names.",
    "not_a_number": "A `sum` or `mean` met a value that is not a number: collect another field, or "
    "filter.",
    "too_many_rows": "The answer would be too large: ask for a shorter range, longer periods, or "
    "fewer groups.",
    # buckets whose records are not public
    "raw_query_not_allowed": "This bucket's records are not public: ask for groups, with "
    "`group_by` or `period`.",
    "range_too_short": "The range is too short for a bucket whose records are not public: ask for "
    "at least 7 days.",
    "not_midnight": "The range of such a bucket must begin and end at midnight of the query's "
    "timezone: move the end that is named.",
    "not_a_monday": "With `period=week` the range of such a bucket must begin and end on a Monday: "
    "move the end that is named.",
    "not_the_first": "With `period=month` the range of such a bucket must begin and end on the "
    "first of a month: move the end that is named.",
    "too_many_fields": "The bucket would have more fields than it may: put what varies into "
    "values, not into the names of fields.",
    "batch_too_large": "The batch has too many records, or too many for so many different fields: "
    "send smaller ones.",
    "too_many_parameters": "A parameter is repeated more often than it may be: ask several "
    "questions.",
    # administration
    "invalid_bucket_name": "The name can't be a bucket's: use a lower-case letter, then 1 to 63 "
    "lower-case letters, digits, `_` or `-`, and not `data`.",
    "unknown_setting": "There is no such setting: check the spelling.",
    "invalid_setting": "The setting's value is not what it takes: see what the message expects.",
    "invalid_schema": "The `schema` is not a JSON Schema that can be used here: see the message.",
    "invalid_email": "The address in the path is not an e-mail address: check it.",
    "conflict": "Another bucket has that second address, or another token is the same: choose "
    "another.",
    # signing in to the pages
    "sign_in_expired": "The sign-in took too long, was used already, or began in another browser: "
    "sign in again.",
    "sign_in_refused": "The sign-in service, or the person who was asked, said no: sign in again, "
    "or ask whoever runs the service for the permission.",
    "provider_failed": "The sign-in service does not answer as it should: try again; if it stays "
    "so, the server's log says more.",
    "provider_timed_out": "The sign-in service did not answer in time: try again.",
}
"""Every stable `code` that an answer can hold: what it means, and what to do (Markdown)."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: the nearest that is, or all of them."""
    names = list(known)
    by_lower = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(given[:80].lower(), by_lower, n=1)
    return f"did you mean {by_lower[near[0]]}?" if near else f"there are {', '.join(names)}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: a stable code, a sentence, and where.

    `where` holds what locates it: `index` and `field` of a record, `parameter` of a query,
    `setting` of a bucket, `line` and `column` of a body. The code is one of `CODES`.
    """

    code: str
    message: str
    where: dict[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"the code {self.code!r} is not in CODES, so nobody could look it up")

    def as_json(self) -> dict[str, Any]:
        """The problem as it stands in an answer: `{"code", …where, "message"}`."""
        return {"code": self.code, **self.where, "message": self.message}


class BackdropError(Exception):
    """The root. `problems` lists each thing that is wrong, at least one."""

    default_code: ClassVar[str] = "internal_error"

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


class AmbiguousRequest(InvalidRequest):
    default_code = "ambiguous_request"


class BodyBrokeOff(InvalidRequest):
    default_code = "body_broke_off"


class InvalidRecords(InvalidRequest):
    pass


class InvalidQuery(InvalidRequest):
    default_code = "invalid_parameter"


class InvalidSettings(InvalidRequest):
    default_code = "invalid_setting"


class InvalidBody(InvalidRequest):
    default_code = "invalid_body"


class SignInExpired(InvalidRequest):
    default_code = "sign_in_expired"


class Unauthorized(BackdropError):
    default_code = "unauthorized"


class Forbidden(BackdropError):
    default_code = "forbidden"


class SignInRefused(Forbidden):
    default_code = "sign_in_refused"


class NotFound(BackdropError):
    default_code = "not_found"


class MethodNotAllowed(BackdropError):
    default_code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class Conflict(BackdropError):
    default_code = "conflict"


class KeyReused(BackdropError):
    default_code = "idempotency_key_reused"


class BodyTooLarge(BackdropError):
    default_code = "body_too_large"


class ClientTooSlow(BackdropError):
    default_code = "body_too_slow"


class UnsupportedMediaType(BackdropError):
    default_code = "unsupported_media_type"


class TooManyRequests(BackdropError):
    """Refused unread: it may be sent again after so many seconds."""

    default_code = "too_many_requests"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class QueryTooSlow(BackdropError):
    default_code = "query_too_slow"


class QueryTooLarge(BackdropError):
    default_code = "query_too_large"


class StorageUnavailable(BackdropError):
    default_code = "storage_unavailable"


class StorageFull(StorageUnavailable):
    default_code = "storage_full"


class ProviderFailed(BackdropError):
    default_code = "provider_failed"


class ProviderRefused(ProviderFailed):
    pass


class ProviderTimedOut(ProviderFailed):
    default_code = "provider_timed_out"
