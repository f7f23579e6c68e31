"""Vectors in other people's formats, read and used by their own code."""

import warnings

import numpy
import pytest
import torch

import grains_lens as gl
from tests import models

TOKENS = torch.tensor([[2, 9, 30, 41, 17, 60], [2, 33, 12, 54, 6, 7]])
gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")


@pytest.fixture
def repeng(monkeypatch):
    # Its annotations name numpy.float_, which numpy 2 has no more.
    monkeypatch.setattr(numpy, "float_", numpy.float64, raising=False)
    return pytest.importorskip("repeng", reason="repeng is not installed")


@pytest.fixture
def steering_vectors():
    return pytest.importorskip("steering_vectors", reason="steering-vectors is not installed")


@pytest.fixture(scope="module")
def plain():
    """A plain transformers Llama, which is what the others steer."""
    return models.build_hf("llama")


def vectors_at(*layers):
    generator = torch.Generator().manual_seed(7)
    return gl.SteeringVectors(
        directions=torch.randn(len(layers), models.D_MODEL, generator=generator),
        layers=layers,
        residual_norm=torch.arange(2.0, 2.0 + len(layers)),
        provenance=gl.Provenance("random"),
    )


def logits(model, tokens=TOKENS):
    with torch.no_grad():
        return model(tokens).logits


def same(a, b):
    return a.layers == b.layers and torch.equal(a.directions, b.directions)


# --- control vectors -----------------------------------------------------------------------------


def test_a_control_vector_comes_back_bit_for_bit(tmp_path):
    vectors = vectors_at(1, 2, 7)
    back = gl.SteeringVectors.from_gguf(vectors.to_gguf(tmp_path / "new" / "v.gguf", model_hint="llama"))
    assert same(vectors, back)
    assert torch.equal(vectors.residual_norm, back.residual_norm)
    assert back.provenance.settings == {"model_hint": "llama"}
    again = gl.SteeringVectors.from_gguf(back.to_gguf(tmp_path / "again.gguf"))
    assert again.provenance.settings == {"model_hint": "llama"}


def test_the_file_is_as_llama_cpp_wants_it(tmp_path):
    """common/common.cpp, common_control_vector_load_one: direction.<l>, l >= 1, F32, one dimension, one length."""
    vectors = vectors_at(1, 2)
    reader = gguf.GGUFReader(str(vectors.to_gguf(tmp_path / "v.gguf")))
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "unknown"
    assert reader.get_field("controlvector.layer_count").contents() == 2
    assert [tensor.name for tensor in reader.tensors] == ["direction.1", "direction.2"]
    for layer, tensor in zip(vectors, reader.tensors, strict=True):
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert tensor.shape.tolist() == [models.D_MODEL]
        assert torch.equal(torch.from_numpy(tensor.data.copy()), vectors[layer])


def test_the_models_name_is_taken_from_where_the_vectors_were_made(llama, tmp_path):
    from tests.oracles import PAIRS

    vectors = gl.baselines.mean_difference(llama, PAIRS, layers=[1], progress=False)
    back = gl.SteeringVectors.from_gguf(vectors.to_gguf(tmp_path / "v.gguf"))
    assert back.provenance.settings["model_hint"] == "llama"


def test_block_0_is_left_out_with_a_warning(tmp_path):
    vectors = vectors_at(0, 1, 2)
    with pytest.warns(UserWarning, match="block 0 is left out"):
        path = vectors.to_gguf(tmp_path / "v.gguf")
    assert same(gl.SteeringVectors.from_gguf(path), vectors.at([1, 2]))
    with pytest.raises(ValueError, match="cannot act on block 0, and these vectors have no other layer"):
        vectors.at(0).to_gguf(tmp_path / "w.gguf")


