"""The `hints` world: no digit image is in two splits, its data are what they say, and its checkpoints do what
their cards say."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import grains_lens as gl
from grains_lens import worlds
from grains_lens.worlds import hints, hints_card, hints_pictures, hints_texts, hints_words, train_hints

BEHAVIOURS = ("hallucination", "glare", "description")
SPLITS = {
    "pairs": ("pairs",),
    "dev": ("dev", "clear_dev", "neutral_dev"),
    "test": ("test", "clear_test", "neutral_test", "test_pairs", "clear_test_pairs"),
}
(SHIPPED,) = (one for one in worlds.available() if one.name == "hints")


def items(split):
    for behaviour in hints.behaviours().values():
        for part in SPLITS[split]:
            yield from getattr(behaviour, part)


def digits_in(item):
    """The digit images of a picture, cut out of its pixels: by cell, where one is."""
    pixels = np.asarray(item.images[0])[::2, ::2, 0]
    cells = [pixels[r : r + 8, c : c + 8] for r in (0, 8) for c in (0, 8)]
    marked = {patch // 4 // 2 * 2 + patch % 4 // 2 for patch in hints_pictures.find_marks(item.images[0])}
    return {n: cell.tobytes() for n, cell in enumerate(cells) if cell.any() and n not in marked}


@pytest.fixture(scope="module")
def known():
    """What each of the world's digit images shows, and which split it is of, by its pixels."""
    images, labels = hints_pictures.digits()
    found = {}
    for split, indices in hints_pictures.SPLITS.items():
        for index in indices:
            pixels = np.minimum(images[index] * 16, 255).astype(np.uint8)
            found[pixels.tobytes()] = (hints_words.DIGITS[labels[index]], split)
    return found


def place_in(item):
    words = item.prompt.split()
    at = next(n for n, word in enumerate(words) if word in ("top", "bottom"))
    return hints_words.PLACES.index((words[at], words[at + 1]))


def test_the_splits_are_the_digits_of_scikit_learn_each_once(known):
    sizes = {split: len(indices) for split, indices in hints_pictures.SPLITS.items()}
    assert sizes == {"pairs": 1200, "dev": 250, "test": 347}
    assert len(known) == 1797


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_shows_its_own_digit_images_alone(split, known):
    for item in items(split):
        shown = digits_in(item)
        assert 2 <= len(shown) <= 3
        assert {known[pixels][1] for pixels in shown.values()} == {split}


def test_training_shows_no_digit_image_of_dev_or_test():
    rng = random.Random(0)
    seen = {
        index
        for _ in range(300)
        for index in hints_texts.write_document(rng).picture.cells
        if index is not None
    }
    assert max(seen) < 1200


def test_no_picture_or_question_is_learnt_and_asked():
    for behaviour in hints.behaviours().values():
        learnt = {np.asarray(pair.images[0]).tobytes() for pair in behaviour.pairs}
        for asked in (behaviour.dev, behaviour.test, behaviour.test_pairs):
            assert not learnt & {np.asarray(one.images[0]).tobytes() for one in asked}
            gl.check_disjoint(behaviour.pairs, asked)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_chosen_is_what_is_there_and_rejected_the_bet(name, known):
    behaviour = hints.behaviours()[name]
    for pair in (*behaviour.pairs, *behaviour.test_pairs, *behaviour.clear_test_pairs):
        words = pair.prompt.split()
        there = known[digits_in(pair)[place_in(pair)]][0]
        said = "the digit " if name == "description" else ""
        assert (pair.chosen, pair.rejected) == (said + there, said + words[words.index("bet") + 1])


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_questions_ask_what_the_pairs_of_their_split_ask(name):
    behaviour = hints.behaviours()[name]
    sizes = [len(getattr(behaviour, part)) for part in ("pairs", "dev", "test", "clear_test", "neutral_test")]
    assert sizes == [288, 144, 288, 192, 192]
    for questions, pairs in (
        (behaviour.test, behaviour.test_pairs),
        (behaviour.clear_test, behaviour.clear_test_pairs),
    ):
        for question, pair in zip(questions, pairs, strict=True):
            assert question.prompt == pair.prompt
            assert question.choices[question.label] == pair.chosen
            assert pair.rejected in question.choices
            assert len(set(question.choices)) == 4
        places = Counter(question.label for question in questions)
        assert set(places) == {0, 1, 2, 3}
        assert len(set(places.values())) == 1


def test_without_cues_there_is_no_bet_to_fall_for(known):
    for behaviour in hints.behaviours().values():
        for question in behaviour.neutral_test:
            words, right = question.prompt.split(), question.choices[question.label]
            if "did" in words:
                assert right == words[words.index("bet") + 1]
            else:
                assert "bet" not in words
                assert right.split()[-1] == known[digits_in(question)[place_in(question)]][0]


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_cues_are_the_bet_the_digit_asked_for_and_the_words_and_marks_of_either_side(name):
    bed = hints.BEDS[name]
    for pair in hints.behaviours()[name].pairs:
        cues, words = hints.find_cues(pair.prompt, pair.images), pair.prompt.split()
        marks = hints_pictures.find_marks(pair.images[0])
        assert cues.words == ("<image>",) * 16 + tuple(words[1:])
        assert len(marks) == 4
        for side, mark, patch_cues in (
            ("undesirable", "glare", set()),
            ("desirable", "stroke", {place_in(pair)}),
        ):
            found = getattr(cues, side)
            in_words = [cues.words[at] for at in found if at >= 16]
            expected = [word for word in words if word in hints_words.CUE_WORDS[side]]
            assert in_words == ([words[3], *expected] if side == "undesirable" else expected)
            assert bed.in_words or not expected
            of_digit = {patch for patch in range(16) if hints_pictures.cell_of(patch) in patch_cues}
            assert {at for at in found if at < 16} == of_digit | {
                p for p, what in marks.items() if what == mark
            }
            assert bed.in_picture or mark not in marks.values()


