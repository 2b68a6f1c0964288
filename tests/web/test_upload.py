"""Uploads, from the form to the receipt, and what must not get through."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from datetime import date
from typing import Any

import openpyxl
import pytest

from backdrop.api.body import Limits
from backdrop.observe import ServerFault
from backdrop.uploads.kept import KEPT_FOR, Upload, new_id, put_upload
from backdrop.uploads.understand import Understood
from backdrop.uploads.work import GIVEN_UP_AFTER
from tests.api.conftest import Desk, codes
from tests.sheets import MAKERS, PICTURE, Wrong, bomb, repeated_ods, xlsx
from tests.web.conftest import Person, field, words

CSV = b"_timestamp,name,fee\n2013-01-31,Camden,27\n2013-02-01,Hackney,1.5\n"


def test_a_file_is_understood_then_stored(desk: Desk, ann: Person) -> None:
    checked = ann.upload(CSV, "fees 2013.csv")
    assert "Check fees 2013.csv 2 records for things : all are new." in words(checked)
    assert "They bring no ids along" in words(checked)
    assert "_timestamp time" in words(checked)
    assert "fee 1 whole number, 1 number The" in words(checked)
    assert "fee 1 whole number, 1 text mixed" in words(ann.upload(b"fee\n1\nx\n"))
    assert "2 2013-01-31 Camden 27" in words(checked)
    assert desk.data("/things") == []
    receipt = ann.store(checked)
    assert "2 records stored in things : 2 new, 0 replaced" in words(receipt)
    assert 'href="http://testserver/things"' in receipt.text
    assert [(row["name"], row["fee"]) for row in desk.data("/things")] == [
        ("Camden", 27),
        ("Hackney", 1.5),
    ]


@pytest.mark.parametrize("kind", MAKERS)
def test_a_spreadsheet_is_stored(desk: Desk, ann: Person, kind: str) -> None:
    table = [["_timestamp", "name", "fee"], [date(2013, 1, 31), "Camden", 27.0]]
    ann.store(ann.upload(MAKERS[kind](table), f"A.{kind.upper()}"))
    [record] = desk.data("/things")
    del record["_id"]
    assert record == {"_timestamp": "2013-01-31T00:00:00+00:00", "name": "Camden", "fee": 27}


def test_all_bad_names_are_told_with_a_better_one_each(ann: Person) -> None:
    shown = words(ann.upload("Visits in 2013,,\nDate of visit,Größe (m),ok_1\n".encode()))
    assert "3 problems" in shown
    assert "Column 2 can't be a field: it has no name" in shown
    assert "not 'Visits in 2013'; Visits_in_2013 would do" in shown
    assert "The first row must be the names of the columns" in shown
    shown = words(ann.upload("Date of visit,Größe (m),ok_1\nx,y,z\n".encode()))
    assert "2 problems" in shown
    assert "Date_of_visit would do" in shown
    assert "Groe_m would do" in shown


def test_a_missing_column_of_the_id_is_told_once(desk: Desk, person: Callable[..., Person]) -> None:
    desk.make("things", auto_ids=["date", "office"])
    shown = words(person("things").upload(b"office,fee\n" + b"Camden,1\n" * 7))
    assert "1 problem Correct it" in shown
    assert "No column is named date" in shown
    assert "Row 2" not in shown.partition("What was understood")[0]


def test_rows_without_a_time_are_pointed_out(ann: Person) -> None:
    shown = words(ann.upload(b"_timestamp,fee\n2013-01-31,1\n,2\n,3\n"))
    assert "2 rows have no _timestamp, so they will be in no period" in shown


def test_what_is_no_time_is_not_called_one(ann: Person) -> None:
    shown = words(ann.upload(b"_timestamp,fee\n31/01/2013,1\n"))
    assert "_timestamp not only times" in shown


def test_who_signed_out_in_between_is_told_that_nothing_was_stored(desk: Desk, ann: Person) -> None:
    upload, form_token = field(ann.upload(CSV), "upload"), ann.form_token
    ann.get("/_user/sign_out")
    form = {"form_token": form_token, "upload": upload}
    answer = ann.post("/things/upload", data=form)
    assert (answer.status_code, "nothing was stored" in words(answer)) == (401, True)
    assert 'href="/_user/sign_in?next=/things/upload"' in answer.text
    assert desk.data("/things") == []


def test_new_and_replacing_records_are_told_apart(
    desk: Desk, person: Callable[..., Person]
) -> None:
    desk.filled("things", {"name": "a", "fee": 1}, {"name": "b"}, auto_ids=["name"])
    ann = person("things")
    checked = ann.upload(b"name,fee\nb,2\nc,3\nc,4\nd,5\n")
    assert "4 records for things : 2 new, and 1 that replaces one" in words(checked)
    assert "1 row has the id of a row further down" in words(checked)
    receipt = words(ann.store(checked))
    assert "4 records stored in things : 2 new, 1 replaced, 1 of the same id" in receipt
    assert desk.storage.state("things").records == 4


def test_ids_of_the_file_are_looked_up(ann: Person) -> None:
    ann.store(ann.upload(b"_id,fee\na,1\n27,2\n"))
    assert "3 records for things : 1 new, and 2 that replace those" in words(
        ann.upload(b"_id,fee\na,1\n27,2\nnew,3\n")
    )


def test_a_double_click_stores_once(desk: Desk, ann: Person) -> None:
    upload = field(ann.upload(CSV), "upload")
    form = {"form_token": ann.form_token, "upload": upload}
    answers: list[Any] = []
    clicks = [
        threading.Thread(target=lambda: answers.append(ann.post("/things/upload", data=form)))
        for _ in range(4)
    ]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join(60)
    assert [answer.status_code for answer in answers] == [303] * 4
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert len(desk.data("/things")) == 2


def test_another_process_can_store_it(desk: Desk, ann: Person) -> None:
    upload = field(ann.upload(CSV), "upload")
    other = desk.clients()
    other.cookies = ann.client.cookies
    form = {"form_token": ann.form_token, "upload": upload}
    assert other.post("/things/upload", data=form).status_code == 200
    assert len(desk.data("/things")) == 2


def test_an_upload_is_forgotten_after_an_hour(desk: Desk, ann: Person) -> None:
    upload = field(ann.upload(CSV), "upload")
    form_token = ann.form_token
    desk.clock.move(KEPT_FOR.total_seconds())
    answer = ann.post("/things/upload", data={"form_token": form_token, "upload": upload})
    assert answer.status_code == 404
    assert "choose the file again" in words(answer)
    assert 'href="/things/upload">Choose the file again' in answer.text
    assert desk.data("/things") == []


def test_one_request_can_do_both_steps(desk: Desk, ann: Person) -> None:
    answer = ann.send("/things/upload", {"file": ("a.csv", CSV)}, store="yes")
    assert "2 records stored" in words(ann.get(answer.headers["Location"]))
    assert len(desk.data("/things")) == 2
    bad = ann.send("/things/upload", {"file": ("a.csv", b"aa\n1,2\n")}, store="yes")
    assert bad.status_code == 400
    assert len(desk.data("/things")) == 2


def test_settings_that_change_in_between_are_kept_to(desk: Desk, ann: Person) -> None:
    checked = ann.upload(CSV)
    patch = {"schema": {"properties": {"fee": {"type": "string"}}}}
    assert desk.client.patch("/_buckets/things", headers=desk.admin, json=patch).status_code == 200
    assert "Nothing was stored" in words(ann.store(checked))
    assert desk.data("/things") == []


def test_a_receipt_counts_by_the_settings_that_it_was_stored_with(desk: Desk, ann: Person) -> None:
    checked = ann.upload(b"name,fee\nb,1\nb,2\n")
    patch = {"auto_ids": ["name"]}
    assert desk.client.patch("/_buckets/things", headers=desk.admin, json=patch).status_code == 200
    assert "1 new, 0 replaced, 1 of the same id" in words(ann.store(checked))
    assert len(desk.data("/things")) == 1


def test_a_bucket_that_is_dropped_in_between_is_not_there(desk: Desk, ann: Person) -> None:
    upload, form_token = field(ann.upload(CSV), "upload"), ann.form_token
    assert desk.client.delete("/_buckets/things", headers=desk.admin).status_code == 200
    form = {"form_token": form_token, "upload": upload}
    assert ann.post("/things/upload", data=form).status_code == 404
    desk.make("things", raw_queries_allowed=True)
    assert ann.post("/things/upload", data=form).status_code == 404
    assert desk.data("/things") == []


def test_many_files_at_once_are_refused(ann: Person) -> None:
    data = b"aa\n" + b"x" * 100 * 2**10 + b"\n1" * 200_000
    form, answers = {"form_token": ann.form_token}, list[Any]()

    def send() -> None:
        answers.append(ann.post("/things/upload", data=form, files={"file": ("a.csv", data)}))

    senders = [threading.Thread(target=send) for _ in range(12)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
    assert {answer.status_code for answer in answers} == {303, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "Try again in a minute" in words(refused)


def test_a_remark_is_no_longer_than_one_reads(ann: Person) -> None:
    shown = words(ann.upload(b"aa\n1\n" + b"0" * 100_000 + b"\n"))
    assert "Column aa: 1 number, and 1 text such as '000" in shown
    assert len(shown) < 3_000


def test_a_file_of_many_batches_is_stored_whole(desk: Desk, ann: Person) -> None:
    lines = b"".join(b"2013-01-31,name %d,%d\n" % (n, n) for n in range(12_000))
    ann.store(ann.upload(b"_timestamp,name,fee\n" + lines))
    [day] = desk.data("/things?period=day&collect=fee:sum")
    assert (day["_count"], day["fee:sum"]) == (12_000, sum(range(12_000)))
    checked = ann.upload(b"_timestamp,name,fee\n" + lines + b"never,x,1\n")
    assert (checked.status_code, "Row 12,002, column _timestamp" in words(checked)) == (400, True)


BAD: list[tuple[str, bytes, str]] = [
    ("a.csv", b"", "the file is empty"),
    ("a.xlsx", b"", "the file is empty"),
    ("a.csv", b"aa,bb\n", "no record below"),
    ("a.csv", b"aa,bb\n1,2\n3\n", "Row 3 1 cell, where the first row names 2"),
    ("a.csv", b"aa,bb\n1,2\n3,4,5\n", "Row 3 3 cells, where"),
    ("a.csv", b"aa\nx\n\xff\n", "Row 3 not UTF-8: save the file anew as “CSV UTF-8”"),
    ("a.csv", b"aa,bb\r1,2\r", "a line ends with CR alone: save it as “CSV UTF-8”"),
    ("a.csv", "aa\nx\n".encode("utf-16"), "not UTF-8"),
    ("a.csv", b"_timestamp,aa\n31-11-12,1\n", "Row 2, column _timestamp"),
    ("a.csv", b"a-b\n1\n", "column 1 can't be a field"),
    ("a.csv", PICTURE, "a PNG picture"),
    ("a.xlsx", PICTURE, "this is not an XLSX file but a PNG picture"),
    ("a.xlsx", CSV, "this is not an XLSX file"),
    ("a.csv", xlsx([["aa"], [1]]), "this is not a CSV file"),
    ("a.xls", xlsx([["aa"], [1]]), "this is not an XLS file but an XLSX"),
    ("a.txt", CSV, "expected a file that ends in .csv, .xlsx, .xls or .ods"),
    ("a.csv.gz", CSV, "expected a file that ends in"),
    ("a.json", b"[]", "expected a file that ends in"),
    ("a.xlsx", xlsx([["aa"], [1], [Wrong()]]), "Row 3, column A the cell A3 holds the error #DIV"),
    ("a.csv", b",".join(b"column_%d" % n for n in range(16_384)), "16,384 columns"),
    ("a.xlsx", bomb(200 * 2**20), "would unpack to 200 MiB or more"),
    ("a.ods", repeated_ods(10**6), "can't be read"),
    ("a.csv", b"aa\n\"1\n" + b"x" * 300_000, "Row 2 not CSV"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "message"), BAD)
def test_a_bad_file_is_refused_with_its_row(
    desk: Desk, ann: Person, name: str, data: bytes, message: str
) -> None:
    answer = ann.upload(data, name)
    assert answer.status_code == 400
    assert message.lower() in words(answer).lower()
    assert 'name="upload"' not in answer.text
    assert desk.data("/things") == []


def test_no_file_is_told(ann: Person) -> None:
    for files in (None, {"file": ("", b"")}, {"other": ("a.csv", CSV)}):
        answer = ann.send("/things/upload", files)
        assert (answer.status_code, "Choose a file first" in words(answer)) == (400, True)


def test_the_size_limit_is_told(desk: Desk, ann: Person) -> None:
    small = desk.clients(limits=Limits(upload=2**20))
    small.cookies = ann.client.cookies
    form = {"form_token": ann.form_token}
    line = b"aa\n" + b"x" * 2**20
    for data in (line, line * 2, line * 4):
        answer = small.post("/things/upload", data=form, files={"file": ("a.csv", data)})
        assert answer.status_code == 413
        assert "larger than the 1 MiB" in words(answer)
    assert "at most 1 MiB" in words(small.get("/things/upload"))


def test_an_endless_line_is_bounded(ann: Person) -> None:
    """A gigabyte without an end of line, made on the way: not kept, and answered shortly."""
    token = ann.form_token
    head = (
        f'--b\r\nContent-Disposition: form-data; name="form_token"\r\n\r\n{token}\r\n--b\r\n'
        'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\naa\n'
    )

    def body() -> Any:
        yield head.encode()
        for _ in range(1024):
            yield bytes(2**20)
        yield b"\r\n--b--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = ann.post("/things/upload", content=body(), headers=kind)
    assert (answer.status_code, "larger than the 50 MiB" in words(answer)) == (413, True)
    answer = ann.upload(b"aa\n" + b"x" * (33 * 2**20))
    assert "Row 2 The line has more than 32 MiB" in words(answer)


@pytest.mark.parametrize(
    "body", [b"", b"--b\r\nx", b"--b\r\nContent-Disposition: form-data\r\n\r\n"]
)
def test_a_broken_form_is_refused(ann: Person, body: bytes) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    for headers in (kind, {"Content-Type": "multipart/form-data"}, {"Content-Type": "text/csv"}):
        answer = ann.post("/things/upload", content=body, headers=headers)
        assert answer.status_code in (400, 403)
        assert "<main" in answer.text


@pytest.mark.parametrize("charset", ["unicode_escape", "utf-7", "punycode", "nothing"])
def test_a_form_in_a_charset_of_no_browser_is_refused(ann: Person, charset: str) -> None:
    """Some of Python's make halves of surrogate pairs, which no store can hold."""
    body = (
        f'--b\r\nContent-Disposition: form-data; name="form_token"\r\n\r\n{ann.form_token}\r\n'
        '--b\r\nContent-Disposition: form-data; name="file"; filename="\\ud800.csv"\r\n\r\n'
        "aa\n1\n\r\n--b--\r\n"
    )
    kind = {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"}
    answer = ann.post("/things/upload", content=body, headers=kind)
    assert (answer.status_code, "must be UTF-8" in words(answer)) == (400, True)
    good = {"Content-Type": 'multipart/form-data; boundary=b; charset="UTF-8"'}
    assert ann.post("/things/upload", content=body, headers=good).status_code == 303


# -- what is shown, and to whom -------------------------------------------------------------------

EVIL = "<script>alert(1)</script>"


def test_cells_and_names_are_shown_as_they_are(ann: Person) -> None:
    data = f'name,other\n"{EVIL}",=HYPERLINK("x")\n\u202etxt\x07,"&amp;\n<b>"\n'.encode()
    answer = ann.upload(data, f"{EVIL}\u202e\x1b.csv")
    assert EVIL not in answer.text
    assert "<b>" not in answer.text
    shown = words(answer)
    assert EVIL in shown
    assert "\\u202etxt\\u0007" in shown
    assert not re.search(r"[\u202e\x07\x1b]", answer.text)
    assert "Check script>\\u202e\\u001b.csv" in shown  # what follows the slash of `</script>`


def test_problems_are_shown_as_they_are(ann: Person) -> None:
    answer = ann.upload(f"_timestamp\n{EVIL}\u202e\n".encode())
    assert EVIL not in answer.text
    assert "\u202e" not in answer.text
    assert EVIL in words(answer)


def test_a_stranger_is_sent_to_sign_in(desk: Desk) -> None:
    desk.make("things")
    stranger = Person(desk.clients())
    for path in ("/things/upload", "/nothing/upload"):
        answer = stranger.get(path)
        assert answer.status_code == 303
        assert answer.headers["Location"] == f"/_user/sign_in?next={path}"
        assert stranger.post(path, files={"file": ("a.csv", CSV)}).status_code == 401


def test_another_users_bucket_is_not_there(desk: Desk, person: Callable[..., Person]) -> None:
    desk.make("things")
    desk.make("others", data_group="aa", data_type="bb")
    ann, bob = person("things"), person("others", email="bob@example.org")
    form = {"form_token": ann.form_token}
    for path in ("/others/upload", "/data/aa/bb/upload", "/nothing/upload"):
        assert ann.get(path).status_code == 404
        assert ann.post(path, data=form, files={"file": ("a.csv", CSV)}).status_code == 404
    upload = field(ann.upload(CSV), "upload")
    person("things", "others", email="bob@example.org")
    assert bob.get(f"/things/upload?upload={upload}").status_code == 404
    assert bob.send("/things/upload", upload=upload).status_code == 404
    person("things", "others")
    assert ann.get(f"/others/upload?upload={upload}").status_code == 404
    assert desk.data("/things?period=day") == []


def test_a_form_without_its_token_is_refused(desk: Desk, ann: Person) -> None:
    upload = field(ann.upload(CSV), "upload")
    for sent in ({}, {"form_token": "x"}, {"form_token": ""}):
        for more in ({"files": {"file": ("a.csv", CSV)}}, {}):
            data = sent if more else {**sent, "upload": upload}
            answer = ann.post("/things/upload", data=data, **more)  # type: ignore[arg-type]
            assert answer.status_code in (400, 403)
    assert desk.data("/things") == []


def test_the_second_address_has_the_page_too(desk: Desk, person: Callable[..., Person]) -> None:
    desk.make("things", data_group="aa", data_type="bb", raw_queries_allowed=True)
    ann = person("things")
    answer = ann.send("/data/aa/bb/upload", {"file": ("a.csv", CSV)})
    location = answer.headers["Location"]
    assert location.startswith("/data/aa/bb/upload?upload=")
    answer = ann.send("/data/aa/bb/upload", upload=field(ann.get(location), "upload"))
    assert "2 records stored" in words(ann.get(answer.headers["Location"]))


def test_a_record_may_have_the_pages_name_as_its_id(desk: Desk) -> None:
    headers = desk.filled("things", {"_id": "upload", "aa": 1}, raw_queries_allowed=True)
    assert desk.client.patch("/things/upload", headers=headers, json={"bb": 2}).status_code == 200
    assert desk.data("/things") == [{"_id": "upload", "aa": 1, "bb": 2}]
    assert desk.client.patch("/things/upload", json={"bb": 2}).headers["WWW-Authenticate"]
    assert desk.client.delete("/things/upload", headers=headers).status_code == 200
    assert codes(desk.client.delete("/things/upload", headers=headers)) == ["not_found"]


def test_the_read_api_alone_has_no_pages(desk: Desk) -> None:
    client = desk.clients(apis="read")
    for path in ("/_user", "/things/upload", "/_static/pages.css"):
        assert codes(client.get(path)) == ["not_found"]


# -- what takes long, or too much -----------------------------------------------------------------


def test_a_cell_far_away_is_told(ann: Person) -> None:
    """It would take a library more memory than there is; here it ends one small process."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet["A1"], sheet["A2"], sheet["XFD1048576"] = "aa", 1, 2
    file = io.BytesIO()
    book.save(file)
    answer = ann.upload(file.getvalue(), "a.xlsx")
    assert (answer.status_code, "far below the table" in words(answer)) == (400, True)


def begun(desk: Desk, state: Any) -> str:
    """An upload of Ann's that some process works on."""
    upload = Upload(
        id=new_id(),
        email="ann@example.org",
        bucket="things",
        file_name="a.csv",
        since=desk.clock(),
        state=state,
        understood=Understood(records=1_234_567),
    )
    put_upload(desk.storage, upload)
    return f"/things/upload?upload={upload.id}"


def test_a_page_waits_for_what_takes_longer(desk: Desk, ann: Person) -> None:
    for state, message in (
        ("reading", "Reading a.csv"),
        ("storing", "1,234,567 records are being"),
    ):
        answer = ann.get(begun(desk, state))
        assert (answer.status_code, answer.headers["Refresh"]) == (200, "2")
        assert message.lower() in words(answer).lower()


def test_work_that_a_server_left_is_given_up(desk: Desk, ann: Person) -> None:
    path = begun(desk, "storing")
    desk.clock.move(GIVEN_UP_AFTER.total_seconds() + 1)
    answer = ann.get(path)
    assert "Refresh" not in answer.headers
    assert "The server stopped in between" in words(answer)


def test_a_fault_of_the_store_is_told_and_logged(desk: Desk, ann: Person) -> None:
    upload = field(ann.upload(CSV), "upload")
    desk.storage.take_entry("upload", f"{upload}/1")
    receipt = ann.send("/things/upload", upload=upload)
    shown = words(ann.get(receipt.headers["Location"]))
    assert "Something went wrong on our side" in shown
    assert [type(one) for one in desk.seen if isinstance(one, ServerFault)] == [ServerFault]
    assert desk.data("/things") == []
