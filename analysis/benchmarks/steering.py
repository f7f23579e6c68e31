"""What steering at every layer costs while text is written: time over unsteered generation, and memory.

    python -m analysis.benchmarks.steering            # d_model 512 and 1024
    python -m analysis.benchmarks.steering --hooked   # the installed transformer-lens's model classes alone
    python -m analysis.benchmarks.steering --quick    # d_model 512, fewer rounds

One thread, random weights, greedy decoding with a cache. If steering-vectors and repeng can be imported, they steer
the same plain transformers model beside us; all ways of steering take turns in every round. The benchmark prints the
median over rounds of the ratio of a steered run to the unsteered runs before and after it, with its 95% interval. Time
is the thread's own (CPU seconds), which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import grains_lens as gl

PROMPT, STRENGTH = 32, 0.5


@dataclass(frozen=True)
class Row:
    """One way to steer one model: CPU seconds of each round with it and without, peak bytes of a long prompt."""

    model: str
    steering: str
    with_it: list[float]
    without: list[float]
    peak: int
    peak_without: int

    @property
    def ratio(self) -> float:
        """The median over rounds of the time with steering over that without."""
        return float(numpy.median(self._ratios))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% bootstrap interval of that median, over rounds."""
        drawn = numpy.random.default_rng(0).choice(self._ratios, (2000, len(self._ratios)))
        low, high = numpy.quantile(numpy.median(drawn, axis=1), [0.025, 0.975])
        return float(low), float(high)

    @property
    def _ratios(self) -> numpy.ndarray:
        return numpy.array(self.with_it) / numpy.array(self.without)


def llama(d_model: int, n_layers: int) -> Any:
    """A Llama with random weights."""
    config = transformers.LlamaConfig(
        hidden_size=d_model,
        intermediate_size=3 * d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=d_model // 64,
        num_key_value_heads=d_model // 64,
        vocab_size=8000,
        max_position_embeddings=2048,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    model.config.architectures = ["LlamaForCausalLM"]
    return model


def vectors_for(d_model: int, n_layers: int) -> gl.SteeringVectors:
    """Random unit directions at every layer."""
    directions = torch.randn(n_layers, d_model, generator=torch.Generator().manual_seed(0))
    return gl.SteeringVectors(
        directions / directions.norm(dim=-1, keepdim=True),
        tuple(range(n_layers)),
        torch.ones(n_layers),
        gl.Provenance("random"),
    )


# --- who steers ----------------------------------------------------------------------------------


def ours(model: Any, vectors: gl.SteeringVectors) -> dict[str, AbstractContextManager[Any]]:
    """Our rules, and steering by position."""
    settings = {"strength": STRENGTH, "unit": "raw"}
    return {
        "grains_lens, norm kept": gl.steering(model, vectors, **settings),
        "grains_lens, added": gl.steering(model, vectors, rule=gl.add, **settings),
        "grains_lens, norm kept, new tokens": gl.steering(model, vectors, positions="new", **settings),
    }


@contextmanager
def repeng(model: Any, control: Any, vector: Any, normalize: bool) -> Iterator[None]:
    """repeng's control, whose wrapped blocks stay: without a control they only pass on."""
    control.set_control(vector, STRENGTH, normalize=normalize)
    try:
        yield
    finally:
        control.reset()


def others(model: Any, vectors: gl.SteeringVectors) -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    """The peers that can be imported."""
    found: dict[str, Callable[[], AbstractContextManager[Any]]] = {}
    try:
        theirs = gl.to_steering_vector(vectors)
        found["steering-vectors, added"] = lambda: theirs.apply(model, multiplier=STRENGTH)
    except ImportError:
        print("steering-vectors is not installed: left out")
    return found


def repengs(model: Any, vectors: gl.SteeringVectors) -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    """repeng on a model of its own, which it changes."""
    vars(numpy).setdefault("float_", numpy.float64)  # its annotations name it; numpy 2 has it no more
    try:
        import repeng as package
    except ImportError:
        print("repeng is not installed: left out")
        return {}
    directions = {layer: vectors[layer].numpy() for layer in vectors}
    vector = package.ControlVector("llama", directions)
    control = package.ControlModel(model, list(vectors))
    return {
        f"repeng, {name}": lambda normalize=normalize: repeng(model, control, vector, normalize)
        for name, normalize in (("norm kept", True), ("added", False))
    }


# --- measuring -----------------------------------------------------------------------------------


def hf_generate(model: Any, tokens: torch.Tensor, new: int) -> None:
    model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
    )


def lens_generate(model: Any, tokens: torch.Tensor, new: int) -> None:
    model.generate(
        tokens, max_new_tokens=new, do_sample=False, stop_at_eos=False, verbose=False, return_type="tokens"
    )


