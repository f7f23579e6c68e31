"""From text to token ids: prompt and answers apart, one BOS, known template tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .pairs import MultipleChoice, PreferencePair


@dataclass(frozen=True)
class PromptFormat:
    """How a prompt and an answer become one text.

    `join` goes between them where neither side has whitespace at the joint, so that a BPE vocabulary sees
    the first word of the answer as it would in running text. With `chat=True` the prompt is a user's turn
    in the tokenizer's own chat template, `system` the turn before it, and nothing goes between.
    `bos=None` follows the model: one BOS where transformer-lens prepends one by default, never two.
    """

    join: str = " "
    chat: bool = False
    system: str | None = None
    bos: bool | None = None


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt's token ids; `is_special` marks BOS, template and other special tokens."""

    ids: tuple[int, ...]
    is_special: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Encoded:
    """A prompt with its possible answers: chosen and rejected of a pair, the choices of a question."""

    prompt: EncodedPrompt
    answers: tuple[tuple[int, ...], ...]

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest answer."""
        return len(self.prompt) + max(map(len, self.answers))


def encode(
    tokenizer: Any,
    items: Sequence[PreferencePair] | Sequence[MultipleChoice],
    *,
    prompt_format: PromptFormat = PromptFormat(),
    prepend_bos: bool = True,
    n_ctx: int | None = None,
) -> list[Encoded]:
    """Tokenise prompts and answers apart and keep them as ids, so that no merge crosses the joint.

    Raises ValueError if there is nothing to encode, a text has no tokens, an item is longer than the
    model's context, or two answers of a pair have the same ids.
    """
    if not items:
        raise ValueError("there are no pairs or questions to work on.")
    if prompt_format.bos is not None:
        prepend_bos = prompt_format.bos
    special_ids = _special_ids(tokenizer)
    encoded = []
    for index, item in enumerate(items):
        texts = (item.chosen, item.rejected) if isinstance(item, PreferencePair) else item.choices
        prompt, shown = _encode_prompt(tokenizer, item.prompt, prompt_format, prepend_bos, special_ids)
        answers = tuple(_encode_answer(tokenizer, shown, text, prompt_format) for text in texts)
        one = Encoded(prompt, answers)
        if not len(prompt):
            raise ValueError(f"item {index}: the prompt {item.prompt!r} has no tokens.")
        for text, ids in zip(texts, answers, strict=True):
            if not ids:
                raise ValueError(f"item {index}: the answer {text!r} has no tokens.")
        if isinstance(item, PreferencePair) and answers[0] == answers[1]:
            raise ValueError(
                f"item {index}: chosen {item.chosen!r} and rejected {item.rejected!r} are the same tokens; "
                "is one of their words unknown to the tokenizer?"
            )
        if n_ctx is not None and one.longest > n_ctx:
            raise ValueError(
                f"item {index} has {one.longest} tokens ({len(prompt)} of them the prompt), "
                f"the model's context {n_ctx}: shorten the prompt."
            )
        encoded.append(one)
    return encoded


def encode_prompts(
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    prompt_format: PromptFormat = PromptFormat(),
    prepend_bos: bool = True,
) -> list[EncodedPrompt]:
    """Token ids of prompts alone, as `encode` makes them."""
    if prompt_format.bos is not None:
        prepend_bos = prompt_format.bos
    special_ids = _special_ids(tokenizer)
    return [
        _encode_prompt(tokenizer, prompt, prompt_format, prepend_bos, special_ids)[0] for prompt in prompts
    ]


def _encode_prompt(
    tokenizer: Any, prompt: str, prompt_format: PromptFormat, prepend_bos: bool, special_ids: set[int]
) -> tuple[EncodedPrompt, str]:
    shown = _render_chat(tokenizer, prompt, prompt_format) if prompt_format.chat else prompt
    ids = list(tokenizer(shown, add_special_tokens=False)["input_ids"])
    special = [token in special_ids for token in ids]
    if prompt_format.chat:
        inside = _tokens_of_content(tokenizer, shown, prompt_format, len(ids))
        special = [is_special or not inside[i] for i, is_special in enumerate(special)]
    bos = tokenizer.bos_token_id
    if prepend_bos and bos is not None and ids[:1] != [bos]:
        ids, special = [bos, *ids], [True, *special]
    return EncodedPrompt(tuple(ids), tuple(special)), shown


def _special_ids(tokenizer: Any) -> set[int]:
    """Ids of tokens that are no text: BOS and the like, and a template's own, which carry no name."""
    ids = set(tokenizer.all_special_ids)
    ids |= {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    # An unknown word is text; but in GPT-2's vocabulary one token is unknown, BOS and EOS at once.
    if tokenizer.unk_token_id not in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        ids.discard(tokenizer.unk_token_id)
    return ids


def _render_chat(tokenizer: Any, prompt: str, prompt_format: PromptFormat) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "prompt_format=PromptFormat(chat=True), but the tokenizer has no chat template: "
            "use a chat model, or leave chat=False."
        )
    messages = [{"role": "user", "content": prompt}]
    if prompt_format.system is not None:
        messages.insert(0, {"role": "system", "content": prompt_format.system})
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


_CONTENT = "\ue000"
"""A private-use character, which no template has in it."""


def _tokens_of_content(tokenizer: Any, shown: str, prompt_format: PromptFormat, n_tokens: int) -> list[bool]:
    """Which tokens of a rendered chat lie in the user's own text, as against the template.

    The template shows itself around a stand-in: looking for the prompt would find "user" in the template.
    """
    before, _, after = _render_chat(tokenizer, _CONTENT, prompt_format).partition(_CONTENT)
    if not (shown.startswith(before) and shown.endswith(after) and tokenizer.is_fast):
        return [True] * n_tokens
    start, stop = len(before), len(shown) - len(after)
    offsets = tokenizer(shown, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [begin < stop and end > start for begin, end in offsets]


def _encode_answer(tokenizer: Any, shown: str, answer: str, prompt_format: PromptFormat) -> tuple[int, ...]:
    at_joint = shown[-1:].isspace() or answer[:1].isspace() or prompt_format.chat
    text = answer if at_joint else prompt_format.join + answer
    return tuple(_continuation_ids(tokenizer, text))


_ANCHOR = "\n"


def _continuation_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of `text` in the middle of a text.

    SentencePiece vocabularies put a space before whatever they are given, so an answer encoded alone
    would begin with a word boundary it does not have, or with two. Encoded behind an anchor, whose ids
    are then dropped, it does not.
    """
    anchor = tokenizer(_ANCHOR, add_special_tokens=False)["input_ids"]
    behind = tokenizer(_ANCHOR + text, add_special_tokens=False)["input_ids"]
    if anchor and behind[: len(anchor)] == anchor:
        return behind[len(anchor) :]
    # The vocabulary drops the anchor (a word-level one splits on whitespace) or merges it into the text.
    return tokenizer(text, add_special_tokens=False)["input_ids"]
