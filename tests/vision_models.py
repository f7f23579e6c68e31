"""Tiny random-weight vision-language models, one for every architecture we support, saved as checkpoints.

As in `tests.models`, weights are drawn large enough that every token, of text or image, matters.
"""

from __future__ import annotations

import functools
import unittest.mock
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

import grains_lens as gl
from grains_lens import PreferencePair
from tests import models
from tests.models import D_MLP, D_MODEL, N_HEADS, N_KEY_VALUE_HEADS, N_LAYERS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VisionArchitecture = Literal["llava", "llava_next", "qwen2_5_vl", "gemma3_vl", "qwen3_vl"]

# The image features of Gemma-3 are wrong on transformer-lens 3.9's bridge, and it is refused there.
VISION_ARCHITECTURES: tuple[VisionArchitecture, ...] = (
    ("llava", "llava_next", "qwen2_5_vl", "gemma3_vl")
    if models.TRANSFORMER_LENS_LINE == "4"
    else ("llava", "llava_next", "qwen2_5_vl")
)

PLACEHOLDER = {
    "llava": "<image>",
    "llava_next": "<image>",
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "gemma3_vl": "<start_of_image>",
    "qwen3_vl": "<|vision_start|><|image_pad|><|vision_end|>",
}
IMAGE_TOKENS = {
    "llava": ("<image>",),
    "llava_next": ("<image>",),
    "qwen2_5_vl": ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"),
    "gemma3_vl": ("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
    "qwen3_vl": ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"),
}
N_CTX = 160
IMAGE_SIZE, PATCH = 16, 4


@dataclass(repr=False)
class VisionModel:
    """A checkpoint on disk: the hooked model made of it, and what makes a fresh plain one."""

    architecture: VisionArchitecture
    directory: Path
    hooked: Any

    @property
    def placeholder(self) -> str:
        """What stands for an image in a prompt."""
        return PLACEHOLDER[self.architecture]

    @functools.cached_property
    def plain(self) -> Any:
        """A plain Hugging Face copy of its own, for references."""
        import transformers

        model = transformers.AutoModelForImageTextToText.from_pretrained(
            self.directory, attn_implementation="eager"
        )
        return model.eval()


@functools.cache
def load(architecture: VisionArchitecture, directory: Path) -> VisionModel:
    """The model, saved below `directory` and loaded from there."""
    here = save(architecture, directory / architecture)
    with no_installs():
        return VisionModel(architecture, here, gl.load_model(here, device="cpu"))


@contextmanager
def no_installs() -> Iterator[None]:
    """Fail where transformer-lens would install a package."""

    def refuse(command: Any, *args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"{command} was run")

    with unittest.mock.patch("subprocess.check_call", refuse):
        yield


def save(architecture: VisionArchitecture, directory: Path) -> Path:
    """A checkpoint as `save_pretrained` writes it, with the processor's files."""
    model = build_hf(architecture)
    model.save_pretrained(directory)
    tokenizer = new_tokenizer(architecture, directory)
    save_processor(architecture, tokenizer, directory)
    return directory


def new_tokenizer(architecture: VisionArchitecture, directory: Path) -> PreTrainedTokenizerBase:
    """The zoo's words, and behind them the tokens that images need."""
    from transformers import AutoTokenizer

    plain = models._new_tokenizer()
    tokens = IMAGE_TOKENS[architecture]
    plain.add_special_tokens({"additional_special_tokens": list(tokens)})
    plain.save_pretrained(directory)
    extra = {}
    if architecture == "gemma3_vl":
        extra = {
            "extra_special_tokens": dict(zip(("boi_token", "eoi_token", "image_token"), tokens, strict=True))
        }
    tokenizer = AutoTokenizer.from_pretrained(directory, **extra)
    tokenizer.save_pretrained(directory)
    return tokenizer


def save_processor(architecture: VisionArchitecture, tokenizer: Any, directory: Path) -> None:
    import transformers as tf

    square = {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}}
    if architecture == "llava":
        images = tf.CLIPImageProcessorPil(**square)
        tf.LlavaProcessor(
            images,
            tokenizer,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ).save_pretrained(directory)
    elif architecture == "llava_next":
        images = tf.LlavaNextImageProcessorPil(**square, image_grid_pinpoints=PINPOINTS)
        tf.LlavaNextProcessor(
            images,
            tokenizer,
            patch_size=2 * PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ).save_pretrained(directory)
    elif architecture == "gemma3_vl":
        images = tf.Gemma3ImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
        tf.Gemma3Processor(images, tokenizer, image_seq_length=4).save_pretrained(directory)
    else:
        # The whole processor needs torchvision, for videos.
        tf.Qwen2VLImageProcessorPil(
            patch_size=PATCH,
            merge_size=2,
            temporal_patch_size=2,
            size={"shortest_edge": 4 * PATCH * PATCH, "longest_edge": 64 * PATCH * PATCH},
        ).save_pretrained(directory)


