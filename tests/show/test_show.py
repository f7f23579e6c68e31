"""Figures show what they are given: signs as colours, units, marks, intervals."""

from __future__ import annotations

import warnings
from itertools import pairwise
from xml.dom import minidom

import matplotlib
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from grains_lens import FaithfulnessCurves, LayerConductance, TokenAttribution, show

WORDS = ("<s>", " the", " price", " is", " $x_1$", "\n")
SCORES = (0.0, 0.1, 2.0, -0.5, -2.0, 0.0)


def attribution(strings=WORDS, scores=SCORES) -> TokenAttribution:
    n_pos = len(strings)
    special = torch.arange(n_pos) == 0
    return TokenAttribution(
        torch.arange(n_pos),
        tuple(strings),
        torch.tensor(scores),
        torch.zeros_like(special),
        special,
        1.0,
        0.0,
    )


def cells(figure) -> list[Rectangle]:
    return [patch for patch in figure.axes[0].patches if patch.get_gid() == "token"]


def marks(figure) -> list:
    return [line for line in figure.axes[0].lines if line.get_gid() == "mark"]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_gid() == "token"]


def test_a_strip_has_one_cell_a_token_and_shows_its_text_as_it_is():
    figure = show.token_strip([attribution(), attribution()])
    assert len(cells(figure)) == 2 * len(WORDS)
    assert texts(figure) == 2 * ["<s>", "the", "price", "is", "$x_1$", "\\n"]


def test_positive_scores_are_blue_negative_ones_red_and_zero_white():
    for score, cell in zip(SCORES, cells(show.token_strip([attribution()])), strict=True):
        red, _, blue = to_rgb(cell.get_facecolor())
        assert (blue > red) == (score > 0)
        assert (red > blue) == (score < 0)


def test_prompts_share_one_colour_scale():
    weak = attribution(scores=tuple(score / 4 for score in SCORES))
    figure = show.token_strip([attribution(), weak])
    strong_cell, weak_cell = cells(figure)[2], cells(figure)[2 + len(WORDS)]
    assert sum(to_rgb(strong_cell.get_facecolor())) < sum(to_rgb(weak_cell.get_facecolor()))


def test_the_colour_bar_says_nats_and_spans_the_scores_both_ways():
    bar = show.token_strip([attribution()]).axes[1]
    assert "nats" in bar.get_xlabel()
    assert bar.get_xlim() == pytest.approx((-2.0, 2.0))


def test_marked_tokens_are_underlined_each_kind_in_its_own_style():
    figure = show.token_strip([attribution()], marked={"for": [[2]], "against": [[3, 4]]})
    keys = 2
    assert len(marks(figure)) == 3 + keys
    under, *_ = marks(figure)
    cell = cells(figure)[2]
    assert list(under.get_xdata()) == pytest.approx([cell.get_x(), cell.get_x() + cell.get_width()])
    assert {line.get_linestyle() for line in marks(figure)} == {"-", "--"}
    assert {"for", "against"} <= {text.get_text() for text in figure.axes[0].texts}


@pytest.mark.parametrize("width", [2.5, 3.3, 7.0])
def test_long_prompts_wrap_and_nothing_leaves_the_page(width):
    long = attribution(strings=[f"word{i}" for i in range(60)] + ["x" * 200], scores=[0.1] * 61)
    figure = show.token_strip([long], titles=["t" * 300], width=width)
    right = [cell.get_x() + cell.get_width() for cell in cells(figure)]
    assert max(right) <= width * 72
    assert len({cell.get_y() for cell in cells(figure)}) > 1
    assert max(cell.get_y() + cell.get_height() for cell in cells(figure)) < figure.get_figheight() * 72


def test_one_attribution_is_drawn_like_a_list_of_one():
    alone, listed = (show.token_strip(given, titles=["a"]) for given in (attribution(), [attribution()]))
    assert texts(alone) == texts(listed)
    assert len(cells(alone)) == len(WORDS)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_attribution_is_refused():
    with pytest.raises(ValueError, match=r"attributions\[1\] is 0.5 and no TokenAttribution"):
        show.token_strip([attribution(), 0.5])


def test_scores_that_are_all_zero_can_be_drawn():
    assert len(cells(show.token_strip([attribution(scores=[0.0] * len(WORDS))]))) == len(WORDS)


def test_what_does_not_fit_the_prompts_is_refused():
    with pytest.raises(ValueError, match="no attributions"):
        show.token_strip([])
    with pytest.raises(ValueError, match="titles has 2 entries; one for each of 1 prompts"):
        show.token_strip([attribution()], titles=["a", "b"])
    with pytest.raises(ValueError, match=r"marked\['cue'\] has 0 entries"):
        show.token_strip([attribution()], marked={"cue": []})


