"""Prompts as a user's turn in a model's chat template, with their images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Content = str | list[dict[str, str]]
"""A turn's text, or its parts: `{"type": "text", "text": ...}` and `{"type": "image"}`."""

_STAND_IN = "\ue000"
"""A private-use character, which no template has in it."""


def render(owner: Any, content: Content, system: str | None) -> str:
    """The chat template of a tokenizer or processor around a user's turn, up to where the answer begins."""
    if not getattr(owner, "chat_template", None):
        raise ValueError(
            "prompt_format=PromptFormat(chat=True), but the tokenizer has no chat template: "
            "use a chat model, or leave chat=False."
        )
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system is not None:
        messages.insert(
            0, {"role": "system", "content": system if isinstance(content, str) else _text(system)}
        )
    return owner.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def render_with_images(owner: Any, text: str, placeholder: str, n_images: int, system: str | None) -> str:
    """The same for a text with images where its placeholders stand, or in front of a text without any.

    A template knows how its model wants images announced. One that takes text alone gets the placeholders as
    they stand in the text.
    """
    if placeholder in text:
        announced = _announcement(owner, system)
        before, *others = text.split(
            announced if placeholder in announced and announced in text else placeholder
        )
    else:
        before, others = "", [*[""] * (n_images - 1), text]
    content = _text(before) + [part for other in others for part in ({"type": "image"}, *_text(other))]
    shown = _attempt(owner, content, system)
    return shown if shown.count(placeholder) == n_images else render(owner, text, system)


def _announcement(owner: Any, system: str | None) -> str:
    """What a template puts for an image, which a text may already have in full (Qwen-VL's three tokens)."""
    without = _attempt(owner, _text(_STAND_IN), system).partition(_STAND_IN)[0]
    shown = _attempt(owner, [{"type": "image"}, *_text(_STAND_IN)], system).partition(_STAND_IN)[0]
    return shown.removeprefix(without).strip()


def in_content(
    owner: Any, shown: str, spans: Sequence[tuple[int, int]], grown: int, system: str | None
) -> list[bool]:
    """Which tokens of a rendered chat lie in the user's own text, as against the template.

    `spans` are where tokens stand in the chat after its placeholders were expanded, by which it has `grown`.
    The template shows itself around a stand-in: looking for the prompt would find "user" in the template.
    """
    for content in (_STAND_IN, _text(_STAND_IN)):
        before, _, after = _attempt(owner, content, system).partition(_STAND_IN)
        if after and shown.startswith(before) and shown.endswith(after):
            start, stop = len(before), len(shown) + grown - len(after)
            return [begin < stop and end > start for begin, end in spans]
    return [True] * len(spans)


def _attempt(owner: Any, content: Content, system: str | None) -> str:
    try:
        return render(owner, content, system)
    except (
        Exception
    ):  # a template is a program of its own, and may fail on a form it does not know as it likes
        return ""


def _text(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}] if text.strip() else []
