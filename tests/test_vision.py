"""Vision-language models: what they compute, against plain Hugging Face copies, and attribution over images."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

import grains_lens as gl
from grains_lens.attribution.fillers import PerModality, filler_embedding, prompt_embeddings
from grains_lens.attribution.gap import gap_function
from grains_lens.hosts.forward import prefill
from grains_lens.hosts.model import frozen
from grains_lens.prompts.batching import collate, encode_for
from tests import vision_models
from tests.vision_models import VisionModel, hf_gap, hf_inputs, pairs_for, picture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pairs(seeing: VisionModel) -> list[gl.PreferencePair]:
    return pairs_for(seeing.placeholder)


@pytest.fixture(scope="module")
def attributions(seeing: VisionModel, pairs: list[gl.PreferencePair]) -> list[gl.TokenAttribution]:
    return attribute(seeing, pairs)


def attribute(
    model: VisionModel, pairs: list[gl.PreferencePair], **settings: Any
) -> list[gl.TokenAttribution]:
    settings = {"method": gl.IntegratedGradients(tolerance=0.02), "progress": False} | settings
    return gl.attribute(model.hooked, pairs, **settings)


def test_ids_are_the_processors_own(seeing, pairs):
    for pair, encoded in zip(pairs, encode_for(seeing.hooked, pairs), strict=True):
        inputs, n_prompt = hf_inputs(seeing, pair, pair.chosen)
        assert list(encoded.prompt.ids + encoded.answers[0]) == inputs["input_ids"][0].tolist()
        assert len(encoded.prompt) == n_prompt


def test_gaps_and_gradients_are_those_of_a_plain_model(seeing, pairs):
    # Prompts of several lengths, with two images, one or none, left-padded into one batch; the plain model runs
    # each alone, in full and without a cache.
    items = encode_for(seeing.hooked, pairs)
    with frozen(seeing.hooked):
        filler = filler_embedding(seeing.hooked, "mask", argument="baseline")
        f = gap_function(seeing.hooked, items, filler, "sum", 10_000, include_special=False)
        (gradients,) = f.gradients(f.x[None])
        gaps = f.values(f.x[None])[0]
    for pair, item, gap, x, gradient in zip(pairs, items, gaps, f.x, gradients[0], strict=True):
        n_pos = len(item.prompt)
        expected_gap, merged, _ = hf_gap(seeing, pair)
        assert float(gap) == pytest.approx(expected_gap, abs=1e-4)
        assert relative_error(x[-n_pos:], merged) < 1e-5
        # At the same point: transformer-lens 3.9's vision towers round otherwise, which a gradient magnifies.
        _, _, expected = hf_gap(seeing, pair, at=x[-n_pos:])
        assert relative_error(gradient[-n_pos:], expected) < 1e-5
        assert not gradient[:-n_pos].any()


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    return float((value - expected).norm() / expected.norm())


def test_preferences_seen_through_pixels_are_those_of_a_plain_model(seeing, pairs):
    scores = gl.preference(seeing.hooked, pairs, progress=False)
    assert scores.gaps.tolist() == pytest.approx([hf_gap(seeing, pair)[0] for pair in pairs], abs=1e-4)


def test_merged_embeddings_need_no_pixels(seeing, pairs):
    batch = collate(encode_for(seeing.hooked, pairs), CPU)
    runs = []
    tower = seeing.hooked.vision_encoder.register_forward_hook(lambda *_: runs.append(1))
    try:
        with torch.no_grad():
            with_pixels, _ = prefill(seeing.hooked, batch.prompts)
            stream = prompt_embeddings(seeing.hooked, batch.prompts).stream
            assert runs
            runs.clear()
            without, _ = prefill(seeing.hooked, batch.prompts, embeddings=stream)
            assert not runs
    finally:
        tower.remove()
    assert torch.equal(without, with_pixels)


def test_scores_are_complete(attributions):
    for one in attributions:
        assert abs(one.completeness_error) <= 0.02 * max(1, abs(one.gap - one.baseline_gap))


def test_batching_and_order_change_no_score(seeing, pairs, attributions):
    for pair, one in zip(pairs, attributions, strict=True):
        (alone,) = attribute(seeing, [pair])
        assert torch.allclose(alone.scores, one.scores, atol=1e-3, rtol=1e-3)


def test_swapping_the_answers_negates_every_score(seeing, pairs, attributions):
    swapped = [dataclasses.replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs]
    for one, other in zip(attributions, attribute(seeing, swapped), strict=True):
        assert torch.allclose(one.scores, -other.scores, atol=1e-4)


def test_another_picture_gives_other_scores(seeing, pairs, attributions):
    other = dataclasses.replace(pairs[0], images=(picture(9),))
    (one,) = attribute(seeing, [other])
    changed = (one.scores - attributions[0].scores).abs()
    assert one.gap != pytest.approx(attributions[0].gap, abs=1e-2)
    assert float(changed[one.is_image].max()) > 0.01


def test_image_tokens_score_and_can_be_chosen(seeing, pairs, attributions):
    token = seeing.plain.config.image_token_id
    for pair, one in zip(pairs, attributions, strict=True):
        assert torch.equal(one.is_image, one.tokens == token)
        assert bool(one.is_image.any()) == bool(pair.images)
        assert not (one.is_image & one.is_special).any()
    first = attributions[0]
    assert (first.scores[first.is_image] != 0).all()
    chosen = {name: set(first.top(3, modality=name).tolist()) for name in ("joint", "vision", "text")}
    assert all(first.is_image[at] for at in chosen["vision"])
    assert not any(first.is_image[at] for at in chosen["text"])
    assert chosen["joint"] <= chosen["vision"] | chosen["text"]


def test_grids_hold_every_token_that_shows_a_part_of_the_picture(seeing, pairs, attributions):
    for pair, one in zip(pairs, attributions, strict=True):
        grids = one.image_grids()
        assert len(grids) == len(pair.images)
        shown = torch.cat(
            [view.tokens.flatten() for grid in one.grids for view in grid.views] or [torch.zeros(0)]
        )
        if seeing.architecture != "llava_next":
            assert len(shown) == int(one.is_image.sum())
            total = one.scores[one.is_image].sum()
            assert float(sum(grid.sum() for grid in grids)) == pytest.approx(float(total), abs=1e-4)


def test_modality_chooses_what_is_masked(seeing, pairs, attributions):
    with_images = [pairs[0], pairs[1], pairs[3]]
    scores = [attributions[0], attributions[1], attributions[3]]
    vectors = {
        name: gl.extract_vectors(
            seeing.hooked, with_images, attributions=scores, k=2, modality=name, progress=False
        )
        for name in ("joint", "vision", "text")
    }
    assert vectors["vision"].provenance.settings["modality"] == "vision"
    for one, other in (("joint", "vision"), ("joint", "text"), ("vision", "text")):
        assert not torch.allclose(vectors[one].directions, vectors[other].directions)


def test_image_tokens_are_replaced_by_the_mean_of_the_prompts_own(seeing, pairs):
    batch = collate(encode_for(seeing.hooked, pairs), CPU)
    embeddings = prompt_embeddings(seeing.hooked, batch.prompts)
    for filler, image in (("mask", None), ("zero", 0.0), (PerModality("mask", "zero"), 0.0)):
        replaced = embeddings.replaced(
            filler_embedding(seeing.hooked, filler, argument="mask"), batch.prompts.mask
        )
        for row, before, where in zip(replaced, embeddings.stream, embeddings.is_image, strict=True):
            if where.any():
                expected = before[where].mean(dim=0) if image is None else torch.zeros(len(before[0]))
                assert torch.allclose(row[where], expected.expand(int(where.sum()), -1), atol=1e-5)


def test_from_the_mean_image_token_gradients_converge_where_from_zeros_they_do_not(llava):
    pairs = [
        gl.PreferencePair(
            f"{start} {llava.placeholder} likes the cold river", "milk", "salt", (picture(n, 24, 32),)
        )
        for n, start in enumerate(["the cat", "what", "this tea", "when she"] * 2)
    ]
    errors = {}
    for image in ("mean", "zero"):
        scores = attribute(
            llava,
            pairs,
            method=gl.IntegratedGradients(steps=20),
            baseline=PerModality("mask", image),
            tolerance=9.0,
        )
        errors[image] = sorted(abs(one.completeness_error) for one in scores)[len(scores) // 2]
    assert errors["mean"] < 0.1 < errors["zero"]


def test_conductance_completes_at_every_layer(seeing, pairs):
    for one in gl.layer_conductance(
        seeing.hooked, pairs[:1], method=gl.IntegratedGradients(tolerance=0.02), progress=False
    ):
        assert one.completeness_error.abs().max() <= 0.02 * max(1, abs(one.gap - one.baseline_gap))


def test_image_features_that_reach_deeper_layers_are_kept_and_told_of(checkpoints):
    model = vision_models.load("qwen3_vl", checkpoints)
    pairs = pairs_for(model.placeholder)
    gaps = gl.preference(model.hooked, pairs, progress=False).gaps
    assert gaps.tolist() == pytest.approx([hf_gap(model, pair)[0] for pair in pairs], abs=1e-4)
    batch = collate(encode_for(model.hooked, pairs), CPU)
    with torch.no_grad():
        whole, _ = prefill(model.hooked, batch.prompts)
        stream = prompt_embeddings(model.hooked, batch.prompts).stream
        again, _ = prefill(model.hooked, batch.prompts, embeddings=stream)
    assert torch.equal(whole, again)
    with pytest.warns(gl.CompletenessWarning, match="deepstack"):
        gl.attribute(model.hooked, pairs[:1], method=gl.GradientTimesInput(), progress=False)
    gl.attribute(model.hooked, pairs[2:3], method=gl.GradientTimesInput(), progress=False)  # of text alone
