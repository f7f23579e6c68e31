"""Whose vectors are these: other models are refused, the same one in other clothes is not."""

import copy
import dataclasses
import warnings

import pytest
import torch

import grains_lens as gl
from grains_lens.vectors.identity import identify, residual_fingerprint
from tests import models
from tests.oracles import PAIRS


def vectors_of(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gl.CompletenessWarning)
        return gl.extract_vectors(model, PAIRS[:2], method=gl.IntegratedGradients(steps=3), progress=False)


def test_the_same_model_is_recognised_also_after_a_round_trip_and_in_bfloat16(hooked, case, tmp_path):
    vectors = gl.SteeringVectors.load(vectors_of(hooked).save(tmp_path / "v.safetensors"))
    for model in (hooked, models.build(case, tmp_path).to(torch.bfloat16)):
        assert isinstance(gl.steering(model, vectors, strength=1.0), gl.Steering)


def test_either_model_class_steers_with_the_others_vectors(case, zoo):
    if case.backend != "hooked_transformer":
        pytest.skip("compares HookedTransformer with the bridge: needs transformer-lens 3")
    vectors = vectors_of(zoo[case])
    bridge = zoo[models.ModelCase(case.architecture, "bridge")]
    assert isinstance(gl.steering(bridge, vectors, strength=1.0), gl.Steering)


def test_other_weights_are_refused_and_strict_false_lets_them_pass(hooked, case, tmp_path):
    vectors = vectors_of(hooked)
    other = models.build(case, tmp_path)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter))
    with pytest.raises(
        gl.VectorMismatchError, match=r"made on 'tiny-.*residual stream differs by \d+%.*strict=False"
    ):
        gl.steering(other, vectors, strength=1.0)
    with gl.steering(other, vectors, strength=1.0, strict=False):
        pass


def test_a_change_in_the_last_layer_alone_is_seen(llama, case_of_llama, tmp_path):
    vectors = vectors_of(llama)
    other = models.build(case_of_llama, tmp_path)
    for name, parameter in other.named_parameters():
        if "2" in name and ("down_proj" in name or "W_out" in name):
            parameter.data.neg_()
    with pytest.raises(gl.VectorMismatchError, match="residual stream differs"):
        gl.steering(other, vectors, strength=1.0)


@pytest.fixture
def case_of_llama(request, zoo, llama):
    return next(case for case, model in zoo.items() if model is llama)


def test_weight_processing_is_recognised(tmp_path):
    """Compatibility mode moves GPT-2's residual stream and is recorded in no config."""
    vectors = vectors_of(models.build(models.ModelCase("gpt2", "bridge"), tmp_path))
    processed = models.build(models.ModelCase("gpt2", "bridge"), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processed.enable_compatibility_mode(disable_warnings=True)
    with pytest.raises(gl.VectorMismatchError, match="enable_compatibility_mode"):
        gl.steering(processed, vectors, strength=1.0)


def test_another_tokenizer_is_refused(llama, tmp_path, monkeypatch):
    vectors = vectors_of(llama)
    other = copy.deepcopy(llama.tokenizer)
    other.add_tokens(["brandnew"])
    monkeypatch.setattr(llama, "tokenizer", other)
    with pytest.raises(gl.VectorMismatchError, match="the tokenizer or its chat template differs"):
        gl.steering(llama, vectors, strength=1.0)


def test_other_shapes_are_refused_even_if_not_strict(llama):
    provenance = gl.Provenance("test")
    narrow = gl.SteeringVectors(torch.ones(1, 8), (0,), torch.ones(1), provenance)
    with pytest.raises(gl.VectorMismatchError, match=r"their d_model is 8, the model's is 32"):
        gl.steering(llama, narrow, strength=1.0, strict=False)
    deep = gl.SteeringVectors(torch.ones(1, models.D_MODEL), (9,), torch.ones(1), provenance)
    with pytest.raises(gl.VectorMismatchError, match=r"reach to layer 9, the model's last is 2"):
        gl.steering(llama, deep, strength=1.0, strict=False)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("gpt2", "gpt2"),
        ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("/home/ann/models/tiny", "tiny"),
        ("/home/ann/models/tiny/", "tiny"),
        ("../ann/models/tiny", "tiny"),
        ("./tiny", "tiny"),
        ("ann/models/tiny", "tiny"),
        ("~/tiny", "tiny"),
        (r"C:\Users\ann\tiny", "tiny"),
        ("/home/ann/.cache/huggingface/hub/models--org--tiny-1/snapshots/0a1b2c", "org/tiny-1"),
        ("/home/ann/.cache/huggingface/hub/models--gpt2/snapshots/0a1b2c", "gpt2"),
        ("/", "unknown"),
    ],
)
def test_a_file_never_says_where_a_model_lay(source, name, llama, monkeypatch, tmp_path):
    """A hub name stays, a folder is known by its last name, and the model still knows its vectors."""
    monkeypatch.setattr(llama.cfg, "model_name", source)
    vectors = vectors_of(llama)
    assert vectors.provenance.model.name == name
    content = vectors.save(tmp_path / "v.safetensors").read_bytes()
    assert source.count("/") < 2 or b"ann" not in content
    monkeypatch.setattr(llama.cfg, "model_name", "elsewhere")
    gl.steering(llama, gl.SteeringVectors.load(tmp_path / "v.safetensors"), strength=1.0)


