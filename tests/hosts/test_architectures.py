"""Other architectures than the zoo's: what a verb computes is Hugging Face's, or the model is refused."""

import pytest
import torch

import grains_lens as gl
from grains_lens.hosts.forward import prefill
from grains_lens.hosts.kinds import decoder_blocks
from grains_lens.intervention.intervention import Intervention
from grains_lens.intervention.sweep import score_cells
from grains_lens.prompts.batching import collate, encode_for
from grains_lens.prompts.work import Work
from tests import architectures, models
from tests.oracles import PAIRS, full_ids, hf_token_logprobs, own_bos, random_vectors

RIGHT = [
    "Falcon",
    "GPTJ",
    "GPTNeoX",
    "OPT",
    "Phi",
    "Mistral",
    "Mixtral",
    "Qwen3",
    "Gemma2",
    "Olmo2",
    "StableLm",
    "GptOss",
]
NOT_ATTRIBUTED = ["Bloom", "Granite"]
QUESTIONS = [gl.MultipleChoice(pair.prompt, (pair.chosen, pair.rejected), 0) for pair in PAIRS[:2]]
STRENGTHS = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.7, 0.0], [1.5, 0.0, -0.4], [0.0, 0.0, 2.0]])


def naive_logprobs(hf, model, vectors, strengths):
    """[question, choice] with each block's output moved by plain Hugging Face hooks."""
    handles = [
        block.register_forward_hook(
            lambda m, i, out, move=strength * vectors.directions[layer]: (
                (out[0] + move, *out[1:]) if isinstance(out, tuple) else out + move
            )
        )
        for layer, (block, strength) in enumerate(zip(decoder_blocks(hf), strengths, strict=True))
    ]
    bos = own_bos(model)
    rows = [
        [
            hf_token_logprobs(hf, *full_ids(model.tokenizer, question.prompt, choice, bos)).sum()
            for choice in question.choices
        ]
        for question in QUESTIONS
    ]
    for handle in handles:
        handle.remove()
    return torch.tensor(rows).float()


@pytest.mark.parametrize("name", RIGHT + NOT_ATTRIBUTED)
def test_verbs_compute_what_hugging_face_computes(name, tmp_path):
    hf, model = architectures.build_hf(name), architectures.build_bridge(name, tmp_path)
    vectors = random_vectors(1)
    if name in RIGHT:  # first of all, on a fresh bridge
        (one,) = gl.attribute(
            model, PAIRS[:1], method=gl.GradientTimesInput(), progress=False, batch_tokens=4096
        )
        expected = naive_logprobs(hf, model, vectors, torch.zeros(3))[0]
        assert one.gap == pytest.approx(float(expected[0] - expected[1]), abs=1e-3)
        gl.extract_vectors(model, PAIRS[:2], k=1, method=gl.GradientTimesInput(), progress=False)
    found = score_cells(
        model,
        vectors,
        encode_for(model, QUESTIONS, kind=gl.MultipleChoice),
        STRENGTHS,
        Intervention(rule=gl.add, unit="raw"),
        Work(),
        objective="sum",
    )
    for cell, strengths in zip(found, STRENGTHS, strict=True):
        torch.testing.assert_close(cell, naive_logprobs(hf, model, vectors, strengths), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["Granite", "NanoChat", "GraniteMoe"])
@pytest.mark.parametrize("baseline", ["mask", "zero"])
def test_embeddings_that_are_changed_before_block_0_are_refused_in_one_sentence(name, baseline, tmp_path):
    """A stand-in for a token would be put in at the wrong scale, or be off by a norm."""
    model = architectures.build_bridge(name, tmp_path)
    with pytest.raises(ValueError, match=f"{name}ForCausalLM .* can be steered, but not attributed"):
        gl.attribute(model, PAIRS[:1], baseline=baseline, progress=False)


WRONG = ["Mamba"] + (
    ["Cohere", "Cohere2", "HunYuanDenseV1", "Mpt"] if models.TRANSFORMER_LENS_LINE == "3" else []
)


@pytest.mark.parametrize("name", WRONG)
def test_what_the_bridge_computes_otherwise_is_refused_when_first_seen(name, tmp_path):
    model = architectures.build_bridge(name, tmp_path)
    for verb in (
        lambda: gl.attribute(model, PAIRS[:1], progress=False),
        lambda: gl.preference(model, PAIRS[:1], progress=False),
        lambda: gl.steering(model, random_vectors(0), strength=1.0),
    ):
        with pytest.raises(ValueError, match=f"{name}ForCausalLM"):
            verb()


def test_gradients_are_refused_in_inference_mode_and_the_rest_runs(llama):
    with torch.inference_mode():
        gl.preference(llama, PAIRS[:1], progress=False)
        for verb in (gl.attribute, gl.layer_conductance):
            with pytest.raises(RuntimeError, match=r"inference_mode\(\) is on"):
                verb(llama, PAIRS[:1], progress=False)


def test_the_last_mlp_is_cut_to_one_position_only_where_that_is_known_to_be_sound(tmp_path, monkeypatch):
    # Fresh: in its first pass a bridge puts capture hooks of its own on, and is not cut any more.
    llama = models.build(models.ModelCase("llama", "bridge"), tmp_path)
    other = architectures.build_bridge("GPTNeoX", tmp_path)
    widths = {}
    for model in (llama, other):
        kind, seen = type(model.blocks[-1].mlp), []
        forward = kind.forward
        with monkeypatch.context() as patched:
            patched.setattr(
                kind,
                "forward",
                lambda self, x, *a, f=forward, s=seen, **k: s.append(x.shape[1]) or f(self, x, *a, **k),
            )
            batch = collate(encode_for(model, PAIRS[:1]), torch.device("cpu"))
            prefill(model, batch.prompts)
        widths[model is llama] = seen[-1], batch.prompts.tokens.shape[1]
    assert widths[True][0] == 1
    assert widths[False][0] == widths[False][1]
