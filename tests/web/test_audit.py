"""What is done on the pages is in the audit log, by the e-mail address of who did it."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Desk
from tests.web.conftest import Person
from tests.web.test_admin_pages import NEW


def _done(desk: Desk) -> list[tuple[Any, ...]]:
    """What was done once there was a bucket, and someone who had signed in."""
    found = desk.client.get("/_audit", headers=desk.admin).json()["entries"][::-1]
    return [(one["by"], one["action"], one["bucket"], one["records"]) for one in found[2:]]


def test_an_upload_is_of_who_sent_it(desk: Desk, ann: Person) -> None:
    ann.store(ann.upload(b"name,fee\na,1\nb,2\n"))
    assert _done(desk) == [("user:ann@example.org", "records_stored", "things", 2)]


def test_what_admins_do_is_of_them(desk: Desk, admin: Person) -> None:
    admin.send("/_user/new", **NEW)
    url = "/_user/buckets/visits"
    admin.send(f"{url}/settings", **{**NEW, "realtime": "on"})
    admin.send(f"{url}/tokens", scope="read", label="x", days="")
    made = desk.storage.tokens("visits")[-1]
    admin.send(f"{url}/tokens", revoke=made.id)
    admin.send("/_user/users", email="ada@example.org", buckets="visits")
    admin.send("/_user/users", revoke="ada@example.org")
    boss = "user:boss@example.org"
    assert _done(desk) == [
        (boss, "bucket_created", "visits", None),
        (boss, "settings_changed", "visits", None),
        (boss, "token_made", "visits", None),
        (boss, "token_revoked", "visits", None),
        (boss, "user_granted", None, None),
        (boss, "user_revoked", None, None),
    ]
    log = desk.storage.audit(limit=9)
    changed = [one.act.details for one in log if one.act.action == "settings_changed"]
    assert changed == [{"settings": ["realtime"]}]
