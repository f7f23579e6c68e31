"""More architectures than the zoo has: tiny random text models of Hugging Face's, for tests.

`tests.models` holds the four that every property is shown on; here each is built once, for the few properties
that an architecture can break: what a verb computes against Hugging Face's own pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import models
from tests.models import D_MLP, D_MODEL, N_CTX, N_HEADS, N_KEY_VALUE_HEADS, N_LAYERS

_SIZES: dict[str, Any] = {
    "num_hidden_layers": N_LAYERS,
    "hidden_size": D_MODEL,
    "num_attention_heads": N_HEADS,
    "intermediate_size": D_MLP,
    "max_position_embeddings": N_CTX,
}
_GROUPED = {**_SIZES, "num_key_value_heads": N_KEY_VALUE_HEADS}
_EXPERTS = {"num_local_experts": 3, "num_experts_per_tok": 2}
_HEADS = {"head_dim": D_MODEL // N_HEADS}

# Name in transformers, without "Config" and "ForCausalLM": its sizes, under the names that its config has.
SIZES: dict[str, dict[str, Any]] = {
    "GPTJ": {
        "n_layer": N_LAYERS,
        "n_embd": D_MODEL,
        "n_head": N_HEADS,
        "n_inner": D_MLP,
        "n_positions": N_CTX,
        "rotary_dim": 4,
    },
    "GPTNeo": {
        "num_layers": N_LAYERS,
        "hidden_size": D_MODEL,
        "num_heads": N_HEADS,
        "intermediate_size": D_MLP,
        "max_position_embeddings": N_CTX,
        "window_size": 8,
        "attention_types": [[["global", "local", "global"], 1]],
    },
    "GPTBigCode": {
        "n_layer": N_LAYERS,
        "n_embd": D_MODEL,
        "n_head": N_HEADS,
        "n_inner": D_MLP,
        "n_positions": N_CTX,
    },
    "GPTNeoX": _SIZES | {"hidden_dropout": 0.1},
    "CodeGen": {
        "n_layer": N_LAYERS,
        "n_embd": D_MODEL,
        "n_head": N_HEADS,
        "n_inner": D_MLP,
        "n_positions": N_CTX,
        "rotary_dim": 4,
    },
    "Phi": _SIZES | {"embd_pdrop": 0.1},
    "Phi3": _GROUPED,
    "Falcon": {"num_hidden_layers": N_LAYERS, "hidden_size": D_MODEL, "num_attention_heads": N_HEADS},
    "Bloom": {"n_layer": N_LAYERS, "hidden_size": D_MODEL, "n_head": N_HEADS},
    "Mpt": {
        "n_layers": N_LAYERS,
        "d_model": D_MODEL,
        "n_heads": N_HEADS,
        "expansion_ratio": 2,
        "max_seq_len": N_CTX,
    },
    "OPT": {
        "num_hidden_layers": N_LAYERS,
        "hidden_size": D_MODEL,
        "num_attention_heads": N_HEADS,
        "ffn_dim": D_MLP,
        "max_position_embeddings": N_CTX,
        "word_embed_proj_dim": D_MODEL,
    },
    "XGLM": {
        "num_layers": N_LAYERS,
        "d_model": D_MODEL,
        "attention_heads": N_HEADS,
        "ffn_dim": D_MLP,
        "max_position_embeddings": N_CTX,
    },
    "Granite": _GROUPED | {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    "GraniteMoe": _GROUPED | _EXPERTS | {"embedding_multiplier": 3.0},
    "Cohere": _GROUPED | {"logit_scale": 0.5},
    "Cohere2": _GROUPED | {"logit_scale": 0.5, "sliding_window": 8},
    "StableLm": _GROUPED,
    "Mistral": _GROUPED | {"sliding_window": 8},
    "Mixtral": _GROUPED | _EXPERTS,
    "Qwen2Moe": _GROUPED
    | {
        "num_experts": 3,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "Qwen3": _GROUPED | _HEADS,
    "Qwen3Moe": _GROUPED | _HEADS | {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "Gemma": _GROUPED | _HEADS,
    "Gemma2": _GROUPED | _HEADS | {"query_pre_attn_scalar": 8, "sliding_window": 8},
    "Olmo": _GROUPED,
    "Olmo2": _GROUPED,
    "Olmo3": _GROUPED,
    "Olmoe": _GROUPED | {"num_experts": 3, "num_experts_per_tok": 2},
    "Starcoder2": _GROUPED,
    "SmolLM3": _GROUPED,
    "Glm": _GROUPED | _HEADS,
    "Glm4": _GROUPED | _HEADS,
    "Nemotron": _GROUPED,
    "SeedOss": _GROUPED | _HEADS,
    "Ernie4_5": _GROUPED | _HEADS,
    "Exaone4": _GROUPED | _HEADS,
    "Apertus": _GROUPED,
    "Arcee": _GROUPED,
    "HunYuanDenseV1": _GROUPED | _HEADS,
    "GptOss": _GROUPED | _HEADS | _EXPERTS | {"sliding_window": 8},
    "NanoChat": _GROUPED,
    "Lfm2": _GROUPED | {"layer_types": ["full_attention"] * N_LAYERS},
    "Mamba": {"num_hidden_layers": N_LAYERS, "hidden_size": D_MODEL, "state_size": 4},
    "DeepseekV3": _SIZES
    | {
        "num_key_value_heads": N_HEADS,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    },
}


def build_hf(name: str) -> Any:
    """A new plain Hugging Face model, the same weights each time."""
    import torch
    import transformers

    ids = {
        "vocab_size": len(models.SPECIAL_TOKENS) + len(models.WORDS),
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    config = getattr(transformers, f"{name}Config")(**SIZES[name], **ids)
    # The bridges compute attention themselves, or ask for this one.
    with torch.random.fork_rng():  # some parameters keep what they are built with, such as GptOss's sinks
        torch.manual_seed(0)
        model = getattr(transformers, f"{name}ForCausalLM")._from_config(config, attn_implementation="eager")
    models._draw_weights(model, torch.Generator().manual_seed(len(name)))
    model.config.architectures = [type(model).__name__]
    return model.float().eval()


def build_bridge(name: str, directory: Path) -> Any:
    """A TransformerBridge of the same weights, with the zoo's tokenizer."""
    return models.hook(build_hf(name), "bridge", directory)
