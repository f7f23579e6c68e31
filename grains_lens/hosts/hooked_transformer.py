"""Convert a Hugging Face model to a HookedTransformer (transformer-lens 3.9)."""

from __future__ import annotations

from typing import Any

import torch

from .model import HookedModel


def hooked_transformer_of(
    hf_model: Any,
    tokenizer: Any,
    *,
    name: str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> HookedModel:
    """A HookedTransformer with the unchanged weights of a Hugging Face model: nothing is folded or centred.

    transformer-lens itself can load only models that it knows by name into this class.
    """
    try:
        import transformer_lens.pretrained.weight_conversions  # pyright: ignore[reportMissingImports]

        lens: Any = transformer_lens
    except ImportError as error:
        raise ImportError(
            "HookedTransformer was removed in transformer-lens 4; for backend='hooked_transformer' install "
            '3.9: pip install "grains-lens[hooked-transformer]", or use backend="bridge".'
        ) from error
    weight_conversions = lens.pretrained.weight_conversions
    architecture = type(hf_model).__name__
    recipes = {
        "GPT2LMHeadModel": (_gpt2_settings, weight_conversions.convert_gpt2_weights),
        "LlamaForCausalLM": (_llama_settings, weight_conversions.convert_llama_weights),
        "Qwen2ForCausalLM": (_qwen2_settings, weight_conversions.convert_qwen2_weights),
        "Gemma3ForCausalLM": (_gemma3_settings, weight_conversions.convert_gemma_weights),
    }
    if architecture not in recipes:
        raise ValueError(
            f"{architecture} cannot be loaded as a HookedTransformer here (these can: {', '.join(recipes)}): "
            'use backend="bridge".'
        )
    settings, convert = recipes[architecture]
    config = lens.HookedTransformerConfig(
        model_name=name,
        original_architecture=architecture,
        device=str(device),
        dtype=dtype,
        init_weights=False,
        **settings(hf_model.config),
    )
    model = lens.HookedTransformer(config, tokenizer=tokenizer)
    model.load_and_process_state_dict(
        convert(hf_model, config),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return model.to(device).eval()


def _gpt2_settings(config: Any) -> dict[str, Any]:
    return {
        "n_layers": config.n_layer,
        "d_model": config.n_embd,
        "n_heads": config.n_head,
        "d_head": config.n_embd // config.n_head,
        "d_mlp": config.n_inner or 4 * config.n_embd,
        "n_ctx": config.n_positions,
        "d_vocab": config.vocab_size,
        "act_fn": config.activation_function,
        "normalization_type": "LN",
        "eps": config.layer_norm_epsilon,
    }


def _llama_settings(config: Any) -> dict[str, Any]:
    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        raise ValueError(
            f"this checkpoint scales its rotary positions ({rope['rope_type']!r}), which is not carried over "
            'to HookedTransformer here: use backend="bridge".'
        )
    return _rotary_settings(config) | {"rotary_base": int(rope["rope_theta"])}


def _qwen2_settings(config: Any) -> dict[str, Any]:
    # As transformer-lens has it where it makes the model itself, and on the bridge.
    return _llama_settings(config) | {"default_prepend_bos": False}


def _gemma3_settings(config: Any) -> dict[str, Any]:
    rope = config.rope_parameters
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    scaled = [kind for kind in rope.values() if kind.get("rope_type", "default") != "default"]
    if scaled:
        raise ValueError(
            f"this checkpoint scales its rotary positions ({scaled[0]['rope_type']!r}), which is not carried over "
            'to HookedTransformer here: use backend="bridge".'
        )
    if config.query_pre_attn_scalar != d_head:
        raise ValueError(
            f"this checkpoint scales attention by query_pre_attn_scalar={config.query_pre_attn_scalar} and not by its "
            f'head size {d_head}, which is not carried over to HookedTransformer here: use backend="bridge".'
        )
    kinds = {"sliding_attention": "local", "full_attention": "global"}
    return _rotary_settings(config) | {
        "rotary_base": int(rope["full_attention"]["rope_theta"]),
        "rotary_base_local": int(rope["sliding_attention"]["rope_theta"]),
        "use_normalization_before_and_after": True,
        "use_qk_norm": True,
        "use_local_attn": True,
        "window_size": config.sliding_window,
        "attn_types": [kinds[kind] for kind in config.layer_types],
    }


def _rotary_settings(config: Any) -> dict[str, Any]:
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        "n_layers": config.num_hidden_layers,
        "d_model": config.hidden_size,
        "n_heads": config.num_attention_heads,
        "n_key_value_heads": config.num_key_value_heads,
        "d_head": d_head,
        "d_mlp": config.intermediate_size,
        "n_ctx": config.max_position_embeddings,
        "d_vocab": config.vocab_size,
        "act_fn": getattr(config, "hidden_act", None) or config.hidden_activation,
        "normalization_type": "RMS",
        "final_rms": True,
        "eps": config.rms_norm_eps,
        "positional_embedding_type": "rotary",
        "rotary_dim": d_head,
        "gated_mlp": True,
    }
