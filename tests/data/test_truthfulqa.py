"""TruthfulQA's published table: one answer against one, and never a list of answers as one."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import grains_lens as gl

ROW = {
    "Type": "Adversarial",
    "Category": "Nutrition",
    "Question": "What if you swallow gum?",
    "Best Answer": "It passes.",
    "Correct Answers": "It passes; Nothing happens; Unknown",
    "Incorrect Answers": "Unknown; It stays; It grows;it  stays.;",
    "Source": "somewhere",
}
# Beside the checkout, or beside a folder that it lies in.
FOLDERS = [folder / "shared" / "data" for folder in Path(__file__).resolve().parents[2:]]
PUBLISHED = next((f / "TruthfulQA.csv" for f in FOLDERS if (f / "TruthfulQA.csv").is_file()), FOLDERS[0])


def write(path, *rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_on_the_hub(row):
    """The same question in the hub's "generation" table."""
    made = {name.lower().replace(" ", "_"): value for name, value in row.items()}
    return made | {
        name: [one.strip() for one in made[name].split(";")]
        for name in ("correct_answers", "incorrect_answers")
    }


def test_the_best_answer_is_set_against_the_first_that_is_wrong(tmp_path):
    expected = [gl.PreferencePair("What if you swallow gum?", "It passes.", "It stays")]
    path = write(tmp_path / "TruthfulQA.csv", ROW)
    assert gl.load_pairs(path) == expected
    assert gl.load_pairs([ROW]) == gl.load_pairs([as_on_the_hub(ROW)]) == expected
    columns = {"prompt": "Question", "chosen": "Best Answer", "rejected": "Incorrect Answers"}
    assert gl.load_pairs(path, columns=columns) == expected


def test_the_best_incorrect_answer_is_taken_where_there_is_one():
    (pair,) = gl.load_pairs([{**ROW, "Best Incorrect Answer": "It grows"}])
    assert pair.rejected == "It grows"
    (pair,) = gl.load_pairs([{**ROW, "Best Incorrect Answer": ""}])
    assert pair.rejected == "It stays"


def test_choices_are_the_best_answer_and_every_wrong_one_once():
    (question,) = gl.load_questions([ROW])
    assert question == gl.MultipleChoice(
        "What if you swallow gum?", ("It passes.", "It stays", "It grows"), 0
    )


@pytest.mark.parametrize("wrong", ["", ";", "Unknown", "unknown. ; IT PASSES", None, 3])
def test_a_question_without_a_wrong_answer_is_refused_with_its_row(unchecked, wrong):
    for load in (gl.load_pairs, gl.load_questions):
        with pytest.raises(ValueError, match="source, row 2: 'Incorrect Answers'"):
            load([ROW, {**ROW, "Incorrect Answers": wrong}])
        with pytest.warns(gl.SkippedRowsWarning, match="1 of 2"):
            assert len(load([ROW, {**ROW, "Incorrect Answers": wrong}], on_error="skip")) == 1


def test_a_table_of_ones_own_may_have_some_of_these_columns():
    (pair,) = gl.load_pairs(
        [{"Question": "q", "Best Answer": "a; b", "Worst": "c; d"}],
        columns={"prompt": "Question", "chosen": "Best Answer", "rejected": "Worst"},
    )
    assert (pair.chosen, pair.rejected) == ("a; b", "c; d")


@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"the published TruthfulQA.csv is not in {FOLDERS[0]}")
def test_the_published_file_is_read_whole():
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pairs, questions = gl.load_pairs(PUBLISHED), gl.load_questions(PUBLISHED)
    assert len(pairs) == len(questions) == len(rows) == 817
    for row, pair, question in zip(rows, pairs, questions, strict=True):
        wrong = [one.strip() for one in row["Incorrect Answers"].split(";")]
        right = [one.strip() for one in row["Correct Answers"].split(";")]
        assert (pair.prompt, pair.chosen) == (row["Question"], row["Best Answer"])
        assert question.prompt == pair.prompt
        assert question.choices[question.label] == pair.chosen
        assert pair.rejected in wrong
        assert pair.rejected not in right
        assert set(question.choices[1:]) <= set(wrong) - set(right)
        assert len(set(question.choices)) == len(question.choices) >= 2
        assert not any(";" in answer for answer in question.choices)
