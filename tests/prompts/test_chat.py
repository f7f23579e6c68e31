"""Prompts and answers have the ids that a chat template's own rendering has, and the template's tokens are known."""

from __future__ import annotations

import functools

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from grains_lens.data.items import MultipleChoice, PreferencePair
from grains_lens.prompts.chat import inside
from grains_lens.prompts.encoding import PromptFormat, encode, encode_prompts
from tests.prompts.test_encoding import SUBWORD, read
from tests.templates import LONGER, OF_PARTS, SPECIAL, TEMPLATES, WITHOUT_SYSTEM

SYSTEM = "Be brief."


@functools.cache
def vocabulary(kind):
    tokenizer = SUBWORD[kind]()
    tokenizer.add_tokens(SPECIAL, special_tokens=True)
    return tokenizer


@functools.cache
def chat_tokenizer(kind, template):
    made = vocabulary(kind)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(made.backend_tokenizer.to_str()),
        **{name: str(getattr(made, name)) for name in ("bos_token", "eos_token", "unk_token")},
    )
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


@pytest.fixture(params=SUBWORD)
def kind(request):
    return request.param


@pytest.fixture(params=TEMPLATES)
def template(request):
    return request.param


def rendered(tokenizer, template, prompt, answer=None, system=None, **settings):
    """What transformers makes of the conversation, as ids or as text."""
    turns = [("system", system), ("user", prompt), ("assistant", answer)]
    messages = [
        {"role": role, "content": [{"type": "text", "text": text}] if template in OF_PARTS else text}
        for role, text in turns
        if text is not None
    ]
    made = tokenizer.apply_chat_template(messages, add_generation_prompt=answer is None, **settings)
    return made if isinstance(made, str) else made["input_ids"]


def systems(template):
    return (None,) if template in WITHOUT_SYSTEM else (None, SYSTEM)


ANSWERS = ("Yellow", "never, it is not safe.", "12", "Paris\nLondon", "深い", "a")


def test_prompt_and_answer_have_the_ids_of_the_templates_own_conversation(kind, template):
    tokenizer = chat_tokenizer(kind, template)
    for system in systems(template):
        chat = PromptFormat(chat=True, system=system)
        prompt = "Is it safe?"
        (one,) = encode(tokenizer, [MultipleChoice(prompt, ANSWERS, 0)], prompt_format=chat)
        for ids, text in zip(one.answers, ANSWERS, strict=True):
            whole = rendered(tokenizer, template, prompt, text, system)
            joined = [*one.prompt.ids, *ids]
            assert joined == whole[: len(joined)]
            assert read(tokenizer, ids).strip() == text
            assert text not in read(tokenizer, whole[len(joined) :])  # what is left is the template's


def test_space_around_an_answer_is_the_templates(kind):
    tokenizer = chat_tokenizer(kind, "llama-2")
    chat = PromptFormat(chat=True)
    encoded = [
        encode(tokenizer, [PreferencePair("Is it?", text, "London")], prompt_format=chat)[0]
        for text in ("Paris", " Paris", "Paris\n")
    ]
    assert encoded[0] == encoded[1] == encoded[2]


def test_a_prompt_alone_has_the_ids_of_the_generation_prompt(kind, template):
    tokenizer = chat_tokenizer(kind, template)
    for system in systems(template):
        (one,) = encode_prompts(
            tokenizer, ["Is it safe?"], prompt_format=PromptFormat(chat=True, system=system)
        )
        expected = rendered(tokenizer, template, "Is it safe?", None, system)
        if template in LONGER:
            assert list(one.ids[: len(expected)]) == expected
            assert len(one.ids) > len(expected)
        elif template == "vicuna":  # the space at its end is one token with the answer's first word
            assert list(one.ids) == expected[: len(one.ids)]
            assert not read(tokenizer, expected[len(one.ids) :]).strip()
        else:
            assert list(one.ids) == expected


