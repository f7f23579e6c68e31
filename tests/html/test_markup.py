"""Results in a notebook and in a terminal: text stays text, nothing comes from outside, numbers are those held."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import grains_lens as gl
from grains_lens.html import markup
from tests import faces

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(HTMLParser):
    """What a browser sees: tags with their attributes, all text, and the texts by tag."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1], data))

    @property
    def text(self):
        return "".join(text for _, text in self.texts)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def page(name):
    return Page(faces.FACES[name]()._repr_html_())


@pytest.mark.parametrize("name", faces.FACES)
def test_a_face_is_whole_and_needs_nothing_from_outside(name):
    html = faces.FACES[name]()._repr_html_()
    seen = Page(html)
    assert not {tag for tag, _ in seen.tags} & {"script", "link", "style", "img", "iframe", "object", "image"}
    for _, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href")]
        assert not re.search(r"http|url\(|@import|javascript", attributes.get("style", ""))


@pytest.mark.parametrize("name", faces.FACES)
def test_inks_are_the_pages_own_so_that_light_and_dark_pages_can_be_read(name):
    for _, attributes in page(name).tags:
        style = attributes.get("style", "")
        inks = re.findall(r"(?<![-\w])(?:color|stroke):([^;]+)", style) + [
            attributes[key] for key in ("fill", "stroke") if key in attributes
        ]
        assert set(inks) <= {"inherit", "currentColor", "none", markup.GREY, markup.DARK_GREY}
        for ground in re.findall(r"background:([^;]+)", style):
            assert ground in ("none", "currentColor") or ground.startswith("rgba(")


@pytest.mark.parametrize("name", faces.FACES)
def test_a_terminal_gets_plain_text_that_does_not_flood_it(name):
    shown = repr(faces.FACES[name]())
    assert "tensor(" not in shown
    assert len(shown) < 1000
    assert "<div" not in shown


def test_contrasts_do_not_flood_a_terminal_either():
    deltas, ones = torch.zeros(50, 2, 8), torch.ones(50)
    shown = repr(gl.Contrasts(deltas, deltas, ones, ones, (1, 3), torch.ones(2)))
    assert shown == "Contrasts(50 pairs, layers [1, 3], d_model 8)"


def test_conductance_shows_every_token_layer_and_number():
    one, seen = faces.conductance(), page("conductance")
    cells = [attributes["title"] for attributes in seen.of("td")]
    numbers = [float(re.search(r"([+-][\d.]+) nats$", title)[1]) for title in cells]
    # The last layer is on top, as in figures; the answers' share is the last column.
    expected = torch.cat([one.scores, one.response[:, None]], dim=1).flip(0).flatten()
    assert torch.allclose(torch.tensor(numbers), expected, atol=5e-4)
    heads = [text for tag, text in seen.texts if tag == "span"]
    assert heads == [*(markup.shown(string) for string in one.strings), "answers"]


def test_the_attributions_strip_shows_every_token():
    texts = [text for tag, text in page("attribution").texts if tag == "span"]
    assert texts == [markup.shown(string) for string in faces.STRINGS]


def test_tuning_marks_the_best_row_and_no_other():
    one, seen = faces.tuning(), page("tuning")
    marked = ["rgba" in row["style"].split("font-weight")[0] for row in seen.of("tr")[1:]]
    assert marked == [row == one.best for row in one.rows]
    assert faces.NASTY[0] in [text for tag, text in seen.texts if tag == "th"]
    assert {f"{row.score:.3f}" for row in one.rows} <= {text for tag, text in seen.texts if tag == "td"}


def test_a_card_of_vectors_has_a_bar_a_layer_as_long_as_its_direction():
    one = faces.vectors()
    html = one._repr_html_()
    widths = [float(width) for width in re.findall(r"height:12px;width:([\d.]+)%", html)]
    expected = 100 * one.norms() / one.norms().max()
    assert torch.allclose(torch.tensor(widths), expected, atol=0.06)
    assert one.provenance.model is not None
    for held in (one.provenance.method, one.provenance.model.name, faces.NASTY[3]):
        assert held in Page(html).text


