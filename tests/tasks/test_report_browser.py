"""The pages in a real browser: they load whole, fetch nothing, and fit a phone and a desk."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from schemas.rules import report
from schemas.settings import QaLimits
from tasks.fleet import gather_fleet
from tasks.report.charts import KINDS, ScoreGroup, draw_scores
from tasks.report.first_screen import conclude
from tasks.report.pages import render_asset_page, render_fleet_page, render_package_page
from tasks.report.words import Words
from tasks.store import FolderStore

PHONE, DESK = 390, 1280
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_PROBE = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe src="page.html" style="border:0;width:WIDTHpx;height:2000px"></iframe><pre id="found"></pre><script>
const frame = document.querySelector("iframe");
const found = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const images = [...page.images], players = [...page.querySelectorAll("audio")];
  return {
    images: images.map(image => image.complete ? image.naturalWidth : -1),
    players: players.map(player => player.error ? -1 : player.readyState),
    durations: players.map(player => player.duration),
    overflow: root.scrollWidth - root.clientWidth,
    title: page.title,
    scripts: page.scripts.length,
    dark: page.defaultView.matchMedia("(prefers-color-scheme: dark)").matches,
    background: page.defaultView.getComputedStyle(page.body).backgroundColor,
  };
};
const tell = () => { document.getElementById("found").textContent = JSON.stringify(found()); };
frame.addEventListener("load", () => {
  const started = Date.now();
  const wait = () => {
    const now = found();
    const ready = now.images.every(width => width > 0) && now.players.every(state => state >= 1);
    if (ready || Date.now() - started > 8000) { tell(); } else { setTimeout(wait, 50); }
  };
  wait();
});
</script>"""


