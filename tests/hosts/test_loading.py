"""Loading from a directory that `save_pretrained` wrote, as either model class."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

import grains_lens as gl
from grains_lens.hosts.hooked_transformer import _gemma3_settings
from tests import models


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Directories of saved models and tokenizers, by architecture."""
    directories = {}
    for architecture in models.ARCHITECTURES:
        directory = tmp_path_factory.mktemp(architecture)
        models.load_tokenizer(directory)
        models.build_hf(architecture).save_pretrained(directory)
        directories[architecture] = directory
    return directories


def test_a_saved_model_computes_what_hugging_face_computes(case, saved):
    model = gl.load_model(saved[case.architecture], backend=case.backend)
    tokens = torch.tensor([[2, 9, 30, 41, 17, 60, 22, 8, 11, 14, 5]])
    with torch.no_grad():
        expected = models.build_hf(case.architecture)(tokens).logits
        torch.testing.assert_close(model(tokens), expected, rtol=1e-4, atol=1e-4)
    assert not model.training
    assert model.tokenizer.unk_token == "<unk>"


def test_the_default_is_the_bridge(saved):
    assert type(gl.load_model(saved["llama"])).__name__ == "TransformerBridge"


def test_hooked_transformer_on_transformer_lens_4_says_what_to_install(saved):
    if models.TRANSFORMER_LENS_LINE == "3":
        pytest.skip("transformer-lens 3 has it")
    with pytest.raises(
        ImportError, match=r'removed in transformer-lens 4.*pip install "grains-lens\[hooked-t'
    ):
        gl.load_model(saved["llama"], backend="hooked_transformer")


def test_packages_cannot_be_installed_while_a_model_loads(saved, monkeypatch):
    """What transformer-lens would run, run inside our loader, is refused by pip itself."""
    from transformer_lens.model_bridge import TransformerBridge

    outcome = []

    def boot(source, **settings):
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "a-package-that-would-be-installed"]
        outcome.append(subprocess.run(command, capture_output=True, text=True))
        assert os.environ["UV_OFFLINE"] == "1"
        raise RuntimeError("enough")

    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setattr(TransformerBridge, "boot_transformers", boot)
    with pytest.raises(RuntimeError, match="enough"):
        gl.load_model(saved["llama"])
    assert "Looking in indexes" not in outcome[0].stdout
    assert outcome[0].returncode != 0
    assert "PIP_NO_INDEX" not in os.environ


@pytest.mark.usefixtures("unchecked")
def test_bad_sources_and_backends_get_one_clear_sentence(saved, tmp_path):
    with pytest.raises(
        ValueError, match=r"backend='hooked' is not known; .* Did you mean 'hooked_transformer'"
    ):
        gl.load_model(saved["llama"], backend="hooked")
    with pytest.raises(FileNotFoundError, match=r"no-such is not a directory \(looked in"):
        gl.load_model("./no-such")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json: it is not a saved model"):
        gl.load_model(tmp_path)


@pytest.mark.parametrize("backend", ["bridge", "hooked_transformer"])
def test_a_checkpoints_own_code_is_neither_run_nor_asked_about(tmp_path, saved, backend, monkeypatch):
    shutil.copytree(saved["llama"], tmp_path / "own")
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    config |= {
        "model_type": "of_their_own",
        "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"},
    }
    (tmp_path / "own" / "config.json").write_text(json.dumps(config))
    (tmp_path / "own" / "code.py").write_text("raise SystemExit('was run')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked at the terminal"))
    with pytest.raises(ValueError, match="comes with Python code of its own"):
        gl.load_model(tmp_path / "own", backend=backend)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"query_pre_attn_scalar": 16}, "query_pre_attn_scalar=16"),
        (
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                }
            },
            "scales its rotary positions .'linear'",
        ),
    ],
)
def test_a_gemma_that_hooked_transformer_would_compute_otherwise_is_refused(settings, said):
    """Without a word its log-probabilities were off by most of a nat."""
    config = models.build_hf("gemma3").config
    _gemma3_settings(config)
    for name, value in settings.items():
        setattr(config, name, value)
    with pytest.raises(ValueError, match=said):
        _gemma3_settings(config)