@pytest.mark.parametrize("source", [".", "..", "../"])
def test_a_folder_without_a_name_of_its_own_is_looked_up(source, llama, monkeypatch, tmp_path):
    here = tmp_path / "above" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(llama.cfg, "model_name", source)
    assert identify(llama).name == ("here" if source == "." else "above")


def test_hooks_do_not_change_the_fingerprint(hooked):
    """A model that is being steered is still the same model, so that contexts nest."""
    plain = residual_fingerprint(hooked)
    with gl.steering(hooked, vectors_of(hooked), strength=1.0):
        assert torch.equal(residual_fingerprint(hooked), plain)


def test_a_nan_fingerprint_matches_nothing(llama):
    """Nor does an infinite one: a comparison with NaN is false, whichever way one asks."""
    vectors = vectors_of(llama)
    model = vectors.provenance.model
    for value in (float("nan"), float("inf")):
        spoiled = model.fingerprint.clone()
        spoiled[1, 3] = value
        provenance = dataclasses.replace(
            vectors.provenance, model=dataclasses.replace(model, fingerprint=spoiled)
        )
        with pytest.raises(gl.VectorMismatchError, match="NaN or infinite"):
            gl.steering(llama, dataclasses.replace(vectors, provenance=provenance), strength=1.0)


def test_a_model_whose_residual_stream_is_nan_is_told_so(llama, case_of_llama, tmp_path):
    vectors = vectors_of(llama)
    other = models.build(case_of_llama, tmp_path)
    for name, parameter in other.named_parameters():
        if "1" in name and ("down_proj" in name or "W_out" in name):
            parameter.data.fill_(float("nan"))
    for asks in (
        lambda: gl.steering(other, vectors, strength=1.0),
        lambda: gl.baselines.random_direction(other, PAIRS[:1]),
    ):
        with pytest.raises(ValueError, match=r"(?=.*NaN or infinite)(?=.*layer 1\b)"):
            asks()


def test_a_users_hook_inside_a_block_is_named_and_not_other_weights_blamed(hooked):
    vectors = vectors_of(hooked)
    inside = hooked.blocks[1].mlp
    handle = inside.register_forward_hook(lambda module, inputs, output: -5 * output)
    try:
        with pytest.raises(gl.VectorMismatchError, match=r"hooks are on inside it, at .*mlp.*take them off"):
            gl.steering(hooked, vectors, strength=1.0)
    finally:
        handle.remove()
    assert isinstance(gl.steering(hooked, vectors, strength=1.0), gl.Steering)


def test_hooks_that_do_not_matter_are_not_blamed(hooked, case, tmp_path):
    """A bridge puts on hooks of its own."""
    vectors = vectors_of(hooked)
    other = models.build(case, tmp_path)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5 * parameter.std() * torch.randn_like(parameter))
    with pytest.raises(gl.VectorMismatchError) as caught:
        gl.steering(other, vectors, strength=1.0)
    assert "hooks are on" not in str(caught.value)