def test_a_chat_has_the_bos_of_its_template_and_no_other(kind, template):
    tokenizer = chat_tokenizer(kind, template)
    for prepend_bos in (True, False):
        (one,) = encode_prompts(
            tokenizer, ["Is it?"], prompt_format=PromptFormat(chat=True), prepend_bos=prepend_bos
        )
        bos = rendered(tokenizer, template, "Is it?", tokenize=False).startswith(tokenizer.bos_token)
        assert (one.ids[0] == tokenizer.bos_token_id) == bos
        assert one.ids.count(tokenizer.bos_token_id) == bos
    (one,) = encode_prompts(tokenizer, ["Is it?"], prompt_format=PromptFormat(chat=True, bos=True))
    assert one.ids.count(tokenizer.bos_token_id) == 1


# "user", "Again" and the system's words are in the templates, too; space around a prompt may be trimmed.
PROMPTS = ["Is it safe?", "user", "a", "Be brief.", "INST", "Again: ", " is it\n", "ASSISTANT:", "深い"]


def test_special_flags_mark_just_the_templates_tokens(kind, template):
    tokenizer = chat_tokenizer(kind, template)
    for system in systems(template):
        chat = PromptFormat(chat=True, system=system)
        for prompt, one in zip(PROMPTS, encode_prompts(tokenizer, PROMPTS, prompt_format=chat), strict=True):
            assert len(one.is_special) == len(one)
            said = [read(tokenizer, ids).strip() for ids in runs_of_content(one)]
            assert said == [prompt.strip()] * (2 if template == "repeating" else 1)


def runs_of_content(prompt):
    """The ids that are no template's, run by run."""
    runs = [[]]
    for id, special in zip(prompt.ids, prompt.is_special, strict=True):
        if special:
            runs.append([])
        else:
            runs[-1].append(id)
    return [run for run in runs if run]


def test_a_template_without_a_system_turn_says_so_before_anything_runs(kind):
    for template in WITHOUT_SYSTEM:
        tokenizer = chat_tokenizer(kind, template)
        with pytest.raises(
            ValueError, match=r"system='Be brief\.'.*no place for a system turn.*leave system out"
        ):
            encode_prompts(tokenizer, ["Is it?"], prompt_format=PromptFormat(chat=True, system=SYSTEM))


SILENT = (
    "{% for m in messages %}{% if m['role'] != 'system' %}<|user|>{{ m['content'] }}{% endif %}{% endfor %}"
)


def test_a_system_turn_that_the_template_leaves_out_is_refused():
    tokenizer = SUBWORD["byte-level"]()
    tokenizer.chat_template = SILENT
    with pytest.raises(ValueError, match="no place for a system turn"):
        encode_prompts(tokenizer, ["Is it?"], prompt_format=PromptFormat(chat=True, system=SYSTEM))
    assert encode_prompts(tokenizer, ["Is it?"], prompt_format=PromptFormat(chat=True))


@pytest.mark.parametrize("template", ["<|user|>", "{{ raise_exception('no users') }}"])
def test_a_template_that_cannot_show_a_prompt_is_refused(template):
    tokenizer = SUBWORD["byte-level"]()
    tokenizer.chat_template = template
    for system in (None, SYSTEM):
        with pytest.raises(ValueError, match="cannot show a user's turn"):
            encode_prompts(tokenizer, ["Is it?"], prompt_format=PromptFormat(chat=True, system=system))


def test_stretches_move_with_the_images_that_grow_before_them():
    spans = [(at, at + 1) for at in range(12)]
    # "ab#cd#ef", of which each # becomes three.
    assert [at for at, own in enumerate(inside([(0, 2)], spans, (2, 6), 4)) if own] == [0, 1]
    assert [at for at, own in enumerate(inside([(6, 8)], spans, (2, 6), 4)) if own] == [10, 11]
    assert [at for at, own in enumerate(inside([(3, 5)], spans, (2, 6), 4)) if own] == list(range(2, 10))