BARS = [
    show.Bar(group, label, value, value - 0.1, value + 0.05)
    for group, value in {"truth": 0.6, "faith": 0.7}.items()
    for label in ("ours", "theirs")
]


def test_bars_stand_at_their_values_with_their_intervals_and_the_base_is_a_line():
    axes = show.gains(BARS, base={"truth": 0.5, "faith": 0.4}).axes[0]
    ours, theirs = (container for container in axes.containers if hasattr(container, "patches"))
    assert [bar.get_height() for bar in ours.patches] == [0.6, 0.7]
    assert [bar.get_height() for bar in theirs.patches] == [0.6, 0.7]
    assert ours.patches[0].get_facecolor() != theirs.patches[0].get_facecolor()
    (whiskers,) = ours.errorbar[2]
    assert [sorted(end[1] for end in segment) for segment in whiskers.get_segments()] == [
        pytest.approx([0.5, 0.65]),
        pytest.approx([0.6, 0.75]),
    ]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["truth", "faith"]
    assert "95%" in axes.get_ylabel()
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["base", "ours", "theirs"]


def test_an_average_stands_apart_behind_a_line_and_other_groups_do_not():
    bars = [*BARS, show.Bar("average", "ours", 0.65, 0.6, 0.7), show.Bar("average", "theirs", 0.6, 0.5, 0.7)]
    base = {"truth": 0.5, "faith": 0.4, "average": 0.45}
    axes = show.gains(bars, base=base).axes[0]
    truth, faith, average = axes.get_xticks()
    assert average - faith > faith - truth
    (line,) = [one for one in axes.get_lines() if len(set(one.get_xdata())) == 1 and one.get_ydata()[0] == 0]
    last_bar = max(bar.get_x() + bar.get_width() for bar in axes.containers[-1].patches[:-1])
    assert last_bar < line.get_xdata()[0] < average - 0.4
    ticks = show.gains(bars, base=base, apart="no group").axes[0].get_xticks()
    assert list(ticks) == [0, 1, 2]


@pytest.mark.parametrize("width", [3.35, 6.5])
def test_names_of_groups_do_not_collide_in_a_papers_column(width):
    groups = ["truthfulness", "hallucination", "faithfulness", "stereotypes", "average"]
    bars = [show.Bar(group, "ours", 0.5, 0.4, 0.6) for group in groups]
    figure = show.gains(bars, base=dict.fromkeys(groups, 0.4), width=width)
    figure.draw_without_rendering()
    names = figure.axes[0].get_xticklabels()
    assert [name.get_rotation() for name in names] == [20 if width < 5 else 0] * 5
    if width > 5:
        boxes = [name.get_window_extent() for name in names]
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_more_bars_than_colours_are_told_apart_by_hatches():
    bars = [show.Bar("truth", str(index), 0.5, 0.4, 0.6) for index in range(9)]
    patches = [
        one.patches[0]
        for one in show.gains(bars, base={"truth": 0.4}).axes[0].containers
        if hasattr(one, "patches")
    ]
    assert len({(patch.get_facecolor(), patch.get_hatch()) for patch in patches}) == 9


def test_bars_without_a_base_or_without_bars_are_refused():
    with pytest.raises(ValueError, match="base has no value for faith"):
        show.gains(BARS, base={"truth": 0.5})
    with pytest.raises(ValueError, match="no bars"):
        show.gains([], base={})


