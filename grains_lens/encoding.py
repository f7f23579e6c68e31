"""From text and pictures to token ids: prompt and answers apart, one BOS, known template tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import chats
from .pairs import MultipleChoice, PreferencePair, Prompted
from .vision import PromptImages, Vision


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
    """A prompt's token ids; `is_special` marks BOS, template and other special tokens (an image's tokens,
    which are its content, are not among them)."""

    ids: tuple[int, ...]
    is_special: tuple[bool, ...]
    images: PromptImages | None = field(default=None, compare=False)

    @property
    def is_image(self) -> tuple[bool, ...]:
        """Which tokens are an image's."""
        token = None if self.images is None else self.images.token_id
        return tuple(id == token for id in self.ids)

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
    vision: Vision | None = None,
) -> list[Encoded]:
    """Tokenise prompts and answers apart and keep them as ids, so that no merge crosses the joint.

    `vision` is what reads the items' images, None if the model takes text alone.

    Raises ValueError if there is nothing to encode, a text has no tokens, images and placeholders do not
    match, an item is longer than the model's context, or two answers of a pair have the same ids.
    """
    if not items:
        raise ValueError("there are no pairs or questions to work on.")
    encoder = _Encoder(tokenizer, prompt_format, prepend_bos, vision)
    encoded = []
    for index, item in enumerate(items):
        texts = (item.chosen, item.rejected) if isinstance(item, PreferencePair) else item.choices
        prompt, shown = encoder.prompt(item.prompt, item.images, f"item {index}")
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
    prompts: Sequence[Prompted],
    *,
    images: Sequence[Sequence[Any]] = (),
    prompt_format: PromptFormat = PromptFormat(),
    prepend_bos: bool = True,
    vision: Vision | None = None,
) -> list[EncodedPrompt]:
    """Token ids of prompts alone, as `encode` makes them, with one sequence of `images` each, or with none; of
    pairs and questions, their prompts and images."""
    encoder = _Encoder(tokenizer, prompt_format, prepend_bos, vision)
    texts = [
        (item, images[index] if images else ()) if isinstance(item, str) else (item.prompt, item.images)
        for index, item in enumerate(prompts)
    ]
    return [encoder.prompt(text, images, f"prompt {n}")[0] for n, (text, images) in enumerate(texts)]


class _Encoder:
    """Prompts to ids, by one tokenizer and format."""

    def __init__(
        self, tokenizer: Any, prompt_format: PromptFormat, prepend_bos: bool, vision: Vision | None
    ) -> None:
        self.tokenizer, self.format, self.vision = tokenizer, prompt_format, vision
        bos = prepend_bos if prompt_format.bos is None else prompt_format.bos
        self.bos = tokenizer.bos_token_id if bos else None
        self.special_ids = _special_ids(tokenizer)
        if vision is not None:
            self.special_ids.discard(vision.token_id)

    def prompt(self, text: str, pictures: Sequence[Any], where: str) -> tuple[EncodedPrompt, str]:
        """A prompt's tokens, and the text that answers follow."""
        shown = self._shown(text, len(pictures))
        self._check_pictures(shown, len(pictures), where)
        images = None
        if self.vision is not None and pictures:
            ids, spans, images = self.vision.tokenize(shown, pictures)
        else:
            ids, spans = _tokenize(self.tokenizer, shown)
        special = [token in self.special_ids for token in ids]
        if self.format.chat and spans:
            inside = self._in_content(shown, spans)
            image = None if images is None else images.token_id
            special = [
                one or not (within or token == image)
                for one, within, token in zip(special, inside, ids, strict=True)
            ]
        if self.bos is not None and ids[:1] != [self.bos]:
            ids, special = [self.bos, *ids], [True, *special]
        return EncodedPrompt(tuple(ids), tuple(special), images), shown

    def _check_pictures(self, shown: str, n_pictures: int, where: str) -> None:
        if self.vision is None:
            if n_pictures:
                raise ValueError(
                    f"{where} has images, but this model takes text only: pass a vision-language "
                    "TransformerBridge, or leave the images out."
                )
            return
        placeholder = self.vision.placeholder
        count = shown.count(placeholder)
        if count != n_pictures:
            raise ValueError(
                f"{where} has {n_pictures} images, and its prompt {count} times the placeholder "
                f"{placeholder!r}: write it once where each image belongs"
                + ("." if self.format.chat else ", or leave its place to PromptFormat(chat=True).")
            )
        if n_pictures and self.vision.processor is None:
            raise ValueError(
                f"{where} has images, but the model has no processor to read them with: set model.processor = "
                "transformers.AutoProcessor.from_pretrained(...), or load the model from a directory that has "
                "the processor's files (processor_config.json or preprocessor_config.json)."
            )

    @property
    def template_owner(self) -> Any:
        """Whose chat template is taken: the processor's, which knows of images, before the tokenizer's."""
        processor = None if self.vision is None else self.vision.processor
        return processor if getattr(processor, "chat_template", None) else self.tokenizer

    def _shown(self, text: str, n_pictures: int) -> str:
        if not self.format.chat:
            return text
        if self.vision is None or not n_pictures:
            return chats.render(self.template_owner, text, self.format.system)
        return chats.render_with_images(
            self.template_owner, text, self.vision.placeholder, n_pictures, self.format.system
        )

    def _in_content(self, shown: str, spans: Sequence[tuple[int, int]]) -> list[bool]:
        # Expanded placeholders make the text longer; its end stays as far behind the last token.
        _, plain = _tokenize(self.tokenizer, shown)
        grown = spans[-1][1] - plain[-1][1] if plain else 0
        return chats.in_content(self.template_owner, shown, spans, grown, self.format.system)


def _tokenize(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]] | None]:
    """Ids, and where each token stands in the text, if the tokenizer can say."""
    if not tokenizer.is_fast:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"]), None
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(encoding["input_ids"]), list(encoding["offset_mapping"])


def _special_ids(tokenizer: Any) -> set[int]:
    """Ids of tokens that are no text: BOS and the like, and a template's own, which carry no name."""
    ids = set(tokenizer.all_special_ids)
    ids |= {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    # An unknown word is text; but in GPT-2's vocabulary one token is unknown, BOS and EOS at once.
    if tokenizer.unk_token_id not in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        ids.discard(tokenizer.unk_token_id)
    return ids


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
