"""Whether a text begins with BOS, according to the tokenizer's own files and not to transformer-lens's copy.

In one or both of its model classes, transformer-lens reloads a tokenizer with `add_bos_token=True`, and
replaces a missing BOS by the end token. So neither a model's tokenizer nor its class answers the question.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

_AS_SAVED: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def prepends_bos(tokenizer: Any, *, default: bool) -> bool:
    """Whether this tokenizer's texts begin with BOS by default.

    The tokenizer's own behaviour decides. The only exception: if one token both begins and ends a text, and
    the tokenizer adds it nowhere (GPT-2), `default` decides; it is transformer-lens's policy for the
    architecture.
    """
    if puts_bos_first(tokenizer):
        return True
    # The original setting of the tokenizer: None if transformer-lens inserted the end token.
    declared = tokenizer.init_kwargs.get("bos_token")
    return declared is not None and str(declared) == tokenizer.eos_token and default


def puts_bos_first(tokenizer: Any) -> bool:
    """Whether the tokenizer, as saved, begins a text with BOS."""
    if not _begins_with_bos(tokenizer):
        return False
    if not tokenizer.init_kwargs.get("add_bos_token"):
        return True
    if tokenizer not in _AS_SAVED:
        _AS_SAVED[tokenizer] = _begins_with_bos(_as_saved(tokenizer))
    return _AS_SAVED[tokenizer]


def _begins_with_bos(tokenizer: Any) -> bool:
    # Not tested on "", because some tokenizers add no BOS to an empty text.
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _as_saved(tokenizer: Any) -> Any:
    """The tokenizer as saved, without later additions; the given one if its files are gone."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            tokenizer.name_or_path, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError):
        return tokenizer
