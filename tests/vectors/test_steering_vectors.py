"""Steering vectors: values that keep themselves, arithmetic, and files that give back what was put in."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from grains_lens.errors import VectorFileError
from grains_lens.vectors.provenance import ModelIdentity, Provenance
from grains_lens.vectors.steering_vectors import SteeringVectors

D_MODEL = 6


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(seed=0, *, layers=(0, 2, 3), n_pairs=50, model=True, **settings):
    identity = ModelIdentity(
        name="tiny",
        architecture="LlamaForCausalLM",
        n_layers=4,
        d_model=D_MODEL,
        dtype="float32",
        tokenizer_hash="0123456789abcdef",
        fingerprint=draw(4, 8, seed=99),
    )
    return SteeringVectors(
        directions=draw(len(layers), D_MODEL, seed=seed),
        layers=layers,
        residual_norm=draw(len(layers), seed=seed + 1).abs() + 1,
        provenance=Provenance(
            method="grains",
            settings=settings,
            n_pairs=n_pairs,
            model=identity if model else None,
            versions={"torch": "2.13"},
        ),
    )


def everything(vectors):
    """All that vectors hold, as bytes and plain values."""
    model = vectors.provenance.model
    return {
        "directions": vectors.directions.numpy().tobytes(),
        "layers": vectors.layers,
        "residual_norm": vectors.residual_norm.numpy().tobytes(),
        "provenance": {k: v for k, v in vars(vectors.provenance).items() if k != "model"},
        "model": model and {k: v for k, v in vars(model).items() if k != "fingerprint"},
        "fingerprint": model and model.fingerprint.numpy().tobytes(),
    }


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [True, False])
def test_saved_and_loaded_vectors_are_identical(model, tmp_path):
    settings = {
        "k": 3,
        "λ": 0.1,
        "layers": (1, 2),
        "nested": {"a": [1, None, True]},
        "baseline": "zero",
        4: "key",
    }
    vectors = make(model=model, settings_of_all_kinds=settings, dtype=torch.float32)
    vectors.directions[0, :4] = torch.tensor([1e-45, -0.0, 3e38, 1 / 3])
    path = vectors.save(tmp_path / "new folder" / "v.safetensors")
    assert path == tmp_path / "new folder" / "v.safetensors"
    loaded = SteeringVectors.load(str(path))
    assert everything(loaded) == everything(vectors)
    assert everything(SteeringVectors.load(loaded.save(tmp_path / "again.safetensors"))) == everything(
        vectors
    )


def test_loaded_vectors_do_not_hang_on_their_file(tmp_path):
    path = make().save(tmp_path / "v.safetensors")
    loaded = SteeringVectors.load(path)
    make(seed=5).save(path)
    assert everything(loaded) == everything(make())
    loaded.save(path)
    assert everything(SteeringVectors.load(path)) == everything(make())


def test_the_result_of_arithmetic_can_be_saved_too(tmp_path):
    for name, vectors in {
        "sum": make() + make(1),
        "difference": make() - make(1),
        "product": make() * np.float64(0.5),
        "unit": make().unit(),
        "some": make().at([2]),
        "one": make().at(2),
    }.items():
        assert everything(SteeringVectors.load(vectors.save(tmp_path / f"{name}.safetensors"))) == everything(
            vectors
        )


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    whole = make().save(tmp_path / "whole.safetensors").read_bytes()
    for length in (0, 4, 8, 20, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"cut{length}"
        path.write_bytes(whole[:length])
        with pytest.raises(
            VectorFileError, match=rf"cut{length} is not a whole safetensors file.*copy it again"
        ):
            SteeringVectors.load(path)


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "text").write_text("no vectors here")
    with pytest.raises(VectorFileError, match="text is not a whole safetensors file"):
        SteeringVectors.load(tmp_path / "text")
    save_file({"weight": torch.ones(2), "bias": torch.ones(2)}, tmp_path / "foreign")
    with pytest.raises(
        VectorFileError, match=r"not one of steering vectors: it holds bias, weight\. Pass a file"
    ):
        SteeringVectors.load(tmp_path / "foreign")
    with pytest.raises(FileNotFoundError, match=r"absent does not exist \(looked in "):
        SteeringVectors.load(tmp_path / "absent")


def rewritten(path, *, metadata=None, header=None, tensors=None):
    """The file at `path` with parts of it replaced; what is replaced by None is left out. It has no digest, which
    would tell before anything else does."""

    def merge(old, new):
        return {k: v for k, v in {**old, **(new or {})}.items() if v is not None}

    with safe_open(path, framework="pt") as file:
        old = file.metadata()
    merged = merge(json.loads(old["header"]), header)
    old = {**old, "header": json.dumps(merged), "digest": None}
    save_file(merge(load_file(path), tensors), path, merge(old, metadata))
    return path


def test_a_file_of_a_newer_version_asks_for_an_upgrade(tmp_path):
    path = rewritten(make().save(tmp_path / "v.safetensors"), metadata={"format_version": "2"})
    with pytest.raises(
        VectorFileError, match="has format version 2, this grains_lens reads up to 1: upgrade"
    ):
        SteeringVectors.load(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"metadata": {"header": None}},
        {"metadata": {"header": "{"}},
        {"metadata": {"header": "[]"}},
        {"header": {"layers": None}},
        {"header": {"layers": [0, 1]}},
        {"header": {"layers": ["a", "b", "c"]}},
        {"header": {"layers": 3}},
        {"header": {"provenance": {"method": "grains", "colour": "blue"}}},
        {"header": {"model": {"name": "tiny"}}},
        {"tensors": {"directions": None}},
        {"tensors": {"directions": torch.ones(3, 2, 2)}},
        {"tensors": {"directions": torch.full((3, 6), torch.nan)}},
        {"tensors": {"residual_norm": torch.ones(2)}},
        {"tensors": {"fingerprint": None}},
    ],
    ids=str,
)
def test_a_damaged_file_is_refused(unchecked, damage, tmp_path):
    path = rewritten(make().save(tmp_path / "v.safetensors"), **damage)
    with pytest.raises(
        VectorFileError, match=r"v\.safetensors is damaged \(.+\): copy it again, or make it again"
    ):
        SteeringVectors.load(path)


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_tensors_become_float32_copies_in_main_memory(dtype):
    directions = draw(2, D_MODEL).to(dtype).requires_grad_()
    vectors = SteeringVectors(directions, (0, 1), torch.ones(2, dtype=dtype), Provenance("by hand"))
    for tensor, given in [(vectors.directions, directions), (vectors.residual_norm, torch.ones(2))]:
        assert tensor.dtype == torch.float32
        assert tensor.device.type == "cpu"
        assert not tensor.requires_grad
        torch.testing.assert_close(tensor, given.detach().float(), rtol=0, atol=0)


def test_views_can_be_saved(tmp_path):
    wide = draw(D_MODEL, 4)
    vectors = SteeringVectors(wide.T[::2], (0, 1), torch.ones(1).expand(2), Provenance("by hand"))
    assert torch.equal(SteeringVectors.load(vectors.save(tmp_path / "v.safetensors")).directions, wide.T[::2])


def test_what_happens_to_the_ingredients_does_not_happen_to_the_vectors():
    directions, residual_norm, fingerprint = draw(1, D_MODEL), torch.ones(1), draw(1, 8)
    settings, versions = {"k": 3}, {"torch": "2.13"}
    model = ModelIdentity("tiny", "Llama", 1, D_MODEL, "float32", "", fingerprint)
    provenance = Provenance("by hand", settings, 1, model, versions=versions)
    vectors = SteeringVectors(directions, (0,), residual_norm, provenance)
    before = copy.deepcopy(everything(vectors))
    for tensor in (directions, residual_norm, fingerprint):
        tensor.zero_()
    settings["k"], versions["torch"] = 5, "?"
    assert everything(vectors) == before


def test_what_happens_to_the_results_does_not_happen_to_the_vectors():
    vectors = make()
    before = everything(vectors)
    vectors[0].zero_()
    vectors.norms().zero_()
    for other in (vectors.at([0, 2, 3]), vectors.at(0), vectors * 1.0, vectors.unit(), replace(vectors)):
        other.directions.zero_()
        other.residual_norm.zero_()
    assert everything(vectors) == before
    with pytest.raises(FrozenInstanceError):
        vectors.layers = (0,)  # type: ignore[misc]


def test_vectors_survive_copying_and_pickling():
    vectors = make(k=3)
    assert everything(copy.deepcopy(vectors)) == everything(vectors)
    assert everything(pickle.loads(pickle.dumps(vectors))) == everything(vectors)


def test_a_layer_is_looked_up_by_its_number():
    vectors = make(layers=(0, 2, 3))
    assert torch.equal(vectors[2], vectors.directions[1])
    assert len(vectors) == 3
    assert list(vectors) == [0, 2, 3]
    assert 2 in vectors
    assert 1 not in vectors
    assert vectors.d_model == D_MODEL


def test_at_takes_some_layers():
    vectors = make(layers=(0, 2, 3))
    some = vectors.at([3, 0])
    assert some.layers == (0, 3)
    for layer in some:
        assert torch.equal(some[layer], vectors[layer])
    assert torch.equal(some.residual_norm, vectors.residual_norm[[0, 2]])
    assert vectors.at(2).layers == (2,)
    assert everything(vectors.at(vectors.layers)) == everything(vectors)


@pytest.mark.parametrize("layer", [1, 4, -1])
def test_a_layer_that_is_not_there_is_refused(layer):
    vectors = make(layers=(0, 2, 3))
    for attempt in (lambda: vectors[layer], lambda: vectors.at(layer), lambda: vectors.at([0, layer])):
        with pytest.raises(
            ValueError, match=rf"layers=.*: layer {layer} is not there; available are 0, 2, 3, "
        ):
            attempt()
    with pytest.raises(ValueError, match=rf"layer {9} is not there; available are 0 to 2, counted from 0"):
        make(layers=(0, 1, 2))[9]
    with pytest.raises(ValueError, match=r"layers=\[\] names no layer"):
        vectors.at([])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"directions": torch.ones(2, D_MODEL)},
            r"directions has shape \(2, 6\); 3 layers need \[3, d_model\]",
        ),
        ({"directions": torch.ones(3)}, r"directions has shape \(3,\)"),
        ({"residual_norm": torch.ones(2)}, r"residual_norm has shape \(2,\); .*\[3\]"),
        ({"residual_norm": torch.ones(3, 1)}, r"residual_norm has shape \(3, 1\)"),
        ({"layers": (0, 1)}, r"directions has shape \(3, 6\); 2 layers need"),
        ({"layers": (2, 1, 0)}, r"layers=\(2, 1, 0\) must be different block numbers from 0 up, in order"),
        ({"layers": (0, 1, 1)}, r"layers=\(0, 1, 1\) must be different"),
        ({"layers": (-1, 0, 1)}, r"layers=\(-1, 0, 1\) must be"),
        (
            {"directions": torch.full((3, D_MODEL), torch.nan)},
            r"directions at layers \[.*\] hold NaN or infinite",
        ),
        ({"residual_norm": torch.full((3,), torch.inf)}, r"residual_norm at layers \[0, 2, 3\] hold NaN"),
        ({"residual_norm": torch.tensor([1.0, -1.0, 1.0])}, "residual_norm=.* cannot be negative"),
    ],
)
def test_parts_that_do_not_fit_are_refused(unchecked, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(make(), **wrong)
    with pytest.raises(ValueError, match=r"layers=\(\) must be"):
        SteeringVectors(torch.ones(0, D_MODEL), (), torch.ones(0), Provenance("by hand"))


# --- arithmetic ----------------------------------------------------------------------------------


def same(one, other):
    assert one.layers == other.layers
    torch.testing.assert_close(one.directions, other.directions)
    torch.testing.assert_close(one.residual_norm, other.residual_norm)
    assert one.provenance.n_pairs == other.provenance.n_pairs


def test_the_laws_of_arithmetic_hold():
    a, b, c = make(0, n_pairs=50), make(1, n_pairs=10), make(2, n_pairs=200)
    same(a + b, b + a)
    same((a + b) + c, a + (b + c))
    same(a - b, a + -b)
    same(2.0 * (a + b), 2.0 * a + 2.0 * b)
    same((2.0 * a) * 0.5, a)
    same(-1.0 * -a, a)
    assert torch.equal((a - a).directions, torch.zeros(3, D_MODEL))
    assert torch.equal((a + b).directions, a.directions + b.directions)
    assert torch.equal((a * -3.0).directions, a.directions * -3.0)


def test_a_sum_measures_strength_by_the_streams_of_all_its_pairs():
    a, b = make(0, n_pairs=30), make(1, n_pairs=10)
    torch.testing.assert_close((a + b).residual_norm, 0.75 * a.residual_norm + 0.25 * b.residual_norm)
    a, b = make(0, n_pairs=0), make(1, n_pairs=0)
    torch.testing.assert_close((a + b).residual_norm, (a.residual_norm + b.residual_norm) / 2)
    assert torch.equal((2.0 * a).residual_norm, a.residual_norm)


def test_provenance_says_what_was_done():
    a, b = make(0, n_pairs=30, k=3), make(1, n_pairs=10, k=5)
    total = (a + 2.0 * b).provenance
    assert total.n_pairs == 40
    assert total.method == "sum"
    assert [part["settings"] for part in total.settings["parts"]] == [{"k": 3}, {"k": 5, "times": 2.0}]
    assert (2.0 * a * 3.0).provenance.settings == {"k": 3, "times": 6.0}
    assert a.provenance.settings == {"k": 3}


@pytest.mark.parametrize("factor", [2.0, np.float64(2), np.float32(2), torch.tensor(2.0)], ids=repr)
def test_factors_may_be_of_any_kind_on_either_side(unchecked, factor):
    doubled = make() * factor
    assert torch.equal(doubled.directions, 2 * make().directions)
    if not isinstance(factor, torch.Tensor):
        same(factor * make(), doubled)


def test_units_have_length_1_and_keep_their_direction():
    vectors = replace(
        make(), directions=torch.stack([draw(D_MODEL), torch.zeros(D_MODEL), 1e-9 * draw(D_MODEL)])
    )
    unit = vectors.unit()
    torch.testing.assert_close(unit.norms(), torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(unit.directions * vectors.norms()[:, None], vectors.directions)
    torch.testing.assert_close(vectors.norms(), torch.linalg.vector_norm(vectors.directions, dim=1))


def test_cosines_are_those_of_the_directions():
    a, b = make(0), make(1)
    expected = torch.cosine_similarity(a.directions, b.directions, dim=-1)
    torch.testing.assert_close(a.cosine(b), expected)
    torch.testing.assert_close(a.cosine(b), b.cosine(a))
    torch.testing.assert_close(a.cosine(-3.0 * a), -torch.ones(3))
    torch.testing.assert_close((1e-10 * a).cosine(b), expected)
    assert torch.equal((0.0 * a).cosine(b), torch.zeros(3))


def test_vectors_of_different_layers_or_widths_do_not_mix():
    wide = SteeringVectors(torch.ones(3, 8), (0, 2, 3), torch.ones(3), Provenance("by hand"))
    for other in (make(layers=(0, 1, 2)), make(layers=(0, 2)), wide):
        for mix in (SteeringVectors.__add__, SteeringVectors.__sub__, SteeringVectors.cosine):
            with pytest.raises(
                ValueError, match=r"do not fit together: layers \[0, 2, 3\], d_model 6 and .*\.at\("
            ):
                mix(make(), other)


def test_a_factor_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        make() * float("nan")


def test_vectors_describe_themselves_in_one_line():
    shown = repr(make())
    assert "\n" not in shown
    for part in ("grains", "50 pairs", "[0, 2, 3]", "d_model 6"):
        assert part in shown


def test_escape_sequences_from_a_file_do_not_reach_the_terminal(tmp_path, capsys):
    from grains_lens import cli

    steers = "\x1b[2J\x9b31m\u202e"
    model = replace(make().provenance.model, name=steers, architecture=steers, dtype=steers)
    provenance = Provenance(steers, {steers: steers}, 3, model, steers, {steers: steers})
    path = replace(make(), provenance=provenance).save(tmp_path / "v.safetensors")
    assert cli.main(["inspect", str(path)]) == 0
    loaded = SteeringVectors.load(path)
    assert everything(loaded)["provenance"]["method"] == steers
    hinted = SteeringVectors.from_gguf(loaded.at([2]).to_gguf(tmp_path / "v.gguf", model_hint=steers))
    assert hinted.provenance.settings["model_hint"] == steers
    for shown in (capsys.readouterr().out, repr(loaded), repr(hinted)):
        assert shown
        assert all(line.isprintable() for line in shown.splitlines())
        assert not set(steers[:1] + "\x9b\u202e") & set(shown)


@pytest.mark.parametrize("layers", [(0.0, 2, 3), ("0", "2", "3"), (0.5, 2, 3)])
def test_layers_that_are_no_whole_numbers_are_not_rounded(unchecked, layers):
    with pytest.raises(TypeError):
        replace(make(), layers=layers)


def test_directions_of_no_width_are_refused():
    with pytest.raises(ValueError, match=r"directions has shape \(3, 0\)"):
        replace(make(), directions=torch.zeros(3, 0))
