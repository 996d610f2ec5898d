"""The HTML report of runs.compare: what is in it, that no name becomes markup, and, slow, the page in a browser."""

import base64
import json
import re

import pytest

from runs.compare import __main__ as program
from runs.compare import aggregate, report, sections
from runs.groups import group
from runs.reader import read_run
from tests.test_compare import command, describe, make_run

EVIL = "</script><img src=x onerror=alert(1)>&"
FILM = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02"
FILM += b"\x02D\x01\x00;"


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def page_of(*folders, **how):
    groups = group(map(read_run, folders))
    blocks = aggregate.blocks(groups)
    return report.html(groups, blocks, sections.sections(groups, blocks), ["few seeds"], **how)


def test_names_are_text(tmp_path):
    page = page_of(describe(make_run(tmp_path), world={"name": EVIL}))
    assert page.count("</script>") == 2 and "<img" not in page
    assert data_of(page)["panels"][0]["title"] == EVIL


def test_curves_and_films_of_the_page(tmp_path):
    folders = [make_run(tmp_path, seed, "Pong", "sticky", scores=(1.0, 3.0 + seed)) for seed in (1, 2)]
    for folder in folders:
        (folder / "videos").mkdir()
        (folder / "videos" / "step-000000000100.gif").write_bytes(b"an older one")
        (folder / "videos" / "step-000000000200.gif").write_bytes(FILM)
    data = data_of(page_of(*folders))
    run = data["panels"][0]["groups"][0]["runs"][1]
    assert (run["steps"], run["values"], run["frames"]) == ([100, 200], [1, 5], 4)
    assert run["hours"] == pytest.approx([2 / 3600, 4 / 3600], rel=1e-5)
    (film,) = data["films"]  # of the better seed, the newest
    assert "seed 2" in film["title"] and base64.b64decode(film["data"]) == FILM and not data["left_out"]
    small = data_of(page_of(*folders, megabytes=1e-5))
    assert not small["films"] and "--film-megabytes 1e-05: 1 films" in small["left_out"]


def test_many_points_are_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "POINTS", 100)
    data = data_of(page_of(make_run(tmp_path, scores=[float(n) for n in range(500)])))
    (run,) = data["panels"][0]["groups"][0]["runs"]
    assert len(run["steps"]) == 100 and (run["steps"][0], run["steps"][-1]) == (100, 50_000)


@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path, monkeypatch, browser):
    """No error, no request but the file itself; curves, hover, toggles, axes and sorting do what they say."""
    results, out = tmp_path / "results", tmp_path / "report.html"
    for world, more in (("Pong", 0.0), ("Breakout", 100.0)):
        for name in ("dqn", "ppo"):
            for seed in (1, 2, 3):
                scores = (more + 1.0, more + 2.0, more + seed + 10 * (name == "ppo"))
                folder = make_run(results, seed, world, "classic", f"{name}-{seed}", scores=scores)
                describe(folder, program=f"agents.{name}", config={"seed": seed, "steps": 300})
    describe(make_run(results, 1, "Catch"), world={"name": EVIL})
    (results / "Pong" / "ppo-3" / "videos").mkdir()
    (results / "Pong" / "ppo-3" / "videos" / "step-1.gif").write_bytes(FILM)
    command(monkeypatch, program.main, results, "--html", out, "--out", tmp_path / "c.png", "--threshold", 2)
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(out.as_uri())
    panel = page.locator(".panel", has=page.locator("h3", has_text="Pong")).first
    assert page.locator(".panel svg[role=img]").count() == 4  # three worlds and a performance profile
    assert panel.locator("path.curve").count() == 2 and page.locator("h3", has_text=EVIL).count() == 1
    assert panel.locator(".legend svg.swatch").count() == 2
    before = panel.locator("path.curve").first.get_attribute("d")
    curves = panel.locator("svg[role=img]")
    right = curves.bounding_box()["width"] - 25
    curves.hover(position={"x": right, "y": 60})
    tip = panel.locator(".tip")
    assert (
        "dqn: 2 (" in tip.inner_text() and "ppo: 11." in tip.inner_text()
    )  # near the last: means of 1, 2, 3 and + 10
    panel.locator(".seeds input").first.uncheck()  # of dqn, seed 1
    curves.hover(position={"x": right - 1, "y": 60})
    assert "dqn: 2.4" in tip.inner_text()  # 2 at 200, 2.5 at 300 of seeds 2 and 3
    single = page.locator(".panel", has=page.locator("h3", has_text=EVIL)).first
    single.locator("svg[role=img]").hover(position={"x": right, "y": 60})
    assert "dqn: 2" in single.locator(".tip").inner_text() and " to " not in single.locator(".tip").inner_text()
    assert page.evaluate("labels([17179, 17180, 17181])") == ["17.179k", "17.18k", "17.181k"]
    panel.locator(".legend > div input").first.uncheck()
    assert panel.locator("path.curve").count() == 1
    panel.locator(".legend > div input").first.check()
    page.select_option("#x", "frames")
    assert "game frames" in panel.locator("svg[role=img]").text_content()
    page.locator("#logX input").check()
    assert panel.locator("path.curve").first.get_attribute("d") != before
    page.select_option("#x", "hours")
    table = page.locator("table").first
    column = table.locator("th", has_text="final evaluation")
    index = column.evaluate("cell => cell.cellIndex") + 1
    for turn in (1, -1):
        column.click()
        cells = table.locator(f"td:nth-child({index})").all_inner_texts()
        values = [float(cell.split()[0]) for cell in cells]
        assert values == sorted(values, reverse=turn < 0) and len(set(values)) > 2
    assert page.locator(".films img").evaluate("image => image.naturalWidth") == 1
    page.screenshot(path=tmp_path / "report.png", full_page=True)
    assert said == [] and asked == [out.as_uri()]
