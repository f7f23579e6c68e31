"""Prompts and answers apart and joined as ids: the ids of running text, one BOS, template tokens marked."""

from __future__ import annotations

import json
import re

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from grains_lens.data.items import MultipleChoice, PreferencePair
from grains_lens.prompts.encoding import PromptFormat, encode, encode_prompts

SENTENCES = [
    "The capital of France is Paris, not London.",
    "Question: is it safe to drink sea water?\nAnswer: no, it is never safe.",
    "The user asks; the assistant answers: yes. The user thanks the assistant.",
    "It is 12 o'clock in Paris and 11 in London, isn't it?",
]


def gpt2():
    """Byte-level BPE, one token BOS, EOS and unknown at once, BOS put first by nobody."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES * 5,
        trainers.BpeTrainer(
            vocab_size=500, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
        ),
    )
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end)


def llama2(space):
    """SentencePiece's BPE with byte fallback, which puts a space first and, as a rule, BOS before it.

    `space` says by what: a Metaspace of prepend scheme "first" or "always", or a "legacy" normaliser.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trained.train_from_iterator(SENTENCES * 5, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    # A newline is a byte, as it is for Llama 2.
    merges = [tuple(merge) for merge in model["merges"] if "\n" not in "".join(merge)]
    vocabulary = {token: index for index, token in enumerate(t for t in tokens if "\n" not in t)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    if space == "legacy":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]  # type: ignore[list-item]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=space)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )  # type: ignore[list-item]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


SUBWORD = {
    "byte-level": gpt2,
    **{name: lambda name=name: llama2(name) for name in ("first", "always", "legacy")},
}


@pytest.fixture(scope="module", params=SUBWORD)
def subword(request):
    """Each kind of subword vocabulary in turn."""
    return SUBWORD[request.param]()


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def read(tokenizer, ids):
    return tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)


def encode_one(tokenizer, prompt, answer, **settings):
    """The ids of a prompt and of one of its answers."""
    settings = {"prepend_bos": False, **settings}
    (one,) = encode(tokenizer, [PreferencePair(prompt, answer, answer + " or not")], **settings)
    return one.prompt.ids, one.answers[0]


# --- the joint -----------------------------------------------------------------------------------

PROMPTS = [
    "The capital of France is",
    "Question: is it safe?\nAnswer:",
    "深い Größe",
    "Is it 12",
    "(the",
    "isn",
]
ANSWERS = ["Paris", "never, it is not safe.", "12", "no\nnever", "深い", "(London)", "'tis"]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_answer_follows_the_prompt_as_in_running_text(subword, prompt, answer):
    running = f"{prompt} {answer}"
    # Whether the space is ours or theirs, and however wide it is.
    for theirs in (answer, " " + answer):
        prompt_ids, answer_ids = encode_one(subword, prompt, theirs)
        assert read(subword, prompt_ids + answer_ids) == running
        # No merge crosses a space, so the ids are those of the whole.
        assert list(prompt_ids + answer_ids) == ids_of(subword, running)
        assert list(prompt_ids) == ids_of(subword, prompt)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    "prompt", ["The capital of France is ", "Question: is it safe?\nAnswer:\n", "is\t", "is \n "]
)
def test_after_whitespace_nothing_is_put_between(subword, prompt, answer):
    prompt_ids, answer_ids = encode_one(subword, prompt, answer)
    assert read(subword, prompt_ids + answer_ids) == prompt + answer
    assert list(prompt_ids) == ids_of(subword, prompt)


@pytest.mark.parametrize("answer", ["\nParis", "\n\nParis", "\tno", "  Paris", " \n no", "\n"])
def test_an_answer_that_begins_with_whitespace_keeps_it(subword, answer):
    prompt = "The capital of France is"
    (one,) = encode(subword, [MultipleChoice(prompt, (answer + "x", "no"), 0)], prepend_bos=False)
    assert read(subword, one.prompt.ids + one.answers[0]) == prompt + answer + "x"


@pytest.mark.parametrize("join", ["", "\n", ": "])
def test_another_join_is_put_where_the_space_would_be(subword, join):
    prompt_format = PromptFormat(join=join)
    ids = encode_one(subword, "The capital", "Paris", prompt_format=prompt_format)
    assert read(subword, ids[0] + ids[1]) == f"The capital{join}Paris"
    ids = encode_one(subword, "The capital ", "Paris", prompt_format=prompt_format)
    assert read(subword, ids[0] + ids[1]) == "The capital Paris"


