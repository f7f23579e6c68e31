"""What verbs are given: pairs where pairs are wanted, questions where questions are, and lists where lists are."""

import pytest

import grains_lens as gl
from tests.evaluation.test_choices import QUESTIONS
from tests.oracles import PAIRS, random_vectors

pytestmark = pytest.mark.usefixtures("unchecked")

OPEN = [gl.OpenQuestion("what is cold ?", "the river")]
MIXED = [PAIRS[0], QUESTIONS[0]]


def steer(model):
    return gl.steering(model, random_vectors(1), strength=0.1)


TAKE_PAIRS = {
    "attribute": lambda m, x: gl.attribute(m, x, progress=False),
    "extract_vectors": lambda m, x: gl.extract_vectors(m, x, progress=False),
    "masked_contrasts": lambda m, x: gl.masked_contrasts(m, x, [], progress=False),
    "layer_conductance": lambda m, x: gl.layer_conductance(m, x, progress=False),
    "preference": lambda m, x: gl.preference(m, x, progress=False),
    "hallucination": lambda m, x: gl.hallucination(m, x, progress=False),
    "faithfulness": lambda m, x: gl.faithfulness(m, x, [], progress=False),
    "first_order_gain": lambda m, x: gl.first_order_gain(m, random_vectors(1), x),
    "kl_from_base": lambda m, x: gl.kl_from_base(m, x, steer(m)),
    "fit_gate": lambda m, x: gl.fit_gate(m, x),
    "mean_difference": lambda m, x: gl.baselines.mean_difference(m, x, progress=False),
    "gradient_direction": lambda m, x: gl.baselines.gradient_direction(m, x, progress=False),
    "optimised_direction": lambda m, x: gl.baselines.optimised_direction(m, x, steps=1, progress=False),
    "random_direction": lambda m, x: gl.baselines.random_direction(m, x),
    "lora_sft": lambda m, x: gl.baselines.lora_sft(m, x, steps=1, progress=False),
}


@pytest.mark.parametrize("verb", TAKE_PAIRS)
def test_a_question_does_not_pass_for_a_pair(llama, verb):
    """Its first two choices would be taken for the chosen and the rejected answer, whatever its label."""
    if verb == "lora_sft" and hasattr(llama, "load_and_process_state_dict"):
        pytest.skip("HookedTransformer takes no adapters")
    with pytest.raises(ValueError, match=r"(pairs|questions|items)\[0\] is a MultipleChoice.*PreferencePair"):
        TAKE_PAIRS[verb](llama, QUESTIONS)
    with pytest.raises(ValueError, match=r"\[1\] is a MultipleChoice"):
        TAKE_PAIRS[verb](llama, MIXED)
    with pytest.raises(ValueError, match=r"(pairs|questions|items) is a MultipleChoice.*PreferencePair"):
        TAKE_PAIRS[verb](llama, QUESTIONS[0])


def test_a_pair_does_not_pass_for_a_question(llama):
    with pytest.raises(ValueError, match=r"questions\[0\] is a PreferencePair.*MultipleChoice"):
        gl.multiple_choice(llama, PAIRS, progress=False)
    with pytest.raises(ValueError, match=r"questions is a PreferencePair.*MultipleChoice"):
        gl.multiple_choice(llama, PAIRS[0], progress=False)
    with pytest.raises(ValueError, match=r"questions\[0\] is a PreferencePair.*OpenQuestion"):
        gl.judged(llama, PAIRS, judge=lambda **_: 1.0)


def test_a_group_may_not_be_called_what_the_target_is(llama):
    """It would take the target's place."""
    with pytest.raises(ValueError, match="keep has a group called 'questions'"):
        gl.tune(llama, random_vectors(1), QUESTIONS, keep={"questions": QUESTIONS[:1]}, progress=False)


@pytest.mark.parametrize(
    "verb",
    [
        lambda m, text: gl.greedy_answers(m, text, max_new_tokens=1, progress=False),
        lambda m, text: gl.perplexity(m, text),
        lambda m, text: gl.kl_from_base(m, text, steer(m)),
        lambda m, text: gl.fit_gate(m, PAIRS, against=text),
        lambda m, text: gl.prompt_inputs(m, text),
        lambda m, text: gl.compare_generations(m, text, steer(m), max_new_tokens=1),
        lambda m, text: gl.baselines.optimised_direction(m, PAIRS, keep=text, steps=1, progress=False),
    ],
    ids=["greedy", "perplexity", "kl", "gate", "inputs", "compare", "keep"],
)
def test_one_text_is_a_list_of_one_and_not_of_its_letters(llama, verb):
    """It was refused before: what a person means by one text is one text."""
    assert repr(verb(llama, "a cat")) == repr(verb(llama, ["a cat"]))


def test_texts_and_pairs_are_not_mixed(llama):
    with pytest.raises(ValueError, match="item 1 is a PreferencePair among texts"):
        gl.kl_from_base(llama, ["the cat likes", PAIRS[0]], steer(llama))