@dataclass(frozen=True)
class Browser:
    """Headless Chromium with a profile of its own."""

    binary: str
    folder: Path

    def dump(self, address: Path, *flags: str) -> str:
        """The document at `address` after it has settled, as HTML."""
        done = subprocess.run(
            [self.binary, *_FLAGS, f"--user-data-dir={self.folder / 'profile'}", "--virtual-time-budget=10000",
             "--allow-file-access-from-files", *flags, "--dump-dom", address.as_uri()],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def look(self, page: str, *flags: str, width: int = DESK) -> dict[str, Any]:
        """What a window `width` pixels wide makes of the page."""
        (self.folder / "page.html").write_text(page, encoding="utf-8")
        probe = self.folder / "probe.html"
        probe.write_text(_PROBE.replace("WIDTH", str(width)), encoding="utf-8")
        found = re.search(r'<pre id="found">(.+?)</pre>', self.dump(probe, *flags))
        assert found is not None, "the page did not load"
        return dict(json.loads(html.unescape(found[1])))


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no chromium on this machine; install Debian's package chromium to look at pages")
    return Browser(binary, tmp_path)


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_pictures_and_sound_load_and_nothing_overflows(
    browser: Browser, make_asset_page: Any, make_clip: Any, language: Any, width: int
) -> None:
    worst = [make_clip(0, regions=[(0.2, 0.9)]), make_clip(1, clip_id="아주긴클립이름_" * 8)]
    seen = browser.look(render_asset_page(make_asset_page(language=language, worst=worst)), width=width)
    # Histogram, ROC curve, timeline; two pictures a clip, one typical normal among them.
    assert len(seen["images"]) == 3 + 2 * (len(worst) + 1)
    assert min(seen["images"]) > 0
    assert len(seen["players"]) == len(worst) + 1
    assert min(seen["players"]) >= 1
    assert seen["durations"] == pytest.approx([2.0, 2.0, 2.0], abs=0.01)
    assert seen["overflow"] <= 0
    assert seen["scripts"] == 0


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_package_page_fits_too(
    browser: Browser, make_asset_page: Any, make_package_page: Any, language: Any, width: int
) -> None:
    problems = (
        report("row.path", file="metadata.csv", row=3, column="relative_path", value="../" * 60, why="parent folder"),
        report("clip.short", limits=QaLimits(), file="audio/" + "long-name-" * 12 + ".wav", measured=0.3),
    )
    page = make_package_page(language=language, report={"problems": problems}, concluded=[conclude(make_asset_page())])
    assert browser.look(render_package_page(page), width=width)["overflow"] <= 0


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_page_of_all_machines_fits_too(
    browser: Browser, make_asset_page: Any, onboard: Any, tmp_path: Path, width: int
) -> None:
    store = FolderStore(tmp_path / "store")
    onboard(store, make_asset_page(package_name="a-very-long-name-of-a-package-" * 4), "00")
    seen = browser.look(render_fleet_page(gather_fleet(store, "acme-ulsan"), language="ko"), width=width)
    assert seen["overflow"] <= 0
    assert seen["title"].startswith("전체 설비")


_BOXES = """<!doctype html><meta charset="utf-8"><body>SVG<pre id="found"></pre><script>
const box = element => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
const isDashed = path => /dasharray: [\\d.]/.test(path.getAttribute("style"));
const dashed = [...document.querySelectorAll("svg path")].filter(isDashed);
document.getElementById("found").textContent = JSON.stringify({
  words: [...document.querySelectorAll("svg text")].map(text => [text.textContent, box(text)]),
  lines: dashed.map(box),
  width: document.querySelector("svg").getBoundingClientRect().width,
});
</script>"""


@pytest.mark.parametrize("threshold", [0.21, 0.26, 0.3, 0.4])
@pytest.mark.parametrize("width", [370, 680])
def test_no_words_of_the_histogram_lie_on_the_threshold_or_on_each_other(
    browser: Browser, threshold: float, width: int
) -> None:
    say = Words("en")
    rng = np.random.default_rng(1)
    groups = [
        ScoreGroup(kind, say(f"scores.group.{kind}", n=1000), rng.normal(0.25 + 0.2 * (kind == "anomaly"), 0.02, 50))
        for kind in KINDS
    ]
    groups[2].scores[:3] = 30.0
    labels = {"score": "Score", "threshold": f"Threshold {threshold}", "beyond": "above 0.92"}
    svg = unquote(draw_scores(groups, threshold=threshold, width=width, labels=labels).partition(",")[2])
    page = browser.folder / "boxes.html"
    page.write_text(_BOXES.replace("SVG", svg), encoding="utf-8")
    found = re.search(r'<pre id="found">(.+?)</pre>', browser.dump(page))
    assert found is not None
    seen = json.loads(html.unescape(found[1]))
    assert len(seen["lines"]) == len(groups)
    placed = [*seen["words"], *(("the threshold", line) for line in seen["lines"])]
    for i, (name, box) in enumerate(placed):
        assert seen["width"] + 9 >= box[2], f"{name} is cut"
        for other, its in placed[i + 1 :]:
            if name != other:
                apart = box[2] <= its[0] or its[2] <= box[0] or box[3] <= its[1] + 1 or its[3] <= box[1] + 1
                assert apart, f"{name} lies on {other}"


def test_a_page_follows_the_readers_scheme(browser: Browser, make_package_page: Any) -> None:
    page = render_package_page(make_package_page())
    light = browser.look(page, "--blink-settings=preferredColorScheme=1")
    dark = browser.look(page, "--blink-settings=preferredColorScheme=0")
    assert (light["dark"], dark["dark"]) == (False, True)
    assert light["background"] != dark["background"]


@pytest.mark.parametrize(("language", "width"), [("en", PHONE), ("ko", DESK)])
def test_a_page_opened_from_disk_makes_no_request(
    browser: Browser, make_asset_page: Any, language: Any, width: int
) -> None:
    log = browser.folder / "net.json"
    # Without its policy, which would hide what the page asks for.
    text, policies = re.subn(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render_asset_page(make_asset_page(language=language))
    )
    assert policies == 1
    assert min(browser.look(text, f"--log-net-log={log}", width=width)["images"]) > 0
    addresses = set(re.findall(r'"url":"(https?:[^"]+)"', log.read_text(encoding="utf-8")))
    # The browser itself calls home, to its makers and nobody else.
    assert {a for a in addresses if not re.match(r"https?://[\w.-]*\.(google|googleapis|gvt1)\.com/", a)} == set()
