"""The zoo: tiny random-weight models, built offline, one for every architecture and model class we support.

The weights are not trained, but they are not small either: each is drawn with a standard deviation that
keeps the residual stream, the attention patterns and the gates properly non-linear, so that every token
matters and a property that holds here does not hold for want of anything happening. Query and key-value
heads differ in number, norms and biases are random, and Gemma's window is shorter than a test prompt,
so that no mix-up of axes can hide.

`transformer_lens` takes seconds to import, so it is imported by the functions that need it.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from grains_lens.hosts.hooked_transformer import hooked_transformer_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Architecture = Literal["gpt2", "llama", "qwen2", "gemma3"]
Backend = Literal["bridge", "hooked_transformer"]

TRANSFORMER_LENS_VERSION = importlib.metadata.version("transformer-lens")
TRANSFORMER_LENS_LINE = TRANSFORMER_LENS_VERSION.split(".")[0]

N_LAYERS, D_MODEL, N_HEADS, N_KEY_VALUE_HEADS, D_MLP, N_CTX = 3, 32, 4, 2, 64, 64
SLIDING_WINDOW = 8

SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>")
WORDS = tuple(
    """
    . , ? ! : ; ( ) the a an and or but not no yes is are was were be do does did can will what who where
    when why how it he she they we you i this that these those of in on at to from with without for by as
    one two three four five red green blue grey cold warm wet dry small large old new good bad safe wrong
    true false always never today slowly cat dog fox bird fish stone river tree leaf seed moss root bread
    water salt milk tea house road door eats drinks sees likes says knows thinks moves sleeps question answer
    """.split()
)
# Thirteen tokens without BOS: longer than Gemma's window.
SENTENCE = "what does the old fox eats at the cold river ? answer :"


@dataclass(frozen=True)
class ModelCase:
    """One tiny model: an architecture as one of TransformerLens's model classes."""

    architecture: Architecture
    backend: Backend

    @property
    def id(self) -> str:
        return f"{self.architecture}-{self.backend}"


ARCHITECTURES: tuple[Architecture, ...] = ("gpt2", "llama", "qwen2", "gemma3")
# HookedTransformer was removed in TransformerLens 4.
BACKENDS: tuple[Backend, ...] = (
    ("bridge", "hooked_transformer") if TRANSFORMER_LENS_LINE == "3" else ("bridge",)
)
CASES = [ModelCase(architecture, backend) for backend in BACKENDS for architecture in ARCHITECTURES]


def build(case: ModelCase, directory: Path) -> Any:
    """A hooked model for `case`, in eval mode, its weights those of `build_hf(case.architecture)`.

    `directory` is where the tokenizer is saved: TransformerLens loads tokenizers anew from their path.
    """
    return hook(build_hf(case.architecture), case.backend, directory)


def hook(hf_model: PreTrainedModel, backend: Backend, directory: Path) -> Any:
    """`hf_model` as a model of this class, with the zoo's tokenizer."""
    tokenizer = load_tokenizer(directory)
    name = f"tiny-{hf_model.config.model_type}"
    if backend == "hooked_transformer":
        return hooked_transformer_of(hf_model, tokenizer, name=name)
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        name, hf_model=hf_model, tokenizer=tokenizer, device="cpu"
    ).eval()


def build_hf(architecture: Architecture) -> PreTrainedModel:
    """A new plain Hugging Face model, for references: booting a bridge changes the model it is given."""
    import torch
    import transformers

    shape: dict[str, Any] = {
        "vocab_size": len(SPECIAL_TOKENS) + len(WORDS),
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    if architecture == "gpt2":
        config = transformers.GPT2Config(
            n_layer=N_LAYERS, n_embd=D_MODEL, n_head=N_HEADS, n_inner=D_MLP, n_positions=N_CTX, **shape
        )
        model = transformers.GPT2LMHeadModel(config)
    else:
        shape |= {
            "num_hidden_layers": N_LAYERS,
            "hidden_size": D_MODEL,
            "num_attention_heads": N_HEADS,
            "num_key_value_heads": N_KEY_VALUE_HEADS,
            "intermediate_size": D_MLP,
            "max_position_embeddings": N_CTX,
        }
        if architecture == "llama":
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape))
        elif architecture == "qwen2":
            model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**shape))
        else:
            config = transformers.Gemma3TextConfig(
                head_dim=D_MODEL // N_HEADS,
                query_pre_attn_scalar=D_MODEL // N_HEADS,
                sliding_window=SLIDING_WINDOW,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                **shape,
            )
            model = transformers.Gemma3ForCausalLM(config)
    _draw_weights(model, torch.Generator().manual_seed(ARCHITECTURES.index(architecture)))
    # TransformerLens reads the architecture from here, where only a saved model would have it.
    model.config.architectures = [type(model).__name__]
    return model.float().eval()


def _draw_weights(model: PreTrainedModel, generator: Any) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                # Biases and norms: a little off their usual values (Gemma's norms store weight − 1).
                parameter.add_(0.2 * noise)
            elif any(part in name for part in ("wte", "wpe", "embed_tokens", "lm_head")):
                parameter.copy_(0.4 * noise)
            else:
                parameter.copy_(0.2 * noise)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The zoo's word-level tokenizer, which puts one BOS first; saved in `directory` on first use."""
    from transformers import AutoTokenizer

    if not (directory / "tokenizer.json").exists():
        _new_tokenizer().save_pretrained(directory)
    return AutoTokenizer.from_pretrained(directory)


def _new_tokenizer() -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=N_CTX,
    )