def test_vectors_of_no_model_and_no_length_have_a_card_too():
    none = faces.vectors() * 0.0
    assert "not recorded" in Page(type(none).of_layers({1: none[1]}, method="mine")._repr_html_()).text


def test_curves_span_their_box_and_begin_and_end_where_they_should():
    drawn = re.findall(r'points="([^"]+)"', markup.curves([([3.0, 1.0, 2.0], "")], title="t", unit="u"))
    points = [tuple(map(float, point.split(","))) for point in drawn[0].split()]
    xs, ys = zip(*points, strict=True)
    assert xs[0] < xs[1] < xs[2]
    assert min(ys) == ys[0]  # the largest value is highest up
    assert max(ys) == ys[1]
    assert ys[2] == pytest.approx((ys[0] + ys[1]) / 2, abs=0.11)
    assert markup.curves([([1.0, 1.0], "")], title="flat", unit="u")


def test_a_long_word_breaks_rather_than_push_a_table_of_texts_off_the_page():
    seen = Page(markup.text_table(["text"], [["x" * 500]]))
    assert all("overflow-wrap:anywhere" in attributes["style"] for attributes in seen.of("td"))


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.4, 2.0])
def test_bars_stay_within_their_box(share):
    width = float(re.search(r"height:12px;width:([\d.]+)%", markup.bar(share))[1])
    assert width == pytest.approx(100 * min(1.0, max(0.0, share)))


def test_only_ready_html_is_put_in_as_it_is():
    assert markup.escaped("<b>") == "&lt;b&gt;"
    assert markup.escaped(markup.Html("<b>")) == "<b>"
    assert "<b>" not in markup.table(["<b>"], [["<b>", "<b>"]]) + markup.card("<b>", "<b>", caption="<b>")


PIECES = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="{scheme}">
<body style="margin:8px">{body}</body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_draws_every_face_on_light_pages_and_on_dark_ones(tmp_path):
    """Drawn: a page of all faces holds the page's ground, its ink, and the blue and the red of scores."""
    body = "<hr>".join(face()._repr_html_() for face in faces.FACES.values())
    for scheme in ("light", "dark"):
        colours = colours_of(screenshot(PIECES.format(scheme=scheme, body=body), tmp_path / scheme))
        bright = [sum(colour) for colour in colours]
        assert max(bright) > 700
        assert min(bright) < 120
        ground = max(colours, key=colours.__getitem__)
        assert (sum(ground) > 700) == (scheme == "light")
        assert any(blue > red + 40 for red, _, blue in colours)
        assert any(red > blue + 40 for red, _, blue in colours)


def screenshot(html: str, directory: Path, size: str = "900,2000") -> Path:
    directory.mkdir()
    source, picture = directory / "page.html", directory / "page.png"
    source.write_text(html, encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --hide-scrollbars"
    )
    assert CHROMIUM is not None
    subprocess.run(
        [
            CHROMIUM,
            *flags.split(),
            f"--user-data-dir={directory / 'profile'}",
            f"--window-size={size}",
            f"--screenshot={picture}",
            source.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return picture


def colours_of(picture: Path) -> dict[tuple[int, int, int], int]:
    """How often each colour occurs, over every fourth pixel."""
    from PIL import Image

    image = Image.open(picture).convert("RGB")
    counted = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST).getcolors(1 << 24)
    return {colour: count for count, colour in counted}


CONTROLS = ("\x1b[2J", "\x00", "a\x9b31m", "\u202eb", "\ud800", "\ufffe", "\x07\x08")


@pytest.mark.parametrize("name", faces.FACES)
def test_characters_that_steer_a_terminal_or_break_a_page_are_shown_as_escapes(name, monkeypatch):
    monkeypatch.setattr(faces, "NASTY", CONTROLS)
    monkeypatch.setattr(faces, "STRINGS", ("<bos>", " is", *CONTROLS))
    html = faces.FACES[name]()._repr_html_()
    assert html.replace("\n", "").isprintable()
    html.encode()
    if name not in ("vectors", "tuning"):  # Their reprs hold only names that the user's own code gave.
        assert repr(faces.FACES[name]()).replace("\n", "").isprintable()
