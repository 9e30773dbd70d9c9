"""The page in a real browser: upload to result, errors, cancel, phone width, keyboard, accessibility.

Needs a Chromium on the PATH and the extra ``browser``; axe-core comes from npm, ``COMMIN_AXE`` names its
``axe.min.js``.
``COMMIN_SCREENSHOTS`` names a folder that keeps pictures of what was seen.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import EXAMPLE, offer_slow, photo_bytes, running

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")

expect: Any = playwright_api.expect
SECONDS = 60_000
"""Milliseconds to wait for what takes well under a second on a free machine."""

SIZES = {"desktop": (1280, 1000), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any, codec_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Opens the page at a size, in a colour scheme; afterwards nothing may have been asked of another server."""
    from commin.serve.app import make_app
    from commin.serve.studio import Studio

    requests: list[str] = []
    complaints: list[str] = []
    contexts = []
    pause = {"seconds": 0.0}
    offer_slow(monkeypatch)

    def slow(seconds: float) -> None:
        pause["seconds"] = seconds
        offer_slow(monkeypatch, seconds)

    slow(0.0)
    studio = Studio(os.environ.get("COMMIN_TEST_MODEL", str(codec_file)))
    with running(make_app(studio, warm=False)) as address:

        def open_at(size: str = "desktop", scheme: str = "light", pause: float = 0.0, **options: Any) -> Any:
            slow(pause)
            width, height = SIZES[size]
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", **options
            )
            contexts.append(context)
            page = context.new_page()
            page.set_default_timeout(SECONDS)
            page.on("request", lambda request: requests.append(request.url))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(address)
            expect(page.locator("#bcr option").first).to_be_attached(timeout=SECONDS)
            return page

        yield open_at
        for context in contexts:
            context.close()
        foreign = [url for url in requests if not url.startswith((address, "data:", "blob:"))]
        assert not foreign, "the page asked another server"
        assert not complaints


def send_example(page: Any) -> None:
    page.set_input_files("#file", EXAMPLE)
    expect(page.locator("#status")).to_contain_text("Done", timeout=SECONDS)


def keep(page: Any, name: str) -> None:
    if folder := os.environ.get("COMMIN_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_a_photo_is_sent_and_what_arrived_is_shown(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page()
    page.get_by_label("commin-fast", exact=True).check()
    page.locator("#samples").fill("3")
    send_example(page)
    pictures = page.locator("#pictures figure")
    expect(pictures).to_have_count(3)
    for image in page.locator("figure img").all():
        assert image.get_attribute("alt")
        assert image.evaluate("image => image.complete && image.naturalWidth") == 64
    expect(pictures.nth(1)).to_contain_text(re.compile(r"deepjscc.*PSNR \d+\.\d\d dB.*LPIPS"))
    expect(page.locator("#facts")).to_contain_text("256 complex")
    expect(page.locator("#facts")).to_contain_text("1/48")
    expect(page.locator("#facts")).to_contain_text("carries 256 bits")
    expect(page.locator("#constellation svg")).to_be_visible()
    expect(page.locator("#samples-shelf figure")).to_have_count(6)  # three samples, their mean, two maps
    expect(page.locator("#fades .strip")).to_have_count(2)
    expect(page.locator("#fades .strip figure")).to_have_count(12)
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    record = json.loads(Path(download.value.path()).read_text())[0]
    assert (record["system"], record["k"], record["n"]) == ("deepjscc", 256, 12288)
    with page.expect_download() as download:
        page.get_by_role("link", name="PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    keep(page, "desktop")


def test_the_slider_sends_again(open_page: Callable[..., Any]) -> None:
    page = open_page()
    send_example(page)
    first = page.locator("#pictures figure").nth(1).locator("img").get_attribute("src")
    page.locator("#snr").focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#status")).to_contain_text("at −5 dB", timeout=SECONDS)
    assert page.locator("#pictures figure").nth(1).locator("img").get_attribute("src") != first
    expect(page.locator("#fades .strip")).to_have_count(2)


def test_the_frame_is_moved_by_keys_pointer_and_buttons(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.locator("#follow").uncheck()
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": photo_bytes(300, 200)})
    frame = page.locator("#frame")
    expect(frame).to_be_visible()
    begin = frame.bounding_box()
    page.locator("#frame-x").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert frame.bounding_box()["x"] > begin["x"]
    page.get_by_role("button", name="Middle").click()
    assert frame.bounding_box()["x"] == pytest.approx(begin["x"], abs=1)
    page.mouse.move(begin["x"] + 50, begin["y"] + 50)
    page.mouse.down()
    page.mouse.move(begin["x"] + 80, begin["y"] + 50, steps=3)
    page.mouse.up()
    assert frame.bounding_box()["x"] == pytest.approx(begin["x"] + 30, abs=3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.png", b"these are notes, not a picture", "not a photo that can be read"),
        ("cut.png", photo_bytes()[:2000], "damaged or cut short"),
        ("nothing.jpg", b"", "empty"),
    ],
)
def test_a_file_that_is_no_photo_is_explained(
    open_page: Callable[..., Any], name: str, content: bytes, words: str
) -> None:
    page = open_page()
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})
    expect(page.get_by_role("alert")).to_contain_text(words)
    expect(page.locator("#send")).to_be_disabled()
    send_example(page)
    expect(page.locator("#photo-error")).to_be_hidden()