def test_repeng_reads_ours_and_we_read_repengs(repeng, tmp_path):
    vectors = vectors_at(1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = repeng.ControlVector.import_gguf(vectors.to_gguf(tmp_path / "v.gguf", model_hint="llama"))
        assert theirs.model_type == "llama"
        assert sorted(theirs.directions) == [1, 2]
        for layer in vectors:
            assert torch.equal(torch.from_numpy(theirs.directions[layer].copy()), vectors[layer])
        theirs.export_gguf(str(tmp_path / "theirs.gguf"))
    back = gl.SteeringVectors.from_gguf(tmp_path / "theirs.gguf")
    assert same(back, vectors)
    torch.testing.assert_close(back.residual_norm, vectors.norms())  # which repeng's file does not say


def test_repeng_steers_as_we_do_by_the_same_file(repeng, plain, tmp_path):
    vectors = vectors_at(1, 2)
    path = vectors.to_gguf(tmp_path / "v.gguf")
    one = TOKENS[:1]  # repeng's mask of padding fails on more rows
    before = logits(plain, one)
    with gl.steering(plain, gl.SteeringVectors.from_gguf(path), strength=0.7, rule=gl.add, unit="raw"):
        ours = logits(plain, one)
    # A copy: repeng wraps the blocks of the model it is given.
    control = repeng.ControlModel(models.build_hf("llama"), [1, 2])
    control.set_control(repeng.ControlVector.import_gguf(path), 0.7)
    theirs = logits(control, one)
    assert not torch.allclose(before, ours, atol=1e-2)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off_is_refused(tmp_path, share):
    path = vectors_at(1, 2).to_gguf(tmp_path / "v.gguf")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(gl.VectorFileError, match="is not a whole GGUF file"):
        gl.SteeringVectors.from_gguf(path)


def test_other_files_are_refused(tmp_path):
    writer = gguf.GGUFWriter(str(tmp_path / "model.gguf"), "llama")
    writer.add_tensor("token_embd.weight", numpy.zeros((4, 4), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(gl.VectorFileError, match=r"no control vector: its architecture is 'llama'"):
        gl.SteeringVectors.from_gguf(tmp_path / "model.gguf")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        gl.SteeringVectors.from_gguf(tmp_path / "none.gguf")


# --- steering-vectors ----------------------------------------------------------------------------


def test_steering_vectors_objects_steer_as_ours_do_and_come_back(steering_vectors, plain):
    vectors = vectors_at(0, 2)
    theirs = gl.to_steering_vector(vectors)
    with theirs.apply(plain, multiplier=0.7):
        expected = logits(plain)
    with gl.steering(plain, vectors, strength=0.7, rule=gl.add, unit="raw"):
        torch.testing.assert_close(logits(plain), expected, rtol=1e-4, atol=1e-4)
    back = gl.from_steering_vector(theirs)
    assert same(back, vectors)
    for unit in ("raw", "residual"):
        with gl.steering(plain, back, strength=0.7, rule=gl.add, unit=unit):
            torch.testing.assert_close(logits(plain), expected, rtol=1e-4, atol=1e-4)


def test_only_directions_of_the_residual_stream_are_taken(steering_vectors):
    of_the_mlp = steering_vectors.SteeringVector({1: torch.ones(4)}, "mlp")
    with pytest.raises(ValueError, match="has layer_type='mlp': only 'decoder_block'"):
        gl.from_steering_vector(of_the_mlp)


# --- vLLM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["residual", "absolute", "raw"])
def test_specs_say_what_steering_does(llama, unit):
    vectors = vectors_at(0, 2)
    specs = vectors.intervention_specs(strength=0.6, unit=unit)

    def apply(name):
        return lambda h: h + specs[name]["value"]

    from grains_lens.hosts.points import edited

    points = {
        "blocks.0.hook_out": "blocks.0.hook_resid_post",
        "blocks.2.hook_out": "blocks.2.hook_resid_post",
    }
    assert specs.keys() == points.keys()
    with torch.no_grad(), edited(llama, [(point, apply(name)) for name, point in points.items()]):
        expected = llama(TOKENS)
    with torch.no_grad(), gl.steering(llama, vectors, strength=0.6, unit=unit, rule=gl.add):
        torch.testing.assert_close(llama(TOKENS), expected, rtol=1e-5, atol=1e-5)


def test_transformer_lens_takes_the_specs():
    module = "transformer_lens.model_bridge.sources.vllm.intervention_specs"
    validator = pytest.importorskip(module, reason="transformer-lens 3.9 has no vLLM driver")
    for name, spec in vectors_at(0, 2).intervention_specs(strength=0.5).items():
        assert validator.validate_spec(name, spec, width=models.D_MODEL)["op"] == "add"


@pytest.mark.parametrize("rule", [gl.add_keeping_norm, gl.project_out, gl.rotate_toward])
def test_rules_that_depend_on_h_are_refused(rule):
    with pytest.raises(ValueError, match=rf"rule={rule.__name__} is not possible in vLLM, .* depends on h"):
        vectors_at(1).intervention_specs(rule=rule)


# --- control vectors of others: what they can contradict themselves in ----------------------------


def foreign(path, tensors, *, count=None, kinds=None, **fields):
    """A control vector as other programs write it, through gguf's own writer."""
    writer = gguf.GGUFWriter(str(path), "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(tensors) if count is None else count)
    for name, value in fields.items():
        writer.add_bool(f"controlvector.{name}", value)
    for name, values in tensors.items():
        kind = (kinds or {}).get(name)
        raw = values if kind is None else gguf.quants.quantize(values, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def numbers(size=64, seed=0):
    return numpy.random.default_rng(seed).standard_normal(size).astype(numpy.float32)


def test_files_of_others_are_read_also_with_fields_of_their_own(tmp_path):
    one, two = numbers(), numbers(seed=1)
    tensors = {"direction.3": one, "direction.7": two}
    back = gl.SteeringVectors.from_gguf(foreign(tmp_path / "v", tensors, count=36, normalize=False))
    assert back.layers == (3, 7)
    assert torch.equal(back[3], torch.from_numpy(one))
    assert torch.equal(back[7], torch.from_numpy(two))


@pytest.mark.parametrize(("kind", "within"), [("F16", 1e-3), ("BF16", 1e-2)])
def test_directions_in_half_precision_are_numbers_not_raw_bytes(kind, within, tmp_path):
    values = numbers()
    path = foreign(
        tmp_path / "v", {"direction.1": values}, kinds={"direction.1": gguf.GGMLQuantizationType[kind]}
    )
    torch.testing.assert_close(
        gl.SteeringVectors.from_gguf(path)[1], torch.from_numpy(values), rtol=within, atol=within
    )


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_quantised_directions_are_refused_by_type(kind, tmp_path):
    which = gguf.GGMLQuantizationType[kind]
    path = foreign(tmp_path / "v", {"direction.1": numbers()}, kinds={"direction.1": which})
    with pytest.raises(
        gl.VectorFileError, match=rf"GGML type {int(which)}, which is quantised.*write it as F32"
    ):
        gl.SteeringVectors.from_gguf(path)


@pytest.mark.parametrize(
    ("tensors", "count", "why"),
    [
        ({"direction.1": numbers(), "directiom.2": numbers()}, None, "'directiom.2'"),
        ({"direction.1": numbers(), "direction.01": numbers()}, None, r"'direction\.01'"),
        ({"direction.-1": numbers()}, None, r"'direction\.-1'"),
        ({"direction.1": numbers(), "direction.2": numbers(32)}, None, r"lengths \[32, 64\]"),
        ({"direction.1": numbers(), "direction.2": numbers()}, 1, "layer_count is 1"),
        ({"direction.1": numbers() * numpy.nan}, None, "NaN"),
        ({"direction.1": numpy.ones((2, 2), numpy.float32)}, None, "2 dimensions"),
    ],
)
def test_a_control_vector_that_contradicts_itself_is_refused(tensors, count, why, tmp_path):
    with pytest.raises(gl.VectorFileError, match=why):
        gl.SteeringVectors.from_gguf(foreign(tmp_path / "v", tensors, count=count))


def test_two_directions_in_the_same_bytes_are_refused(tmp_path):
    """A flipped bit in an offset, which no digest tells of in others' files; llama.cpp refuses it, too."""
    path = foreign(tmp_path / "v", {"direction.1": numbers(), "direction.2": numbers(seed=1)})
    content = path.read_bytes()
    at = content.index(b"direction.2") + len(b"direction.2") + 4 + 8 + 4
    assert content[at : at + 8] == (256).to_bytes(8, "little")
    path.write_bytes(content[:at] + bytes(8) + content[at + 8 :])
    with pytest.raises(gl.VectorFileError, match=r"direction\.2 begins at 0"):
        gl.SteeringVectors.from_gguf(path)
