"""Scores over pictures: where they belong, on one scale with the words, and nothing where the model did not look."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from grains_lens import Attributions, PreferencePair, TokenAttribution, show
from grains_lens.prompts.grids import Grid, Grids

PICTURE = np.full((20, 40, 3), 200, np.uint8)


def attribution(
    extent=(0.0, 0.0, 1.0, 1.0), n_images: int = 1, scores=(1.0, -0.5, 0.0, 0.25)
) -> TokenAttribution:
    """A prompt of two words with images of 2 by 2 tokens between them."""
    n_pos = 2 + 4 * n_images
    image = torch.zeros(n_pos, dtype=torch.bool)
    image[1:-1] = True
    grids = Grids((Grid(torch.arange(4).reshape(2, 2), extent),), 4)
    return TokenAttribution(
        torch.arange(n_pos),
        ("the", *["<image>"] * (4 * n_images), "cat"),
        torch.tensor([2.0, *scores * n_images, -1.0]),
        image,
        torch.zeros_like(image),
        1.0,
        0.0,
        (grids,) * n_images,
    )


def overlays(figure) -> list:
    return [image for axes in figure.axes for image in axes.images if image.get_gid() == "scores"]


def n_marks(figure) -> int:
    return sum(line.get_gid() == "mark" for line in figure.axes[0].lines)


def test_signs_are_colours_and_sizes_opacity_on_the_scale_of_the_words():
    (overlay,) = overlays(show.image_attribution(attribution(), [PICTURE]))
    cells = np.asarray(overlay.get_array())
    assert cells.shape == (2, 2, 4)
    assert cells[0, 0, 2] > cells[0, 0, 0]  # blue, for
    assert cells[0, 1, 0] > cells[0, 1, 2]  # red, against
    # The word scores 2, twice as much as the highest patch. A quarter of the scale covers half, and 0 nothing.
    assert cells[..., 3] == pytest.approx(0.9 * np.array([[0.5, 0.25], [0.0, 0.125]]) ** 0.5)


def test_a_moderate_score_is_seen_on_black_and_on_white_and_no_score_leaves_the_picture_as_it_is():
    for shade in (0, 255):
        picture = np.full((20, 40, 3), shade, np.uint8)
        figure = show.image_attribution(attribution(scores=(0.4, -0.4, 0.0, 0.0)), [picture])
        (overlay,) = overlays(figure)
        grey, cells = np.asarray(overlay.axes.images[0].get_array()), np.asarray(overlay.get_array())
        opacity = cells[..., 3:]
        seen = (1 - opacity) * grey[0, 0] + opacity * cells[..., :3]
        assert (np.abs(seen[0] - grey[0, 0]).max(axis=-1) > 0.25).all()  # a fifth of the scale
        assert seen[1] == pytest.approx(shade / 255)


def test_a_key_shows_colours_over_dark_and_light_as_they_lie_over_pictures():
    figure = show.image_attribution(attribution(), [PICTURE])
    (key,) = [axes for axes in figure.axes if any(image.get_gid() == "key" for image in axes.images)]
    under, over = (np.asarray(image.get_array()) for image in key.images)
    assert under[:, 0, 0].tolist() == [0.0, 1.0]
    (overlay,) = overlays(figure)
    at = 100 + round(100 * 1.0 / 2.0)  # a patch of 1 nat, on a scale of 2
    assert over[0, at] == pytest.approx(np.asarray(overlay.get_array())[0, 0])
    assert [text.get_text() for text in key.get_xticklabels()] == ["−2", "0", "+2"]


@pytest.mark.parametrize("given", ["images", "pair", "picture"])
def test_the_pair_or_its_images_or_its_one_picture_may_be_given(given):
    pair = PreferencePair("the <image> cat", "yes", "no", images=(PICTURE,))
    images = {"images": pair.images, "pair": pair, "picture": PICTURE}[given]
    assert len(overlays(show.image_attribution(attribution(), images))) == 1


def test_a_list_of_attributions_is_drawn_below_each_other_on_one_scale():
    weak = attribution(scores=(0.5, 0.0, 0.0, 0.0))
    pair = PreferencePair("the <image> cat", "yes", "no", images=(PICTURE,))
    figure = show.image_attribution(
        Attributions([attribution(n_images=2), weak]),
        [(PICTURE, PICTURE), pair],
        titles=["a", "b"],
        width=3.35,
    )
    one, two, three = overlays(figure)
    assert one.axes.get_window_extent().y0 > three.axes.get_window_extent().y1
    assert one.axes.get_window_extent().x1 < two.axes.get_window_extent().x0
    assert np.asarray(three.get_array())[0, 0, 3] == pytest.approx(0.9 * 0.25**0.5)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("cat") == 2
    assert {"a", "b", "image 2: +0.75 nats"} <= set(texts)


def test_it_takes_its_arguments_by_the_names_of_before():
    assert len(overlays(show.image_attribution(attribution=attribution(), images=[PICTURE]))) == 1


def test_a_list_needs_images_and_titles_for_each():
    two = [attribution(), attribution()]
    with pytest.raises(ValueError, match="images has 1 entries; one for each of 2 attributions"):
        show.image_attribution(two, [[PICTURE]])
    with pytest.raises(ValueError, match="titles has 1 entries; one for each of 2 attributions"):
        show.image_attribution(two, [[PICTURE], [PICTURE]], titles=["a"])
    with pytest.raises(ValueError, match="one for each of 0 attributions"):
        show.image_attribution([], [])


def test_scores_lie_where_the_model_looked():
    extent = (0.25, 0.0, 0.75, 1.0)
    (overlay,) = overlays(show.image_attribution(attribution(extent), [PICTURE]))
    assert overlay.get_extent() == [0.25, 0.75, 1.0, 0.0]
    axes = overlay.axes
    assert axes.get_xlim() == (0, 1)
    assert axes.get_ylim() == (1, 0)


def test_pictures_keep_their_shape_and_fit_the_width():
    for n_images in (1, 2, 3):
        figure = show.image_attribution(attribution(n_images=n_images), [PICTURE] * n_images, width=3.35)
        assert len(overlays(figure)) == n_images
        for overlay in overlays(figure):
            box = overlay.axes.get_window_extent()
            assert box.width / box.height == pytest.approx(2, rel=0.01)
            assert box.x1 <= figure.get_window_extent().x1


def test_an_image_is_one_piece_of_a_strip_and_marked_as_one():
    one = attribution()
    figure = show.token_strip([one], marked={"true": [[3]]})
    texts = [text.get_text() for text in figure.axes[0].texts if text.get_gid() == "token"]
    assert texts == ["the", "image, 4 tokens: +0.75", "cat"]
    faces = [patch for patch in figure.axes[0].patches if patch.get_gid() == "token"]
    assert to_rgb(faces[1].get_facecolor()) == (1.0, 1.0, 1.0)
    assert n_marks(figure) == 1 + n_marks(show.token_strip([one], marked={"true": [[]]}))
    assert "image, 4 tokens(+0.75)" in repr(one)
    assert one._repr_html_().count("row ") == 4


def test_images_side_by_side_stay_apart():
    pieces = attribution(n_images=2).pieces()
    assert [piece.positions for piece in pieces] == [range(1), range(1, 5), range(5, 9), range(9, 10)]


def test_other_images_than_the_prompts_are_refused():
    with pytest.raises(ValueError, match="0 pictures and the prompt has 1"):
        show.image_attribution(attribution(), [])
    with pytest.raises(ValueError, match="1 pictures and the prompt has 0"):
        show.image_attribution(attribution(n_images=0), [PICTURE])