def test_a_transmission_can_be_cancelled(open_page: Callable[..., Any]) -> None:
    page = open_page(pause=2.0)
    page.get_by_label("deepjscc").uncheck()
    page.get_by_label("commin-fast", exact=True).check()
    page.set_input_files("#file", EXAMPLE)
    expect(page.locator("#status")).to_contain_text("commin-fast", timeout=SECONDS)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_have_text("Cancelled.")
    expect(page.locator("#cancel")).to_be_disabled()
    expect(page.locator("#send")).to_be_enabled()


def test_the_second_visitor_sees_that_one_is_before_them(open_page: Callable[..., Any]) -> None:
    first, second = open_page(pause=1.0), open_page(pause=1.0)
    for page in (first, second):
        page.get_by_label("commin-fast", exact=True).check()
        page.set_input_files("#file", EXAMPLE)
    expect(second.locator("#status")).to_contain_text("1 before you", timeout=SECONDS)
    keep(second, "waiting")


def test_the_camera_gives_a_photo(open_page: Callable[..., Any]) -> None:
    page = open_page(permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    for _ in range(300):
        if page.locator("#video").evaluate("video => video.videoWidth"):
            break
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Take the picture").click()
    expect(page.locator("#status")).to_contain_text("Done", timeout=SECONDS)
    expect(page.locator("#camera")).to_be_hidden()


def test_all_of_it_by_keyboard(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.locator("#follow").uncheck()
    seen: list[str] = []
    page.get_by_role("button", name="Take the sample photo").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#send")).to_be_enabled()
    page.locator("#file").focus()
    seen.append("file")
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
        if seen[-1] == "send":
            break
    assert {"file", "frame-x", "frame-y", "frame-side", "snr", "bcr", "channel", "seed", "fade", "send"} <= set(seen)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Done", timeout=SECONDS)


def test_a_phone_shows_all_without_scrolling_sideways(open_page: Callable[..., Any]) -> None:
    page = open_page("phone", has_touch=True, is_mobile=True, device_scale_factor=2)
    page.get_by_label("commin-fast", exact=True).check()
    page.locator("#samples").fill("2")
    send_example(page)
    keep(page, "phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = [
        button.inner_text()
        for button in page.locator("button:visible, select:visible").all()
        if button.bounding_box()["height"] < 40
    ]
    assert not small, "too small for a finger"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_axe_finds_nothing_serious(open_page: Callable[..., Any], size: str, scheme: str) -> None:
    axe = os.environ.get("COMMIN_AXE")
    if not axe or not Path(axe).is_file():
        pytest.skip("COMMIN_AXE does not name axe-core's axe.min.js")
    page = open_page(size, scheme)
    page.evaluate(Path(axe).read_text())
    check = "async () => (await axe.run()).violations"
    before = page.evaluate(check)
    page.get_by_label("commin-fast", exact=True).check()
    page.locator("#samples").fill("2")
    send_example(page)
    keep(page, f"axe-{size}-{scheme}")
    found = [f"{v['impact']}: {v['id']} {v['nodes'][0]['html'][:120]}" for v in before + page.evaluate(check)]
    assert not found, "\n".join(found)
