"""Whether a text begins with BOS: by the tokenizer's own files, whatever transformer-lens made of the tokenizer.

transformer-lens reads a tokenizer again with `add_bos_token=True`, and puts the end token in for a BOS that is not
there, on one of its classes or on both. So neither the tokenizer that a model holds nor the model's class can say.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

_AS_SAVED: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def prepends_bos(tokenizer: Any, *, default: bool) -> bool:
    """Whether BOS goes in front of this tokenizer's texts where nobody says so.

    As the tokenizer does it by itself. Only where one token both begins and ends a text, and the tokenizer puts it
    nowhere (GPT-2), is it up to `default`, which is transformer-lens's policy for the architecture.
    """
    if puts_bos_first(tokenizer):
        return True
    # What the tokenizer was made with: None where transformer-lens put its end token in.
    declared = tokenizer.init_kwargs.get("bos_token")
    return declared is not None and str(declared) == tokenizer.eos_token and default


def puts_bos_first(tokenizer: Any) -> bool:
    """Whether the tokenizer, as it was saved, begins a text with BOS."""
    if not _begins_with_bos(tokenizer):
        return False
    if not tokenizer.init_kwargs.get("add_bos_token"):
        return True
    if tokenizer not in _AS_SAVED:
        _AS_SAVED[tokenizer] = _begins_with_bos(_as_saved(tokenizer))
    return _AS_SAVED[tokenizer]


def _begins_with_bos(tokenizer: Any) -> bool:
    # Not of "": some tokenizers give an empty text no BOS.
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _as_saved(tokenizer: Any) -> Any:
    """The tokenizer without what was added when it was read again; itself, where its files are gone."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            tokenizer.name_or_path, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError):
        return tokenizer
