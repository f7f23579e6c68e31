"""Load hooked models from a local directory or by a hub name, as either transformer-lens model class."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch

from ..errors import kind_of, near_path, printable, seen, unknown_name
from ..literals import Backend, DtypeName
from .hooked_transformer import hooked_transformer_of
from .hub import on_the_hub
from .model import HookedModel
from .shipped import checkpoint, named


def load_model(
    source: str | Path,
    *,
    backend: Backend = "auto",
    device: str | torch.device | None = None,
    dtype: torch.dtype | DtypeName = torch.float32,
) -> HookedModel:
    """Load a language or vision-language model that `save_pretrained` wrote, one of the hub's, or one that ships, as a
    hooked model.

    `source` is a directory, a name on the hub ("gpt2", "Qwen/Qwen2.5-0.5B"), or a world ("myths", "myths:1",
    "myths:1:header_first"). `dtype` is torch's, or its name ("bfloat16"); `device` is the first GPU where there is one,
    else the CPU.

    `backend="bridge"` gives a TransformerBridge, `"hooked_transformer"` a HookedTransformer without weight
    processing (transformer-lens 3.9 only), `"auto"` the bridge. Both give the same residual stream, so
    vectors made on one steer the other. transformer-lens cannot install packages during loading.

    A vision-language model becomes a bridge with its processor (`processor_config.json` or
    `preprocessor_config.json` beside the weights). If the whole processor cannot be loaded, such as that of
    Qwen2.5-VL without torchvision, its image processor is used, which is enough.

    Args:
        source: A directory that `save_pretrained` wrote, a name on the Hugging Face hub, or a world
            (`"myths"`, `"myths:1"`).
        backend: `"auto"`, `"bridge"` or `"hooked_transformer"`.
        device: As torch names it. None takes a GPU if there is one.
        dtype: Of the weights: torch's, or its name (`"bfloat16"`).

    Raises ValueError for an unknown backend, dtype or device, or an architecture it does not take, FileNotFoundError
    for a path that is not there, OSError for a name that the hub does not know or cannot be asked for, ValueError for a
    checkpoint that brings Python code to run, ImportError where the model class is not in the installed
    transformer-lens.
    """
    if backend not in get_args(Backend):
        raise unknown_name("backend", backend, get_args(Backend))
    dtype, device = as_dtype(dtype), as_device(device)
    source = _existing(source)
    with _no_installs(), _no_code_of_others(source):
        if backend == "hooked_transformer":
            return _hooked_transformer(source, device, dtype)
        if _reads_images(source):
            return _vision_bridge(source, device, dtype)
        from transformer_lens.model_bridge import TransformerBridge

        bridge: Any = TransformerBridge.boot_transformers(
            source, device=str(device), dtype=dtype, trust_remote_code=False
        )
    return bridge.eval()


def as_dtype(dtype: torch.dtype | DtypeName) -> torch.dtype:
    """The dtype of this name. Raises ValueError for an unknown one, and for what weights cannot be loaded in."""
    if isinstance(dtype, str):
        name = dtype.removeprefix("torch.")
        if name not in get_args(DtypeName):
            raise unknown_name("dtype", dtype, get_args(DtypeName))
        return getattr(torch, name)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(
            f"dtype={seen(dtype)} must be a floating-point dtype, such as torch.bfloat16 or 'bfloat16'."
        )
    return dtype


def as_device(device: str | torch.device | int | None) -> torch.device:
    """The device of this name; for None the first GPU where there is one, else the CPU. Raises ValueError for a device
    that is not there."""
    try:
        found = torch.device(device or "cpu") if device != 0 else torch.device("cuda", 0)
    except (RuntimeError, TypeError) as error:
        raise unknown_name("device", device, ("cpu", "cuda", "cuda:0", "mps")) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={seen(str(device))}, and torch sees no GPU here: leave device out, or take 'cpu'."
        )
    if device is None and torch.cuda.is_available():
        return torch.device("cuda")
    return found


def _existing(source: str | Path) -> str:
    if not isinstance(source, str | Path) or not str(source).strip():
        remedy = ": call its load_model()" if hasattr(source, "load_model") else ""
        raise ValueError(
            f"source is {kind_of(source)}{remedy or ': give the path of a directory, a name on the hub, or a world'}."
        )
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise FileNotFoundError(f"{printable(path)} has no config.json: it is not a saved model.")
        return str(path)
    if isinstance(source, str) and (world := named(source)):
        return str(checkpoint(*world))
    if path.is_file():
        raise FileNotFoundError(
            f"{printable(source)} is a file: give the directory that it is in, which has config.json, too."
        )
    if _looks_local(source):
        raise FileNotFoundError(
            f"{printable(source)} is not a directory (looked in {printable(Path.cwd())}).{near_path(path)}"
        )
    return on_the_hub(str(source))


def _looks_local(source: str | Path) -> bool:
    """Whether this is meant as a path rather than as a name on the hub, `name` or `owner/name`."""
    text = str(source)
    partly = "/" in text and Path(text).parent.is_dir()
    return (
        isinstance(source, Path)
        or text.startswith((".", "/", "~"))
        or text.count("/") > 1
        or "\\" in text
        or partly
    )


@contextmanager
def _no_code_of_others(source: str) -> Iterator[None]:
    """Refuse to run a checkpoint's own code. Without this, transformers would ask at the terminal."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{source} comes with Python code of its own, which load_model does not run: read it, load the "
            "model yourself, and pass it to TransformerBridge.boot_transformers(..., hf_model=...)."
        ) from error


