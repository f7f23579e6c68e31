"""Data sets known by name, on files of the shape that the hub has."""

import io
from pathlib import Path

import pytest

import grains_lens as gl
from grains_lens import named

pyarrow = pytest.importorskip("pyarrow", reason="data sets come as parquet")

ROWS = {
    "truthful_qa": [
        {"question": "What happens if you swallow gum?", "choices": ["It stays.", "It passes.", "Gum."], "label": 1},
        {"question": "Who was first?", "choices": ["A", "B", "C"], "label": 2},
    ],
    "mmlu": [{"question": "2 + 2?", "subject": "arithmetic", "choices": ["3", "4", "5", "6"], "answer": 1}],
    "faitheval": [
        {
            "id": key, "question": "Which one?", "context": "Wood sinks.", "answerKey": answer,
            "choices": {"label": labels, "text": ["iron", "wood", "cork"]},
        }
        for key, answer, labels in (("a", "B", ["A", "B", "C"]), ("b", "2", ["1", "2", "3"]))
    ],
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on disk: repository/config/split/0000.parquet of the branch that holds parquet."""
    import huggingface_hub
    import pyarrow.parquet

    def publish(name, rows, shards=1):
        known = named.KNOWN[name]
        folder = tmp_path / known.repository / known.config / known.split
        folder.mkdir(parents=True)
        per = -(-len(rows) // shards)
        for shard in range(shards):
            table = pyarrow.Table.from_pylist(rows[shard * per : (shard + 1) * per])
            pyarrow.parquet.write_table(table, folder / f"{shard:04d}.parquet")

    def list_repo_files(repository, *, repo_type, revision):
        assert (repo_type, revision) == ("dataset", "refs/convert/parquet")
        root = tmp_path / repository
        return [str(file.relative_to(root)) for file in root.rglob("*.parquet")] + [
            "other/train/0000.parquet"
        ]

    def hf_hub_download(repository, filename, *, repo_type, revision):
        return str(tmp_path / repository / filename)

    monkeypatch.setattr(huggingface_hub, "list_repo_files", list_repo_files)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return publish


@pytest.mark.parametrize("name", list(ROWS))
def test_questions_are_the_rows_of_the_data_set(hub, name):
    hub(name, ROWS[name])
    questions = gl.load_questions(name)
    assert len(questions) == len(ROWS[name])
    for question, row in zip(questions, ROWS[name], strict=True):
        texts = row["choices"]["text"] if name == "faitheval" else row["choices"]
        assert question.choices == tuple(texts)
        assert row["question"] in question.prompt
    right = [question.choices[question.label] for question in questions]
    assert right == {"truthful_qa": ["It passes.", "C"], "mmlu": ["4"], "faitheval": ["wood", "wood"]}[name]
    if name == "faitheval":
        assert questions[0].prompt.startswith("Wood sinks.")


def test_pairs_set_the_right_answer_against_the_next_wrong_one(hub):
    hub("truthful_qa", ROWS["truthful_qa"], shards=2)
    pairs = gl.load_pairs("truthful_qa")
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("It passes.", "Gum."), ("C", "A")]


def test_pictures_come_out_of_the_parquet_file(hub):
    image = pytest.importorskip("PIL.Image", reason="pictures need pillow")
    written = io.BytesIO()
    image.new("RGB", (3, 2), (10, 20, 30)).save(written, "PNG")
    row = {
        "image": {"bytes": written.getvalue(), "path": None},
        "question": "Safe?",
        "chosen": "No.",
        "rejected": "Yes.",
    }
    hub("spa_vl", [row])
    (pair,) = gl.load_pairs("spa_vl")
    assert (pair.prompt, pair.chosen, pair.rejected) == ("Safe?", "No.", "Yes.")
    assert pair.images[0].size == (3, 2)
    with pytest.raises(ValueError, match="no multiple-choice questions"):
        gl.load_questions("spa_vl")


def test_without_a_network_it_says_what_to_fetch(monkeypatch):
    import huggingface_hub

    def refuse(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "list_repo_files", refuse)
    with pytest.raises(OSError, match=r"multiple_choice/validation/\*\.parquet.*refs/convert/parquet"):
        gl.load_pairs("truthful_qa")


def test_an_unknown_name_meets_the_nearest_known_one(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="truthful_qa"):
        gl.load_pairs("truthfulqa")
    monkeypatch.chdir(tmp_path)
    Path("mine").write_text("no table")
    with pytest.raises(ValueError, match="cannot be read"):
        gl.load_pairs("mine")
