"""How a verb goes about its work, as one value: how prompts are read, how large a batch is, whether a bar shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm

from ..data.given import Pairs, Prompts, Questions
from ..data.items import MultipleChoice, PreferencePair
from ..errors import whole
from ..hosts.model import HookedModel, frozen
from .batching import BATCH_TOKENS, buckets, encode_for, encode_prompts_for
from .encoding import Encoded, EncodedPrompt, PromptFormat


@dataclass(frozen=True)
class Work:
    """What every verb takes and hands down: a `prompt_format`, the `batch_tokens` of a forward pass (padded, over
    all rows), and whether `progress` is shown.

    A public verb makes one of the keyword arguments that have these names; verbs that show no bar leave
    `progress` out.
    """

    prompt_format: PromptFormat = PromptFormat()
    batch_tokens: int = BATCH_TOKENS
    progress: bool = False

    def __post_init__(self) -> None:
        whole(self.batch_tokens, "batch_tokens")

    def encode(
        self,
        model: HookedModel,
        items: Pairs | Questions,
        *,
        kind: type[PreferencePair] | type[MultipleChoice] = PreferencePair,
        argument: str = "pairs",
        one_answer: bool = False,
    ) -> list[Encoded]:
        """`encode_for` in this format."""
        return encode_for(
            model, items, self.prompt_format, kind=kind, argument=argument, one_answer=one_answer
        )

    def encode_prompts(
        self, model: HookedModel, prompts: Prompts, *, argument: str = "prompts"
    ) -> list[EncodedPrompt]:
        """`encode_prompts_for` in this format."""
        return encode_prompts_for(model, prompts, self.prompt_format, argument=argument)

    @contextmanager
    def batches(
        self,
        model: HookedModel,
        lengths: Sequence[int],
        label: str | None = None,
        *,
        rows: int = 1,
        unit: str = "pair",
    ) -> Iterator[Iterator[list[int]]]:
        """The items of so many tokens in groups (`buckets`), while the model is frozen and a bar counts them."""
        with frozen(model), self.bar(len(lengths), label, unit) as shown:

            def groups() -> Iterator[list[int]]:
                for group in buckets(lengths, self.batch_tokens, rows):
                    yield group
                    shown.update(len(group))

            yield groups()

    def bar(self, total: int, label: str | None, unit: str) -> tqdm[Any]:
        """A bar called `label`, which shows itself after a second; none without a label or without progress."""
        hidden = label is None or not self.progress
        return tqdm(total=total, desc=label, unit=unit, disable=hidden, leave=False, delay=1.0)