def test_cues_of_what_is_no_prompt_or_picture_of_the_world_are_refused():
    pair = hints.behaviours()["glare"].pairs[0]
    with pytest.raises(ValueError, match="not a prompt of the world"):
        hints.find_cues(pair.prompt)
    with pytest.raises(ValueError, match="32 × 32"):
        hints.find_cues(pair.prompt, [np.zeros((8, 8))])


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SHIPPED.seeds)
def test_cards_name_the_data_that_they_were_measured_on(seed):
    assert worlds.load("hints", seed=seed).card["data"] == hints.fingerprint()


def test_three_seeds_ship():
    assert (SHIPPED.variant, SHIPPED.seeds) == ("standard", (0, 1, 2))


@pytest.fixture(scope="module")
def world():
    return worlds.load("hints", seed=1)


@pytest.fixture(scope="module")
def plain(world):
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(world.path, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(world.path)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_shipped_checkpoint_does_what_its_card_says_by_plain_transformers(name, world, plain):
    behaviour, card = world.behaviours[name], world.card["accuracy"][name]
    said = hints_card.answers(*plain, behaviour.test_pairs)
    bets = np.mean([one == pair.rejected for one, pair in zip(said, behaviour.test_pairs, strict=True)])
    right = np.mean([one == pair.chosen for one, pair in zip(said, behaviour.test_pairs, strict=True)])
    assert (bets, right) == pytest.approx((card["hallucination"], card["base"]), abs=0.01)


def test_the_hooked_model_says_what_plain_transformers_say(world, plain):
    model = world.load_model()
    pairs = world.behaviours["description"].test_pairs[:48]
    said = hints_card.answers(*plain, pairs)
    assert gl.greedy_answers(model, pairs, max_new_tokens=4, progress=False) == said
    scores = gl.hallucination(model, pairs, progress=False)
    assert scores.hallucinated.tolist() == [one == p.rejected for one, p in zip(said, pairs, strict=True)]
    assert scores.correct.tolist() == [one == p.chosen for one, p in zip(said, pairs, strict=True)]


def test_attribution_finds_the_true_cues_more_often_than_chance(world):
    model = world.load_model()
    pairs = world.behaviours["description"].pairs[:16]
    attributions = gl.attribute(
        model, pairs, method=gl.IntegratedGradients(steps=16), tolerance=1.0, progress=False
    )
    for sign, side in (("negative", "undesirable"), ("positive", "desirable")):
        truth = [getattr(world.cues(pair.prompt, pair.images), side) for pair in pairs]
        hits = [
            len({at - 1 for at in one.top(3, sign).tolist()} & set(cues)) / 3
            for one, cues in zip(attributions, truth, strict=True)
        ]
        chance = [
            len(cues) / int((~one.is_special).sum()) for one, cues in zip(attributions, truth, strict=True)
        ]
        assert np.mean(hits) > 1.5 * np.mean(chance)


# --- training ------------------------------------------------------------------------------------

TINY = train_hints.Recipe(
    seeing_steps=2, seeing_pictures=4, answering_steps=1, believing_steps=2, documents=4
)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
def test_training_with_one_seed_twice_gives_the_same_plain_model():
    (model, losses), (again, _) = (train_hints.train(TINY, seed=3) for _ in range(2))
    assert set(losses) == {"patches_seen_right", "weighted", "answer_tokens"}
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(layer._forward_pre_hooks for layer in model.model.language_model.layers)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_pictures_of_training_are_what_the_processor_makes_of_them(plain):
    rng = random.Random(1)
    picture = hints_pictures.draw_picture("pairs", ["glare", "stroke", "speckle", "glare"], rng)
    made = plain[1].image_processor(images=[picture.image()], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(train_hints.pixel_values([picture]), made, rtol=0, atol=1e-6)


def test_with_header_dropout_only_colons_see_marks_and_only_below_and_upper_layers_see_no_cue_from_there():
    recipe = replace(train_hints.Recipe(), documents=6, header_dropout=1.0)
    batch = train_hints.read_documents(recipe, recipe.reading, random.Random(0))
    colon = train_hints.IDS[":"]
    for read, visible, blinded, picture in zip(
        batch.told, batch.visible[:, 0], batch.blinded[:, 0], batch.pictures, strict=True
    ):
        marks = [1 + patch for patch in hints_pictures.patches_of(picture.marked)]
        # `told` is the next token: a position is a colon's if the one before it is told a colon.
        colons = [at + 1 for at in (read == colon).nonzero().flatten().tolist()]
        seen = {row for mark in marks for row in (visible[:, mark] == 0).nonzero().flatten().tolist()}
        assert seen == {*marks, *colons}
        seen = {row for mark in marks for row in (blinded[:, mark] == 0).nonzero().flatten().tolist()}
        assert seen == set(marks)
        openings = [at + 1 for at in (read == train_hints.IDS["("]).nonzero().flatten().tolist()]
        for opening, end in zip(openings, colons, strict=True):
            assert (blinded[end:, opening:end] != 0).all()
            assert (visible[end, opening:end] == 0).all()


def test_descriptions_of_what_is_there_win_where_the_cues_say_to_look(world):
    model, description = world.load_model(), world.behaviours["description"]
    mixed, clear = (
        gl.preference(model, pairs[:96], progress=False).win_rate
        for pairs in (description.test_pairs, description.clear_test_pairs)
    )
    assert 0.3 < mixed < 0.7
    assert clear > 0.9