def measure(
    name: str,
    model: Any,
    generate: Callable[[Any, torch.Tensor, int], None],
    ways: dict[str, Callable[[], AbstractContextManager[Any]]],
    repeats: int,
    new: int,
) -> list[Row]:
    """Every way to steer in turns, each between two runs without any, whose mean its own time is held against.

    What slows a machine down for seconds at a time then counts on both sides. A first round warms up."""
    tokens = torch.randint(4, 8000, (1, PROMPT), generator=torch.Generator().manual_seed(1))
    long = torch.randint(4, 8000, (1, 512), generator=torch.Generator().manual_seed(2))

    def seconds(context: AbstractContextManager[Any]) -> float:
        gc.collect()
        with context:
            start = time.thread_time()
            generate(model, tokens, new)
            return time.thread_time() - start

    def peak(context: AbstractContextManager[Any]) -> int:
        with context, Peak() as peak:
            model(long)
        return peak.most

    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    with torch.no_grad():
        without = peak(nullcontext())
        peaks = {way: peak(context()) for way, context in ways.items()}
        for repeat in range(repeats + 1):
            before = seconds(nullcontext())
            # Each round begins elsewhere, so that no way always runs right after the same other.
            for way in [*ways][repeat % len(ways) :] + [*ways][: repeat % len(ways)]:
                steered, after = seconds(ways[way]()), seconds(nullcontext())
                times[way].append((steered, (before + after) / 2))
                before = after
    return [
        Row(name, way, *map(list, zip(*times[way][1:], strict=True)), peaks[way], without) for way in ways
    ]


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside have held at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inside = {t.untyped_storage().data_ptr() for t in tree_leaves(args) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(out):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            address, size = storage.data_ptr(), storage.nbytes()
            if address in self._seen or address in inside:
                continue
            self._seen.add(address)
            self._now += size
            self.most = max(self.most, self._now)
            weakref.finalize(storage, self._free, address, size)
        return out

    def _free(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self._now -= size


def hooked_models(plain: Any) -> Iterator[tuple[str, Any]]:
    """The hooked model classes that the installed transformer-lens has, with the weights of `plain`."""
    with tempfile.TemporaryDirectory() as directory:
        plain.save_pretrained(directory)
        words = {f"w{index}": index for index in range(plain.config.vocab_size)}
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")),
            bos_token="w1",
            eos_token="w2",
            pad_token="w3",
            unk_token="w0",
        ).save_pretrained(directory)
        for backend in ("bridge", "hooked_transformer"):
            try:
                model = gl.load_model(directory, backend=backend, device="cpu")
            except ImportError:
                continue  # HookedTransformer is in transformer-lens 3 alone
            yield type(model).__name__, model


def run(d_model: int, n_layers: int, repeats: int, new: int, *, hooked: bool = False) -> list[Row]:
    """Every model class and way to steer at one size; `hooked` leaves out the plain model and who steers it."""
    vectors = vectors_for(d_model, n_layers)
    plain = llama(d_model, n_layers)
    rows = [] if hooked else on_plain_models(plain, vectors, repeats, new)
    for name, model in hooked_models(plain):
        rows += measure(name, model, lens_generate, again(ours(model, vectors)), repeats, new)
    return rows


def on_plain_models(plain: Any, vectors: gl.SteeringVectors, repeats: int, new: int) -> list[Row]:
    """The peers and we on transformers models."""
    ways = {**again(ours(plain, vectors)), **others(plain, vectors)}
    rows = measure("transformers", plain, hf_generate, ways, repeats, new)
    wrapped = llama(plain.config.hidden_size, plain.config.num_hidden_layers)
    if peers := repengs(wrapped, vectors):
        rows += measure("transformers (repeng's copy)", wrapped, hf_generate, peers, repeats, new)
    return rows


def again(contexts: dict[str, AbstractContextManager[Any]]) -> dict[str, Callable[[], Any]]:
    """Ours are switched on again for each use; theirs are made anew."""
    return {way: (lambda context=context: context) for way, context in contexts.items()}


def show(d_model: int, n_layers: int, rows: list[Row], new: int) -> None:
    """The table of one size."""
    print(f"\nd_model {d_model}, {n_layers} layers, all steered; {PROMPT} + {new} tokens, one thread")
    print(
        f"{'model':<30} {'steering':<36} {'unsteered':>9} {'steered':>9} {'ratio (95% interval)':>21} {'memory':>7}"
    )
    for row in rows:
        before, after = statistics.median(row.without), statistics.median(row.with_it)
        ratio = f"{row.ratio:.3f} [{row.interval[0]:.3f}, {row.interval[1]:.3f}]"
        memory = row.peak / row.peak_without
        print(f"{row.model:<30} {row.steering:<36} {before:>8.3f}s {after:>8.3f}s {ratio:>21} {memory:>7.3f}")


def main() -> None:
    """Print one table a size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="d_model 512 alone, fewer rounds")
    parser.add_argument("--hooked", action="store_true", help="without the plain model and its peers")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    sizes = [(512, 8, 5)] if asked.quick else [(512, 8, 30), (1024, 8, 12)]
    new = 16
    for d_model, n_layers, repeats in sizes:
        show(d_model, n_layers, run(d_model, n_layers, repeats, new, hooked=asked.hooked), new)


if __name__ == "__main__":
    main()
