"""What an error advises can be typed on the command line."""

from __future__ import annotations

from grains_lens.cli.remedies import in_options


def test_a_remedy_is_an_option(run, vectors, tmp_path):
    tune = ("tune", "myths", vectors, "truthfulness", "--out", tmp_path / "t.safetensors")
    for words, said in {
        ("generate", "myths", "--prompt", "x", "--chat"): "--chat, but the tokenizer has no chat template",
        (*tune, "--layers", "first_order_gain"): "--layers first_order_gain needs --pairs, the pairs",
        ("evaluate", "myths", "/no/such/file.jsonl"): "file.jsonl is not a file",
    }.items():
        status, out, complaint = run(*words)
        assert (status, out) == (2, "")
        assert said in complaint
        assert "=" not in complaint.removeprefix("grains-lens: ")


def test_what_is_no_remedy_stays_as_it_is():
    for said in ("layers=[9] are not the vectors'", "strength is not given", "prompt 0 has images", ""):
        assert in_options(said) == said
    assert in_options('or take backend="bridge".') == "or take --backend bridge."