PINPOINTS = [[IMAGE_SIZE, 2 * IMAGE_SIZE], [2 * IMAGE_SIZE, IMAGE_SIZE], [2 * IMAGE_SIZE, 2 * IMAGE_SIZE]]


def build_hf(architecture: VisionArchitecture) -> PreTrainedModel:
    """A new plain model, always with the same weights."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _new_hf(architecture)
    models._draw_weights(model, torch.Generator().manual_seed(0))
    model.config.architectures = [type(model).__name__]
    return model.float().eval()


def _new_hf(architecture: VisionArchitecture) -> Any:
    import transformers as tf

    first = len(models.SPECIAL_TOKENS) + len(models.WORDS)
    ids = {token: first + index for index, token in enumerate(IMAGE_TOKENS[architecture])}
    text = {
        "vocab_size": first + len(ids) + 1,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "num_hidden_layers": N_LAYERS,
        "hidden_size": D_MODEL,
        "num_attention_heads": N_HEADS,
        "num_key_value_heads": N_KEY_VALUE_HEADS,
        "intermediate_size": D_MLP,
        "max_position_embeddings": N_CTX,
    }
    sight = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if architecture in ("llava", "llava_next"):
        patch = PATCH if architecture == "llava" else 2 * PATCH
        vision = tf.CLIPVisionConfig(**sight, image_size=IMAGE_SIZE, patch_size=patch, projection_dim=16)
        common = {
            "vision_config": vision,
            "text_config": tf.LlamaConfig(**text),
            "image_token_index": ids["<image>"],
        }
        if architecture == "llava":
            return tf.LlavaForConditionalGeneration(tf.LlavaConfig(**common))
        return tf.LlavaNextForConditionalGeneration(
            tf.LlavaNextConfig(**common, image_grid_pinpoints=PINPOINTS)
        )
    if architecture == "gemma3_vl":
        vision = tf.SiglipVisionConfig(**sight, image_size=IMAGE_SIZE, patch_size=PATCH)
        text_config = tf.Gemma3TextConfig(
            head_dim=D_MODEL // N_HEADS,
            query_pre_attn_scalar=D_MODEL // N_HEADS,
            sliding_window=models.SLIDING_WINDOW,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            **text,
        )
        return tf.Gemma3ForConditionalGeneration(
            tf.Gemma3Config(
                text_config=text_config,
                vision_config=vision,
                mm_tokens_per_image=4,
                boi_token_index=ids["<start_of_image>"],
                eoi_token_index=ids["<end_of_image>"],
                image_token_index=ids["<image_soft_token>"],
            )
        )
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    special = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    if architecture == "qwen3_vl":
        deep = {
            "depth": 3,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": D_MODEL,
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        }
        text |= {"rope_parameters": rope, "head_dim": D_MODEL // N_HEADS}
        return tf.Qwen3VLForConditionalGeneration(
            tf.Qwen3VLConfig(text_config=text, vision_config=deep, **special)
        )
    config = tf.Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": D_MODEL,
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        },
        **special,
    )
    return tf.Qwen2_5_VLForConditionalGeneration(config)


def pairs_for(placeholder: str) -> list[PreferencePair]:
    """Prompts with images of several sizes and numbers, and one without."""
    return [
        PreferencePair(f"the cat {placeholder} likes", "milk", "salt water", (picture(0),)),
        PreferencePair(
            f"{placeholder} is this tea safe ? what {placeholder} does",
            "yes always",
            "no",
            (picture(1, 32, 16), picture(2, 16, 40)),
        ),
        PreferencePair("where does the bird move ? answer :", "to the root", "on the road"),
        PreferencePair(f"{placeholder} answer :", "two white dog .", "a tree", (picture(3, 16, 16),)),
    ]


def hf_inputs(model: VisionModel, pair: PreferencePair, answer: str) -> tuple[dict[str, Any], int]:
    """What a plain model is given for a pair's prompt and an answer, by the processor alone; and the length of
    the prompt."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model.directory)
    n_answer = len(tokenizer(answer, add_special_tokens=False)["input_ids"])
    text, images = f"{pair.prompt} {answer}", [Image.fromarray(one) for one in pair.images] or None
    if model.architecture.startswith("qwen"):
        processor = transformers.AutoImageProcessor.from_pretrained(model.directory)
        made = {} if images is None else dict(processor(images, return_tensors="pt"))
        for grid in made.get("image_grid_thw", []):
            text = text.replace("<|image_pad|>", "!" * (int(grid.prod()) // 4), 1)
        text = text.replace("!", "<|image_pad|>")
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        if images is not None:
            made["mm_token_type_ids"] = (ids == model.plain.config.image_token_id).int()
        return {"input_ids": ids, **made}, ids.shape[1] - n_answer
    processor = transformers.AutoProcessor.from_pretrained(model.directory)
    made = dict(processor(text=[text], images=images, return_tensors="pt"))
    if "token_type_ids" in made and model.architecture != "gemma3_vl":
        del made["token_type_ids"]
    return made, made["input_ids"].shape[1] - n_answer


def hf_gap(model: VisionModel, pair: PreferencePair, at: Any = None) -> tuple[float, Any, Any]:
    """f(x), x and ∂f/∂x at the merged embeddings [pos, d_model] of the prompt, from full passes of a plain
    model; or at other embeddings of the prompt."""
    import torch

    gap, gradient, merged = 0.0, 0.0, None
    for sign, answer in ((1, pair.chosen), (-1, pair.rejected)):
        inputs, n_prompt = hf_inputs(model, pair, answer)
        leaves = []

        def make_leaf(module: Any, args: Any, kwargs: Any, leaves: list = leaves, n: int = n_prompt) -> Any:
            x = kwargs["inputs_embeds"].detach()
            x = x if at is None else torch.cat([at[None], x[:, n:]], dim=1)
            leaves.append(x.requires_grad_(True))
            return args, {**kwargs, "inputs_embeds": leaves[0]}

        handle = model.plain.model.language_model.register_forward_pre_hook(make_leaf, with_kwargs=True)
        try:
            logprobs = model.plain(**inputs).logits[0].log_softmax(dim=-1)
        finally:
            handle.remove()
        ids = inputs["input_ids"][0]
        total = torch.stack([logprobs[n - 1, ids[n]] for n in range(n_prompt, len(ids))]).sum()
        (one,) = torch.autograd.grad(total, leaves[0])
        gap, gradient = gap + sign * float(total.detach()), gradient + sign * one[0, :n_prompt]
        merged = leaves[0].detach()[0, :n_prompt]
    return gap, merged, gradient


def picture(seed: int, height: int = 20, width: int = 24) -> np.ndarray:
    """A picture of random blocks, [height, width, 3] uint8."""
    blocks = np.random.default_rng(seed).integers(
        0, 256, (-(-height // 4), -(-width // 4), 3), dtype=np.uint8
    )
    return blocks.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
