"""Find the item and the first layer that give numbers that are not finite.

Every comparison with NaN is false, and argmax treats it as the largest, so such numbers must never be
counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from ..errors import NotFiniteError
from ..hosts.batch import TokenBatch
from ..hosts.forward import extend, prefill
from ..hosts.model import HookedModel, frozen, layer_count
from ..hosts.points import RESID_PRE_0, Edit, edited, resid_post

_REMEDY = (
    "load the model in float32 or bfloat16 (float16 overflows), steer less where it is steered, and see that its "
    "weights are finite."
)


def check_rows(
    model: HookedModel,
    name: str,
    rows: Sequence[int],
    values: Shaped[Tensor, "row ..."],
    prompts: TokenBatch,
    answers: Sequence[TokenBatch] = (),
    *,
    what: str = "log-probabilities",
    remedy: str = "",
) -> None:
    """Raise NotFiniteError if a row's values are NaN or infinite. The error names the item, by `name` and its
    number in `rows`, and the first layer whose stream is not finite; to find it, the item is run again.
    `remedy` precedes the usual remedy."""
    good = torch.isfinite(values).reshape(len(rows), -1).all(dim=-1)
    if good.all():
        return
    row = int((~good).nonzero()[0])
    alone = torch.tensor([row])
    begins = where_it_begins(model, prompts.select(alone), [one.select(alone).tokens for one in answers])
    raise NotFiniteError(
        f"{name} {rows[row]} has {what} that are NaN or infinite: {begins}; {remedy}{_REMEDY}", row
    )


@contextmanager
def naming(name: str, rows: Sequence[int]) -> Iterator[None]:
    """Inside this context, errors of steering about a batch row name the item of that row. Copies of the rows
    follow one another."""
    try:
        yield
    except NotFiniteError as error:
        if error.row is None or error.named:
            raise
        raise NotFiniteError(
            f"{name} {rows[error.row % len(rows)]}: {error}", error.row, named=True
        ) from None


def where_it_begins(
    model: HookedModel, prompt: TokenBatch, answers: Sequence[Int[Tensor, "1 _"]] = ()
) -> str:
    """A text that says where the stream of one prompt, or of its answers, ceases to be finite."""
    broken: set[int] = set()
    real: Tensor | None = prompt.mask[0]

    def look(layer: int) -> Edit:
        def edit(h: Tensor) -> None:
            own = h[0] if real is None else h[0, real.to(h.device)]
            if not torch.isfinite(own).all():
                broken.add(layer)

        return edit

    edits = [(resid_post(layer), look(layer)) for layer in range(layer_count(model))]
    with torch.no_grad(), frozen(model), edited(model, [(RESID_PRE_0, look(-1)), *edits]):
        _, prefix = prefill(model, prompt)
        real = None
        for answer in answers:
            if answer.shape[1] > 1:
                extend(model, prefix, answer[:, :-1])
    if not broken:
        return "the residual stream is finite after every layer, what is made of it is not"
    first = min(broken)
    return f"the residual stream is not finite {'before block 0' if first < 0 else f'from layer {first} on'}"
