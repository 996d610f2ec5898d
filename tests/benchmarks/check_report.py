"""Checks the page of `python -m vision.interpretation RUN --report` in Chromium: pictures, messages, requests.

    python tests/benchmarks/check_report.py results/shapes/classification-1 --out report.json

Writes the page, opens it, and counts what the console says, errors of the page, requests to any other place than the
page itself and its data, pictures that are empty, and pixels that the page is wider
than the window. Exits with 1 where there is any. Needs playwright and Chromium:
pip install saccade[browser].
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

import runs
from runs import study_report
from vision.interpretation import explain, report

WIDTH, HEIGHT = 1_400, 900  # pixels of the window
SMALLEST = 100  # pixels: a picture with a shorter side is empty
SECTIONS = """[...document.querySelectorAll('h2')].map(heading => {
    const found = {title: heading.textContent, pictures: [], rows: 0}
    for (let next = heading.nextElementSibling; next && next.tagName != 'H2'; next = next.nextElementSibling) {
        if (next.tagName == 'IMG') found.pictures.push([next.naturalWidth, next.naturalHeight])
        if (next.tagName == 'TABLE') found.rows += next.rows.length
    }
    return found
})"""


def opened(page: Path) -> dict[str, object]:
    """The sections of a page, the messages of its console, its errors and the addresses that it asked for."""
    said: list[str] = []
    asked: list[str] = []
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.resolve().as_uri())
        tab.wait_for_load_state("networkidle")
        sections, version = tab.evaluate(SECTIONS), browser.version
        wide = tab.evaluate("document.documentElement.scrollWidth")
        browser.close()
    outside = [url for url in asked if not url.startswith("data:") and url != page.resolve().as_uri()]
    return {"sections": sections, "console": said, "requests": outside, "chromium": version, "width": wide}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run of vision.classification")
    parser.add_argument("--page", type=Path, default=Path("explanations.html"), help="where the page goes")
    parser.add_argument("--out", type=Path, default=Path("report.json"), help="where the record goes, and as .md")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default %(default)s)")
    options = parser.parse_args()
    runs.prepare("cpu", 1, options.threads)
    began, used = time.perf_counter(), time.process_time()
    page = report.write(
        explain.Config(run=options.run, device="cpu", threads=options.threads, report=True, out=options.page)
    )
    seconds, used = time.perf_counter() - began, time.process_time() - used
    found = opened(page)
    sizes = [size for section in found["sections"] for size in section["pictures"]]
    beyond = max(found["width"] - WIDTH, 0)
    empty = [size for size in sizes if min(size) < SMALLEST]
    about = {
        "run": options.run,
        "kilobytes": page.stat().st_size // 1024,
        "seconds": round(seconds),
        "processor_seconds": round(used),
    }
    rows = [
        [each["title"], ", ".join(f"{wide} x {tall}" for wide, tall in each["pictures"]), str(each["rows"] or "")]
        for each in found["sections"]
    ]
    note = (
        f"The page of {options.run} has {about['kilobytes']:,} kB and took {about['seconds']:,} s to write, "
        f"{about['processor_seconds']:,} s of the processor with {options.threads} thread. In Chromium "
        f"{found['chromium']}: messages of the console and errors {len(found['console'])}, requests to other places "
        f"{len(found['requests'])}, empty pictures {len(empty)}, pixels beyond the window's width {beyond}."
    )
    head = ["section", "pictures, in pixels", "rows of its table"]
    cpu, title = torch.device("cpu"), "The page of an interpretation, in Chromium"
    study_report.write(options.out, "tests.benchmarks.check_report", cpu, title, head, rows, note, [about | found])
    print(note)
    sys.exit(bool(found["console"] or found["requests"] or empty or beyond))


if __name__ == "__main__":
    main()
