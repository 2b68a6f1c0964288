"""The pages in a real browser, as people use them; axe-core looks for what keeps people out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.docs.examples import ROOT
from tests.live import Server, live_server
from tests.sheets import Wrong, xlsx

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
WIDTHS = (1280, 390)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CSV = "_timestamp,name,fee\n2013-01-31,Camden,27\n2013-02-01,Hackney,2.50\n2013-02-02,Hackney,3\n"


@cache
def axe() -> str:
    path = ROOT / "tests" / "node" / "node_modules" / "axe-core" / "axe.min.js"
    assert path.exists(), "axe-core is missing: scripts/install_node_packages.sh"
    return path.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert Path(CHROMIUM).exists(), "Chromium is missing: sudo apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with live_server("serve", "--store", "memory:", cwd=tmp_path_factory.mktemp("pages")) as server:
        yield server


@dataclass
class Signed:
    """A context of the browser in which the admin of this machine is signed in."""

    context: BrowserContext
    page: Page
    server: Server
    folder: Path

    def go(self, path: str) -> Page:
        self.page.goto(self.server.url + path)
        return self.page

    def choose(self, bucket: str, name: str, data: str | bytes) -> Page:
        file = self.folder / name
        file.write_bytes(data if isinstance(data, bytes) else data.encode())
        page = self.go(f"/{bucket}/upload")
        page.get_by_label("A spreadsheet or a table").set_input_files(file)
        page.get_by_role("button", name="Read the file").click()
        return page

    def make_bucket(self, name: str) -> str:
        """Make a bucket by the form; its token, copied by the button."""
        page = self.go("/_user/new")
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_text("More settings").click()
        page.get_by_label("Single records are public").check()
        page.get_by_role("button", name="Make the bucket").click()
        page.get_by_role("button", name="Copy Token").click()
        page.get_by_text("Copied").wait_for()
        return str(page.evaluate("navigator.clipboard.readText()"))


@pytest.fixture(scope="module")
def cookies(browser: Browser, server: Server) -> list[object]:
    """Those of someone who came by the one-time link, which is good once."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.link())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="All buckets").wait_for()
    return list(context.cookies())


@pytest.fixture
def signed(
    browser: Browser, server: Server, cookies: list[object], tmp_path: Path
) -> Iterator[Signed]:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.add_cookies(cookies)  # type: ignore[arg-type]  # as the browser gave them
    yield Signed(context, context.new_page(), server, tmp_path)
    context.close()


def test_a_csv_file_is_uploaded_and_its_records_are_seen(signed: Signed) -> None:
    token = signed.make_bucket("fees")
    url = f"{signed.server.url}/fees"
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx2.post(url, headers=headers, json={"name": "by API"}).status_code == 200
    page = signed.choose("fees", "fees.csv", CSV)
    page.get_by_role("heading", name="Check fees.csv").wait_for()
    assert page.get_by_text("column fee: 2 numbers, and 1 text such as '2.50'").is_visible()
    page.get_by_role("button", name="Store these 3 records").click()
    page.get_by_role("heading", name="fees.csv is stored").wait_for()
    page.reload()
    page.get_by_role("heading", name="fees.csv is stored").wait_for()
    page.get_by_role("button", name="Copy All records", exact=True).click()
    page.get_by_text("Copied").wait_for()
    read = page.evaluate("navigator.clipboard.readText()")
    assert read == page.locator("#all").get_attribute("href")
    assert [one.get("name") for one in httpx2.get(read).json()["data"]] == [
        "Camden",
        "Hackney",
        "Hackney",
        "by API",
    ]
    page.get_by_role("link", name="Look at fees").click()
    assert page.get_by_role("cell", name="2.50").is_visible()


def test_a_spreadsheet_is_uploaded_without_javascript(
    browser: Browser, signed: Signed, cookies: list[object]
) -> None:
    signed.make_bucket("plain")
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies(cookies)  # type: ignore[arg-type]  # as the browser gave them
    plain = Signed(context, context.new_page(), signed.server, signed.folder)
    page = plain.choose("plain", "a.xlsx", xlsx([["name", "fee"], ["Camden", 27]]))
    page.get_by_role("button", name="Store this record").click()
    page.get_by_role("heading", name="a.xlsx is stored").wait_for()
    assert page.get_by_role("button", name="Copy").count() == 0
    context.close()


def test_a_bad_spreadsheet_names_the_row(signed: Signed) -> None:
    signed.make_bucket("bad")
    page = signed.choose("bad", "a.xlsx", xlsx([["name", "fee"], ["a", 1], ["b", Wrong()]]))
    page.get_by_role("heading", name="a.xlsx was not stored").wait_for()
    assert page.get_by_text("Row 3, column B").is_visible()
    assert page.get_by_text("the cell B3 holds the error #DIV/0!").is_visible()
    assert page.get_by_role("button", name="Store").count() == 0
    assert httpx2.get(f"{signed.server.url}/bad").json()["data"] == []


def test_after_signing_out_the_back_button_shows_nothing(browser: Browser, tmp_path: Path) -> None:
    with live_server("serve", "--store", "memory:", cwd=tmp_path) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.link())
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="Users").click()
        page.get_by_role("link", name="Sign out").click()
        page.get_by_role("heading", name="You are signed out").wait_for()
        page.go_back()
        assert "/_user/sign_in" in page.url
        assert page.get_by_role("heading", name="Users").count() == 0
        context.close()


def test_no_page_keeps_anyone_out(signed: Signed) -> None:
    """At both widths no page breaks a rule of WCAG 2.2 AA, or has to be scrolled sideways."""
    signed.make_bucket("seen")
    look(signed.page, "the new bucket's token")
    page = signed.choose("seen", "a long name of a file that a phone must break.csv", CSV)
    look(page, "what was understood")
    page.get_by_role("button", name="Store").click()
    page.get_by_role("heading", name="is stored").wait_for()
    look(page, "the receipt")
    look(signed.choose("seen", "bad.csv", "_timestamp,fee\nnever,1\n1,2,3\n"), "what was wrong")
    look(signed.go("/seen/upload"), "the form")
    page.get_by_role("button", name="Read the file").click()
    look(page, "the form without a file")
    page = signed.go("/_user/users")
    page.get_by_label("E-mail address").fill("someone.with.a.long.name@example.org")
    page.get_by_label("seen", exact=True).check()
    page.get_by_role("button", name="Grant").click()
    page.locator("summary").first.click()
    look(page, "users")
    page = signed.go("/_user/new")
    page.get_by_label("Name", exact=True).fill("Not a name")
    page.get_by_text("More settings").click()
    page.get_by_label("Time zone").fill("Mars")
    page.get_by_role("button", name="Make the bucket").click()
    look(page, "problems in a form")
    paths = ("", "/new", "/buckets/seen", "/buckets/seen/settings", "/buckets/seen/tokens", "/none")
    for path in paths:
        look(signed.go(f"/_user{path}"), path)
    signed.context.clear_cookies()
    look(signed.go("/_user/sign_in"), "signing in")


def look(page: Page, name: str) -> None:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
            page.evaluate(axe())
            found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
            problems = [
                (one["id"], one["help"], [node["html"] for node in one["nodes"]])
                for one in found["violations"]
            ]
            assert problems == [], (name, width, scheme)
            assert found["passes"], "axe found nothing to look at"