def t5(*, keeps_space):
    """SentencePiece's unigrams behind a normaliser that makes every kind of space a plain one, and one of many;
    T5's splits at it, others keep a space at the end as a token."""
    pieces = ["▁", *"▁Paris ▁is ▁The ▁capital ▁never Paris is never The capital".split()]
    pieces += sorted({*"".join([*SENTENCES, "深いGröße()<>"])} - {" ", "\n"})
    tokenizer = Tokenizer(
        models.Unigram([("<unk>", 0.0)] + [(p, -1.0 - 9 * (len(p) == 1)) for p in pieces], 0)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")]  # type: ignore[list-item]
    )
    splits = [] if keeps_space else [pre_tokenizers.WhitespaceSplit()]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.Metaspace()])  # type: ignore[list-item]
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<unk>", unk_token="<unk>")


@pytest.mark.parametrize("keeps_space", [True, False])
@pytest.mark.parametrize("answer", ["Paris", "never, it is not safe.", "12", "no", "x"])
def test_a_vocabulary_to_which_a_newline_is_a_space_keeps_the_answers_word_boundary(answer, keeps_space):
    tokenizer = t5(keeps_space=keeps_space)
    for prompt in ("The capital is", "The capital is:\n", "The capital is: ", "(The", "isn"):
        prompt_ids, answer_ids = encode_one(tokenizer, prompt, answer)
        joint = "" if prompt[-1:].isspace() else " "
        running = tokenizer.convert_ids_to_tokens(ids_of(tokenizer, prompt + joint + answer))
        apart = tokenizer.convert_ids_to_tokens([*prompt_ids, *answer_ids])
        assert "".join(apart) == "".join(running)
        if joint or not keeps_space:  # else the space is a token of the prompt's already
            assert apart == running


def test_a_vocabulary_to_which_a_newline_is_a_space_adds_no_word_boundary():
    for tokenizer in (t5(keeps_space=True), t5(keeps_space=False)):
        for prompt, answer in (("(", "Paris"), ("is", "never"), ("深", "い")):
            prompt_ids, answer_ids = encode_one(
                tokenizer, prompt, answer, prompt_format=PromptFormat(join="")
            )
            apart = tokenizer.convert_ids_to_tokens([*prompt_ids, *answer_ids])
            assert "".join(apart) == "▁" + prompt + answer


def test_words_are_words_for_a_word_level_vocabulary(tokenizer):
    prompt_ids, answer_ids = encode_one(tokenizer, "what does the old fox eats", "bread and salt .")
    running = "what does the old fox eats bread and salt ."
    assert read(tokenizer, prompt_ids + answer_ids) == running
    assert list(prompt_ids + answer_ids) == ids_of(tokenizer, running)


def test_questions_and_pairs_are_encoded_alike(subword):
    pair = PreferencePair("Is it safe?", "no", "yes")
    question = MultipleChoice("Is it safe?", ("no", "yes"), 0)
    assert encode(subword, [pair]) == encode(subword, [question])
    (one,) = encode(subword, [MultipleChoice("Is it", ("no", "never, it is not safe"), 0)])
    assert one.longest == len(one.prompt) + len(one.answers[1])
    assert encode_prompts(subword, ["Is it", "The"]) == [
        item.prompt for item in encode(subword, [PreferencePair(text, "a", "b") for text in ("Is it", "The")])
    ]


# --- BOS -----------------------------------------------------------------------------------------


def test_there_is_one_bos_and_never_two(subword, tokenizer):
    for each in (subword, tokenizer):
        bos = each.bos_token
        for prompt in ("the cat", f"{bos}the cat", f"{bos} the cat"):
            (encoded,) = encode_prompts(each, [prompt])
            assert encoded.ids.count(each.bos_token_id) == 1
            assert encoded.ids[0] == each.bos_token_id
            assert encoded.is_special[0]
            assert not any(encoded.is_special[1:])
            assert len(encoded.is_special) == len(encoded)


def test_bos_is_put_first_only_where_asked_for(subword):
    (without,) = encode_prompts(subword, ["the cat"], prepend_bos=False)
    assert list(without.ids) == ids_of(subword, "the cat")
    (with_bos,) = encode_prompts(subword, ["the cat"], prepend_bos=True)
    assert with_bos.ids == (subword.bos_token_id, *without.ids)
    # The format's own word goes before the model's.
    assert encode_prompts(subword, ["the cat"], prompt_format=PromptFormat(bos=False)) == [without]
    asked = PromptFormat(bos=True)
    assert encode_prompts(subword, ["the cat"], prompt_format=asked, prepend_bos=False) == [with_bos]
    (pair,) = encode(subword, [PreferencePair("the cat", "a", "b")], prompt_format=PromptFormat(bos=False))
    assert pair.prompt == without


def test_answers_have_no_bos(subword, tokenizer):
    for each in (subword, tokenizer):
        (one,) = encode(each, [PreferencePair("the cat", "yes", "no")])
        assert all(each.bos_token_id not in ids for ids in one.answers)


def test_a_tokenizer_without_bos_does_without():
    tokenizer = gpt2()
    tokenizer.bos_token = None
    assert list(encode_prompts(tokenizer, ["the cat"])[0].ids) == ids_of(tokenizer, "the cat")


