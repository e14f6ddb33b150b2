"""Take pictures of the report, of the demo and of the site: in light, in dark, and as wide as a phone.

    make quickstart docs
    python docs/tools/screenshots.py

It needs Chromium on the PATH, and the extras `demo` and `dev`. The pictures go to docs/images.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LARGEST = 150_000  # bytes
# Name of a picture to its width, its height and the mode of colours.
LOOKS = {"light": (1280, 860, "light"), "dark": (1280, 860, "dark"), "phone": (390, 844, "light")}


@contextmanager
def browser() -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        sys.exit(f"error: none of {', '.join(BROWSERS)} is on the PATH.")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=executable)
        yield opened
        opened.close()


@contextmanager
def served(folder: str) -> Iterator[str]:
    """The address of a folder on this machine; the search of the site needs one."""
    handler = partial(Quiet, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """A server that logs no request."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def take(opened: Any, subject: str, url: str, *, press: str | None = None) -> None:
    """Write the pictures of one page.

    Args:
        opened: the browser.
        subject: first part of their names.
        url: of the page.
        press: name of a button to press first; the picture is taken when the scores are there.
    """
    for look, (width, height, scheme) in LOOKS.items():
        context = opened.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(url)
        if press is not None:
            page.get_by_role("button", name=press, exact=True).click()
            page.get_by_text("score ").last.wait_for()
        page.wait_for_timeout(500)  # transitions of colours
        write(page.screenshot(), IMAGES / f"{subject}-{look}.webp")
        context.close()


def write(png: bytes, path: Path) -> None:
    """A picture as WebP, in the best quality that is small enough."""
    with Image.open(BytesIO(png)) as picture:
        for quality in (90, 80, 70, 60, 50):
            picture.convert("RGB").save(path, quality=quality, method=6)
            if path.stat().st_size <= LARGEST:
                break
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", default="runs/quickstart/student", help="A finished student.")
    parser.add_argument("--teacher", default="runs/quickstart/teacher", help="Its teacher.")
    parser.add_argument("--site", default="build/site", help="The site that `make docs` built.")
    parser.add_argument("--only", choices=["report", "demo", "site"], help="One of the three.")
    args = parser.parse_args()
    subjects = [args.only] if args.only else ["report", "demo", "site"]
    IMAGES.mkdir(exist_ok=True)
    with browser() as opened:
        if "report" in subjects:
            take(opened, "report", (Path(args.run).resolve() / "report.html").as_uri())
        if "site" in subjects:
            with served(args.site) as url:
                take(opened, "site", f"{url}/index.html")
        if "demo" in subjects:
            from itrd_nlp.tasks.demo import build_demo, launch
            from itrd_nlp.tasks.question_answering.pipeline import load_pipeline

            models = [load_pipeline(name, device="cpu") for name in (args.run, args.teacher)]
            demo = build_demo(*models)
            take(opened, "demo", launch(demo, wait=False), press="Answer")
            demo.close()


if __name__ == "__main__":
    main()
