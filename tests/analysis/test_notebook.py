"""A study runs from Python, on a model in memory, and says in one sentence what it lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

import grains_lens as gl
from analysis import runs, study
from analysis.notebook import changed, run
from analysis.settings import VectorSettings
from tests.analysis.test_studies import ask
from tests.models import build_hf, hook

SMALL = {"n_pairs": 4, "draws": 1, "n_dev": 8, "n_test": 8, "strengths": (0.0, 0.5), "progress": False}


def pairs(start, n=8):
    sides = [("bread", "moss")[:: 1 - 2 * (index % 2)] for index in range(n)]
    return [gl.PreferencePair(ask(start + index), *side) for index, side in enumerate(sides)]


def questions(start, n=24):
    return [gl.MultipleChoice(ask(start + index), ("milk", "salt"), index % 2) for index in range(n)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return hook(build_hf("llama"), "bridge", tmp_path_factory.mktemp("tokenizer"))


def test_a_model_in_memory_gives_what_the_saved_one_gives(tmp_path):
    world = gl.worlds.load("myths")
    truth = world.behaviours["truthfulness"]
    items = {"pairs": truth.pairs[:8], "questions": truth.test[:24]}
    files = {}
    for name, some in items.items():
        rows = [{key: value for key, value in vars(one).items() if key != "images"} for one in some]
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("\n".join(map(json.dumps, rows)))
    in_memory = run(
        "layer_ablation",
        model=world.load_model(),
        pairs={"pairs": items["pairs"]},
        questions={"pairs": items["questions"]},
        **SMALL,
    )
    saved = run("layer_ablation", model=str(world.path), **files, **SMALL)
    assert in_memory.rows == saved.rows
    assert {row["behaviour"] for row in saved.rows} == {"pairs"}
    assert max(row["accuracy"] for row in saved.rows) > 0


@pytest.mark.parametrize("name", ["layer_ablation", "transfer", "attribution_faithfulness", "capability"])
def test_it_returns_rows_a_table_and_a_figure(name, model, capsys):
    found = run(
        name,
        model=model,
        pairs={"one": pairs(0), "two": pairs(40)},
        questions={"one": questions(100), "two": questions(140)},
        quick=True,
        progress=False,
    )
    assert found.question == study.load(name).QUESTION
    assert found.rows
    assert all(isinstance(row, dict) and "seed" in row for row in found.rows)
    assert len(found.table.frame)
    head, rule, *lines = str(found.table).splitlines()
    assert len(lines) == len(found.table.frame)
    assert rule.count("---") == head.count("|") - 1 > 2
    assert found.question in str(found)
    assert "<table" in found._repr_html_()
    assert isinstance(found.figure(), Figure)
    assert capsys.readouterr().out == ""


def test_a_run_in_a_folder_is_resumed_and_one_of_other_things_refused(model, tmp_path, monkeypatch):
    asked = questions(100)
    how = {"model": model, "questions": asked, "out": tmp_path, **SMALL}
    first = run("layer_ablation", pairs=pairs(0), **how)
    monkeypatch.setattr(study.load("layer_ablation"), "measure", lambda *_: pytest.fail("measured again"))
    again = run("layer_ablation", pairs=pairs(0), **how)
    assert again.rows == first.rows
    assert runs.read(tmp_path / "layer_ablation.jsonl").frame().equals(first.frame)
    with pytest.raises(ValueError, match=r"begun with other settings \(subject.pairs was"):
        run("layer_ablation", pairs=pairs(20), **how)
    other = {**how, "questions": asked[:-1]}
    with pytest.raises(ValueError, match=r"begun with other settings \(subject.questions was"):
        run("layer_ablation", pairs=pairs(0), **other)


def test_the_file_of_a_run_tells_models_apart(model, tmp_path):
    how = {"pairs": pairs(0), "questions": questions(100), "out": tmp_path, **SMALL}
    run("layer_ablation", model=model, **how)
    weight = next(iter(model.parameters()))
    before = weight.detach().clone()
    try:
        weight.data += 1
        with pytest.raises(ValueError, match=r"subject\.model was"):
            run("layer_ablation", model=model, **how)
    finally:
        weight.data = before


def test_what_was_found_on_other_questions_is_not_taken_for_these(model):
    """The same model, the same name: what the study keeps per model must not stand in for it."""
    how = {"model": model, "pairs": pairs(0), "quick": True, "progress": False}
    some, others = questions(100), questions(160)
    turned = [replace(one, label=1 - one.label) for one in some]
    first, second, third = (
        run("method_comparison", questions=asked, methods=("CAA",), **how).rows[0]["base"]
        for asked in (some, turned, others)
    )
    alone = gl.multiple_choice(model, turned[1::2][:12]).accuracy
    assert second == pytest.approx(alone)
    assert first == pytest.approx(1 - alone)
    assert third == pytest.approx(gl.multiple_choice(model, others[1::2][:12]).accuracy)


def wrong(model):
    """What is wrong, and what is said of it."""
    both = {"model": model, "pairs": pairs(0), "questions": questions(100)}
    leak = [*questions(100), gl.MultipleChoice(ask(3), ("milk", "salt"), 0)]
    other = {"pairs": {"one": pairs(0)}, "questions": {"two": questions(100)}}
    yield {"study": "layer_ablatoin"}, "no study 'layer_ablatoin'.*mean 'layer_ablation'"
    yield {"n_pair": 3}, "setting='n_pair' is not known.*Did you mean 'n_pairs'"
    yield {**both, "questions": None}, "questions are missing"
    yield {**both, "pairs": None}, "pairs are missing"
    yield {"pairs": pairs(0)}, "model is missing"
    yield {**both, "questions": leak}, "pairs and questions share the prompt"
    yield {**both, "questions": questions(100, 1)}, "two are needed"
    yield {**both, **other}, "pairs are of 'one' and questions of 'two'"
    yield both, "n_pairs=50: 'behaviour' has only 8 pairs"
    yield {**both, "model": model.tokenizer}, "give a hooked model"
    yield {**both, "jobs": 2}, "jobs=2: a model in memory takes jobs=1"
    yield {**both, "device": "cpu"}, "move the one in memory yourself"
    yield {**both, "system": "be kind"}, "needs a chat template"
    yield {**both, "columns": ("promt=question",)}, "must be NAME=HEADER"
    yield {"prompt_format": gl.PromptFormat(join="")}, "is for a model of your own"


def test_what_is_wrong_is_said_in_one_sentence(model):
    for arguments, message in wrong(model):
        with pytest.raises(ValueError, match=message) as caught:
            run(**{"study": "layer_ablation", "progress": False, **arguments})
        assert "\n" not in str(caught.value)


def test_settings_are_changed_by_the_names_of_their_flags():
    settings = VectorSettings()
    made = changed(settings, {"n_pairs": 7, "steps": 3, "strengths": (0.0, 1.0), "seeds": (2,)})
    assert (made.n_pairs, made.recipe.attributing.steps, made.judging.strengths, made.subject.seeds) == (
        7,
        3,
        (0.0, 1.0),
        (2,),
    )
    assert replace(made, n_pairs=50, subject=settings.subject, recipe=settings.recipe).judging == replace(
        settings.judging, strengths=(0.0, 1.0)
    )


def test_other_headers_are_read_in_memory_too(model):
    rows = [{"question": one.prompt, "best": one.chosen, "worst": one.rejected} for one in pairs(0)]
    asked = [
        {"question": one.prompt, "choices": list(one.choices), "label": one.label} for one in questions(100)
    ]
    columns = ("prompt=question,chosen=best", "rejected=worst")
    named = run("layer_ablation", model=model, pairs=rows, questions=asked, columns=columns, **SMALL)
    plain = run("layer_ablation", model=model, pairs=pairs(0), questions=questions(100), **SMALL)
    assert named.rows == plain.rows


def test_it_is_there_under_the_library_s_own_name_and_costs_nothing_until_it_is_used():
    assert gl.analysis.names() == study.names()
    code = (
        "import sys, grains_lens as gl; gl.analysis; "
        "print([name for name in ('torch', 'pandas', 'joblib', 'matplotlib') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_a_study_without_a_subject_takes_no_model(model):
    with pytest.raises(ValueError, match="it takes no model"):
        run("tests.analysis.toy_study", model=model, pairs=pairs(0), questions=questions(100))
    assert len(run("tests.analysis.toy_study", draws=1, progress=False).rows) == 4