def test_unknown_words_are_no_special_tokens(tokenizer):
    (encoded,) = encode_prompts(tokenizer, ["the xylophone <eos> sees"])
    assert encoded.is_special == (True, False, False, True, False)


# --- chat templates ------------------------------------------------------------------------------

CHATS = {
    # Llama 3's and Qwen's: a special token and the role, which is plain text.
    "chatml": (
        "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|stop|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
    ),
    # Llama 2's: BOS in the template.
    "inst": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}<<SYS>> {{ m['content'] }} <</SYS>>"
        "{% elif m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}{% endif %}"
        "{% endfor %}"
    ),
}


@pytest.fixture(scope="module", params=CHATS)
def chat(request, subword):
    """Each kind of vocabulary with each template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(subword.backend_tokenizer.to_str()),
        **{name: str(getattr(subword, name)) for name in ("bos_token", "eos_token", "unk_token")},
    )
    tokenizer.add_tokens(["<|start|>", "<|stop|>"], special_tokens=True)
    tokenizer.chat_template = CHATS[request.param]
    return tokenizer


# "user", "assistant" and the system's words are in the templates too.
@pytest.mark.parametrize(
    "prompt", ["Is it safe?", "user", "assistant", "a", "Be brief.", "INST", " is it\n", "深い"]
)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_special_flags_mark_just_the_templates_tokens(chat, prompt, system):
    prompt_format = PromptFormat(chat=True, system=system)
    (encoded,) = encode_prompts(chat, [prompt], prompt_format=prompt_format)
    messages = [{"role": "system", "content": system}] * (system is not None)
    messages.append({"role": "user", "content": prompt})
    shown = chat.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert encoded.ids.count(chat.bos_token_id) == shown.count(chat.bos_token)
    assert read(chat, encoded.ids).replace(" ", "") == shown.replace(" ", "")
    content = [id for id, special in zip(encoded.ids, encoded.is_special, strict=True) if not special]
    assert read(chat, content).strip() == prompt.strip()


def test_the_answer_is_joined_as_the_template_joins_it(chat):
    (one,) = encode(
        chat, [PreferencePair("Is it?", "Paris", "London")], prompt_format=PromptFormat(chat=True)
    )
    running = chat.apply_chat_template(
        [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "Paris"}], tokenize=False
    )
    ends = running.index("Paris") + len("Paris")
    assert [*one.prompt.ids, *one.answers[0]] == ids_of(chat, running[:ends])


def test_chat_text_rendered_beforehand_has_its_special_tokens_marked(chat):
    (encoded,) = encode_prompts(chat, ["<|start|>Is it?<|stop|>"], prepend_bos=False)
    special = [
        chat.convert_ids_to_tokens(i) for i, s in zip(encoded.ids, encoded.is_special, strict=True) if s
    ]
    assert special == ["<|start|>", "<|stop|>"]


def test_chat_without_a_template_is_refused(subword):
    with pytest.raises(
        ValueError, match=r"PromptFormat\(chat=True\), but the tokenizer has no chat template: use"
    ):
        encode_prompts(subword, ["Is it?"], prompt_format=PromptFormat(chat=True))


# --- refusals ------------------------------------------------------------------------------------


def test_nothing_to_encode_is_refused(tokenizer):
    with pytest.raises(ValueError, match="there are no pairs or questions"):
        encode(tokenizer, [])


def test_a_prompt_longer_than_the_context_is_refused_and_one_that_fits_is_not(tokenizer):
    pairs = [PreferencePair("the cat", "yes", "no"), PreferencePair("the old fox", "yes", "no , never")]
    assert len(encode(tokenizer, pairs, n_ctx=7)) == 2
    message = r"item 1 has 7 tokens \(4 of them the prompt\), the model's context 6: shorten the prompt"
    with pytest.raises(ValueError, match=message):
        encode(tokenizer, pairs, n_ctx=6)


def test_answers_that_become_the_same_tokens_are_refused(tokenizer):
    fine = PreferencePair("the cat", "yes", "no")
    unknown = PreferencePair("the cat", "oui", "non")
    with pytest.raises(
        ValueError, match=re.escape("item 1: chosen 'oui' and rejected 'non' are the same tokens")
    ):
        encode(tokenizer, [fine, unknown])


def test_texts_without_tokens_are_refused():
    # Characters that are not in such a vocabulary are dropped.
    letters = {letter: index for index, letter in enumerate("ehnot")}
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(letters, [])))
    with pytest.raises(ValueError, match="item 0: the prompt '猫' has no tokens"):
        encode(fast, [PreferencePair("猫", "the", "no")], prompt_format=PromptFormat(join=""))
    with pytest.raises(ValueError, match="item 0: the answer '猫' has no tokens"):
        encode(fast, [PreferencePair("the", "猫", "no")], prompt_format=PromptFormat(join=""))