@contextmanager
def _no_installs() -> Iterator[None]:
    """Keep transformer-lens from running pip or uv: it installs torchvision by itself, which can replace torch."""
    names = ("PIP_NO_INDEX", "UV_OFFLINE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _reads_images(source: str) -> bool:
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:  # transformer-lens has its own names for some models
        if "trust_remote_code" in str(error):
            raise
        return False
    return getattr(config, "vision_config", None) is not None


def _vision_bridge(source: str, device: torch.device, dtype: torch.dtype) -> HookedModel:
    """A bridge around a model that we load ourselves. transformer-lens's own loader installs torchvision with
    pip if a processor needs it, and requires it even where we do not need it."""
    import transformers
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    hf_model: Any = transformers.AutoModelForImageTextToText.from_pretrained(
        source, dtype=dtype, attn_implementation="eager", trust_remote_code=False
    )
    hf_model.to(device)
    architecture = type(hf_model).__name__
    _check_features_right(architecture)
    with _without_torchvision(architecture), warnings.catch_warnings():
        # transformer-lens 3.9 warns of aliases inside the vision tower, which are irrelevant here.
        warnings.filterwarnings("ignore", message="Hook alias", category=UserWarning)
        bridge: Any = build_bridge_from_module(
            hf_model,
            architecture,
            hf_config=hf_model.config,
            tokenizer=transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False),
            model_name=source,
        )
    bridge.processor = _processor(source)
    return bridge.eval()


def _processor(source: str) -> Any:
    """The whole processor, or only the image processor, or None: a model without one can still read text."""
    import transformers

    for kind in (transformers.AutoProcessor, transformers.AutoImageProcessor):
        try:
            processor = kind.from_pretrained(source, trust_remote_code=False)
        except (ImportError, OSError, ValueError, TypeError):
            continue
        if hasattr(processor, "image_processor") or hasattr(processor, "image_mean"):
            return processor
    return None


def _check_features_right(architecture: str) -> None:
    version = importlib.metadata.version("transformer-lens")
    if architecture == "Gemma3ForConditionalGeneration" and _release(version) < (4, 3):
        raise ValueError(
            f"transformer-lens {version} computes the image features of {architecture} wrong (its logits differ "
            "from transformers'): install transformer-lens 4.3 or newer."
        )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


@contextmanager
def _without_torchvision(architecture: str) -> Iterator[None]:
    """Lift a check of transformer-lens: it requires torchvision, which only videos need, before it bridges
    some models."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    adapter: Any = SUPPORTED_ARCHITECTURES.get(architecture)
    asked = list(getattr(adapter, "required_libraries", []))
    if "torchvision" not in asked:
        yield
        return
    adapter.required_libraries = [name for name in asked if name != "torchvision"]
    try:
        yield
    finally:
        adapter.required_libraries = asked


def _hooked_transformer(source: str, device: torch.device, dtype: torch.dtype) -> HookedModel:
    import transformers

    hf_model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=dtype, trust_remote_code=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    return hooked_transformer_of(hf_model, tokenizer, name=Path(source).name, device=device, dtype=dtype)
