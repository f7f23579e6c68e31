"""Presets are `extract_vectors` and `tune` with settings, no more."""

import pytest
import torch

import grains_lens as gl
from tests.oracles import PAIRS

QUESTIONS = [gl.MultipleChoice(pair.prompt, (pair.rejected, pair.chosen, "never"), 1) for pair in PAIRS]


@pytest.mark.filterwarnings("ignore::grains_lens.CompletenessWarning")
def test_the_papers_preset_is_what_the_verbs_do_by_default(llama):
    preset = gl.presets.PAPER
    vectors = preset.extract(llama, PAIRS, progress=False)
    assert torch.equal(vectors.directions, gl.extract_vectors(llama, PAIRS, progress=False).directions)
    tuning = preset.tune(llama, vectors, QUESTIONS, strengths=[0.5, 1.0], progress=False)
    assert {row.layers for row in tuning.rows} == {(), vectors.layers}


@pytest.mark.filterwarnings("ignore::grains_lens.CompletenessWarning")
def test_the_tuned_preset_carries_its_settings_and_takes_others(llama):
    preset = gl.presets.TUNED
    vectors = preset.extract(llama, PAIRS, progress=False)
    assert vectors.provenance.settings["k"] == preset.k
    tuning = preset.tune(llama, vectors, QUESTIONS, strengths=[0.5], progress=False)
    assert tuning.intervention.positions == preset.positions
    assert preset.extract(llama, PAIRS, k=2, progress=False).provenance.settings["k"] == 2
    elsewhere = preset.tune(llama, vectors, QUESTIONS, strengths=[0.5], positions="all", progress=False)
    assert elsewhere.intervention.positions == "all"
