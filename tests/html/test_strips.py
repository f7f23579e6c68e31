"""Token strips: colours that mean the score, text that can be read, HTML that carries everything itself."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from xml.dom import minidom

import pytest

from grains_lens.html.strips import colour, ink, tint, token_strip_html


class Strip(HTMLParser):
    """What a browser sees: tags, the tokens' attributes and texts, and the caption."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.tokens, self.open = [], [], []
        self.caption = ""
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)
        if tag == "span":
            self.tokens.append({**dict(attrs), "text": ""})

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] == "span":
            self.tokens[-1]["text"] += data
        else:
            self.caption += data


def strip(strings, scores, **settings):
    return Strip(token_strip_html(strings, scores, caption="a caption", **settings))


def contrast(one, other):
    """WCAG 2's contrast ratio of two colours, 1 to 21."""

    def luminance(channels):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance([c / 255 for c in rgb]) for rgb in (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_blue_speaks_for_and_red_against():
    for score in (0.1, 0.5, 1.0):
        red, _, blue = colour(score, 1.0)
        assert blue > red
        red, _, blue = colour(-score, 1.0)
        assert red > blue
    assert colour(0.0, 1.0) == colour(0.0, 0.0) == (255, 255, 255)


def test_colours_deepen_with_the_score_and_stop_at_the_scale():
    for sign in (1, -1):
        brightness = [sum(colour(sign * score / 20, 1.0)) for score in range(21)]
        assert all(earlier > later for earlier, later in itertools.pairwise(brightness))
        assert colour(sign * 5.0, 1.0) == colour(sign * 1.0, 1.0)


def test_only_the_share_of_the_scale_matters_and_both_signs_fade_alike():
    assert colour(0.3, 1.0) == colour(3e-6, 1e-5) == colour(300.0, 1000.0)
    for sign in (1, -1):
        half, full = colour(sign * 0.5, 1.0), colour(sign * 1.0, 1.0)
        assert all(abs((255 - h) - (255 - f) / 2) <= 0.5 for h, f in zip(half, full, strict=True))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_ink_can_be_read_on_every_colour(sign):
    black, white = (0, 0, 0), (255, 255, 255)
    for score in range(101):
        background = colour(sign * score / 100, 1.0)
        chosen, other = (black, white) if ink(background) == "#000" else (white, black)
        assert contrast(chosen, background) >= contrast(other, background)
        # WCAG's least for text of normal size.
        assert contrast(chosen, background) >= 4.5


@pytest.mark.parametrize(("page", "text"), [((255, 255, 255), (0, 0, 0)), ((17, 17, 17), (255, 255, 255))])
def test_the_pages_own_ink_can_be_read_on_every_tint_light_or_dark(page, text):
    for score in range(-100, 101):
        assert contrast(text, seen_through(tint(score / 100, 1.0), page)) >= 4.5


def test_tints_are_the_same_colours_let_through_and_nothing_at_zero():
    white = (255, 255, 255)
    assert seen_through(tint(0.0, 1.0), white) == seen_through(tint(0.0, 0.0), white) == white
    for sign in (1, -1):
        brightness = [sum(seen_through(tint(sign * score / 20, 1.0), white)) for score in range(21)]
        assert all(earlier > later for earlier, later in itertools.pairwise(brightness))
        assert tint(sign * 5.0, 1.0) == tint(sign * 1.0, 1.0)
        red, _, blue = seen_through(tint(float(sign), 1.0), white)
        assert (blue - red) * sign > 60


def seen_through(tint, page):
    """What a translucent colour looks like on a page."""
    *channels, opacity = (float(part) for part in re.findall(r"[\d.]+", tint))
    return tuple(opacity * c + (1 - opacity) * p for c, p in zip(channels, page, strict=True))


def test_tokens_come_in_order_with_their_scores_and_the_strongest_in_full_colour():
    seen = strip([" the", " fox", "?"], [0.25, -2.0, 1.0])
    assert [token["text"] for token in seen.tokens] == ["the", "fox", "?"]
    assert [token["title"] for token in seen.tokens] == [
        "the: +0.250 nats",
        "fox: -2.000 nats",
        "?: +1.000 nats",
    ]
    for token, share in zip(seen.tokens, [0.125, -1.0, 0.5], strict=True):
        assert f"background:{tint(share, 1.0)};" in token["style"]
    assert seen.caption == "a caption"


NASTY = ["<script>", "&", "&amp;", '"', "'", '" onmouseover="x', "</span>", "<|endoftext|>", "深", "🙂"]


def test_tokens_and_caption_are_text_whatever_they_hold():
    seen = strip(NASTY, [1.0] * len(NASTY))
    assert [token["text"] for token in seen.tokens] == NASTY
    assert [token["title"].rpartition(": ")[0] for token in seen.tokens] == NASTY
    assert all(set(token) == {"title", "style", "text"} for token in seen.tokens)
    html = token_strip_html(["a"], [1.0], caption="<b>f & g</b>")
    assert Strip(html).caption == "<b>f & g</b>"


def test_the_piece_is_self_contained():
    html = token_strip_html(NASTY, [1.0] * len(NASTY), caption="c")
    assert set(Strip(html).tags) == {"div", "span"}
    assert not re.search(r"http|<script|<link|<style|url\(|@import", html)


def test_tokens_of_nothing_but_whitespace_are_shown():
    assert [token["text"] for token in strip([" ", "\n", "\t\n"], [1.0, 1.0, 1.0]).tokens] == [
        " ",
        "\\n",
        "\\t\\n",
    ]


def test_marked_tokens_are_underlined_and_no_others():
    styles = [token["style"] for token in strip("abcd", [1.0, 2.0, -1.0, 0.0], marked=[0, 2]).tokens]
    underlined = [not re.search(r"border-bottom:[^;]*transparent", style) for style in styles]
    assert underlined == [True, False, True, False]


def test_a_strip_of_zeros_or_of_nothing_is_blank():
    assert all(
        token["style"].startswith(f"background:{tint(0.0, 1.0)}") for token in strip("ab", [0.0, 0.0]).tokens
    )
    assert strip([], []).tokens == []


def test_a_score_is_needed_for_every_token():
    with pytest.raises(ValueError, match="shorter"):
        token_strip_html(["a", "b"], [1.0], caption="c")


@pytest.mark.parametrize("token", ["\x00", "a\x1b[2J", "\x9b", "\u202e", "\ud800", "\ufffe"])
def test_tokens_that_no_page_may_hold_are_shown_as_escapes(token):
    html = token_strip_html([token], [1.0], caption=token)
    assert html.isprintable()
    assert strip([token], [1.0]).tokens[0]["text"] == repr(token)[1:-1]
    minidom.parseString(html.encode())