def test_figures_are_saved_without_pyplot(tmp_path):
    import sys

    before = "matplotlib.pyplot" in sys.modules
    path = show.save(show.gains(BARS, base={"truth": 0.5, "faith": 0.4}), tmp_path / "new" / "gains.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert ("matplotlib.pyplot" in sys.modules) == before


# --- maps and curves -----------------------------------------------------------------------------


def test_a_layer_token_map_shows_every_score_on_one_signed_scale():
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    figure = show.layer_token_map(scores, list("abcde"), response=torch.tensor([1.0, -9.0, 0.5]))
    (image,) = figure.axes[0].images
    shown = torch.as_tensor(image.get_array().data)
    torch.testing.assert_close(shown[:, :5].float(), scores)
    assert shown[:, 5].tolist() == [1.0, -9.0, 0.5]
    assert image.norm.vmin == -image.norm.vmax == -9.0
    red, green, blue, _ = image.cmap(image.norm(-9.0))
    assert red > max(green, blue)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [*"abcde", "answers"]
    assert "nats" in figure.axes[-1].get_xlabel()


def conductance(n: int = 3) -> LayerConductance:
    one = attribution()
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(n, len(WORDS), generator=generator)
    return LayerConductance(
        "resid_post", one.tokens, WORDS, scores, torch.arange(float(n)), one.is_special, 1.0, 0.0
    )


def drawn(figure) -> torch.Tensor:
    return torch.as_tensor(figure.axes[0].images[0].get_array().data)


def labels(figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_xticklabels()]


@pytest.mark.parametrize("listed", [False, True])
def test_a_conductance_is_a_map_with_its_strings_and_its_answers(listed):
    flow = conductance()
    figure = show.layer_token_map([flow] if listed else flow)
    by_hand = show.layer_token_map(flow.scores, WORDS, response=flow.response)
    assert torch.equal(drawn(figure), drawn(by_hand))
    assert labels(figure) == labels(by_hand)
    assert labels(figure)[-1] == "answers"


def test_a_map_of_several_or_without_strings_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"a list of 2 conductances, .* layer_token_map\(flows\[0\]\)"):
        show.layer_token_map([conductance(), conductance()])
    with pytest.raises(ValueError, match=r"strings=None .* one string per position"):
        show.layer_token_map(torch.zeros(2, 3))


def test_a_long_map_goes_on_in_further_panels_with_nothing_lost():
    strings = [f"t{index}" for index in range(70)]
    figure = show.layer_token_map(torch.randn(2, 70), strings)
    labels = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert [label for label in labels if label in strings] == strings
    assert len([axes for axes in figure.axes if axes.images]) > 1


def test_a_map_refuses_scores_and_strings_that_do_not_fit():
    with pytest.raises(ValueError, match="scores has 3 positions and there are 2 strings"):
        show.layer_token_map(torch.zeros(2, 3), ["a", "b"])


def test_faithfulness_curves_are_drawn_with_their_gains():
    down = torch.tensor([4.0, 0.0, 0.0])
    curves = [
        FaithfulnessCurves(
            down, down.flip(0), torch.tensor([[4.0, 2.0, 0.0]]), torch.tensor([[0.0, 2.0, 4.0]])
        )
    ]
    deletion, insertion = show.faithfulness_curves(curves * 3).axes
    by_score, random = deletion.get_lines()[:2]
    assert by_score.get_ydata()[[0, -1]].tolist() == [4.0, 0.0]
    assert (random.get_ydata() >= by_score.get_ydata()).all()
    assert f"{curves[0].deletion_gain:+.2f}" in deletion.get_title()
    assert "nats" in deletion.get_ylabel()
    assert insertion.get_xlabel() == "share of tokens revealed"
    with pytest.raises(ValueError, match="there are no curves"):
        show.faithfulness_curves([])


def test_a_figure_without_an_ending_is_where_the_path_says(tmp_path):
    """matplotlib adds the ending by itself: what is returned is where the file is."""
    path = show.save(show.gains(BARS, base={"truth": 0.5, "faith": 0.4}), tmp_path / "gains")
    assert path == tmp_path / "gains.png"
    assert path.read_bytes().startswith(b"\x89PNG")


NASTY = ("\x1b]0;x\x07", "\x00", "a\x9b", "\u202eb", "\ud800", "\ufffe\uffff", "<&>")


@pytest.mark.parametrize("fonttype", ["path", "none"])
def test_a_figure_of_any_text_is_a_well_formed_svg_without_control_characters(fonttype, tmp_path):
    """What text stands in comments (drawn as paths) or as it is."""
    text = "".join(NASTY)
    one = attribution(strings=NASTY, scores=tuple(map(float, range(len(NASTY)))))
    held = LayerConductance(
        "resid_post", one.tokens, NASTY, torch.rand(2, len(NASTY)), torch.zeros(2), one.is_special, 1.0, 0.0
    )
    figures = [
        show.token_strip([one], titles=[text], title=text, marked={text: [[0]]}),
        show.layer_token_map(held, title=text),
        show.gains([show.Bar(text, text, 0.5, 0.4, 0.6)], base={text: 0.3}, title=text, quantity=text),
    ]
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": fonttype}):
        warnings.filterwarnings("ignore", message="Glyph")
        for index, figure in enumerate(figures):
            path = show.save(figure, tmp_path / f"{index}.svg")
            minidom.parse(str(path))
            assert path.read_text(encoding="utf-8").replace("\n", "").isprintable()
