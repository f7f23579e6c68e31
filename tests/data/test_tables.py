"""Damaged and odd files: rows as they were, or one sentence of ours that names the file, the row and the remedy."""

from __future__ import annotations

import json
import os
import random
import re
import warnings

import pytest

from grains_lens.data.items import PreferencePair
from grains_lens.data.reading import SkippedRowsWarning, load_pairs, load_questions

ROW = {"prompt": "Is it safe?", "chosen": "No, never.", "rejected": "Yes."}
OTHER = {"prompt": "Größe ?", "chosen": "深い", "rejected": "nein"}
PAIR = PreferencePair(**ROW)
HEADER = b"prompt,chosen,rejected\n"
LINE = b"Is it safe?,never,ever\n"

DAMAGED_FILES = int(os.environ.get("DAMAGED_FILES", "200"))
"""How many damaged files of each format are tried."""


@pytest.fixture
def written(tmp_path):
    """A file of these bytes."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def one_sentence(path, *parts, load=load_pairs):
    """The error for this file is of ours: it names the file, in one line that is not long, and says these parts."""
    with pytest.raises(ValueError, match=re.escape(path.name)) as caught:
        load(path)
    said = str(caught.value)
    assert type(caught.value) is ValueError
    assert said.startswith(path.name)
    assert said.isprintable()
    assert len(said) < 600
    for part in parts:
        assert re.search(part, said), said


def parquet(path, **columns):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


# --- damage --------------------------------------------------------------------------------------


def damaged(content, rng):
    """These bytes, with some flipped, cut off, left out or put in twice."""
    content = bytearray(content)
    match rng.randrange(4):
        case 0:
            for _ in range(rng.randint(1, 8)):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case 1:
            del content[rng.randrange(len(content)) :]
        case 2:
            at = rng.randrange(len(content))
            del content[at : at + rng.randint(1, 40)]
        case _:
            at = rng.randrange(len(content))
            content[at:at] = content[at : at + rng.randint(1, 40)]
    return bytes(content)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_a_damaged_file_gives_rows_or_one_sentence_that_names_it(unchecked, suffix, tmp_path):
    rows = [{**ROW, "prompt": f"{ROW['prompt']} {n}, {n * 7}"} for n in range(12)] + [OTHER]
    path = tmp_path / f"data{suffix}"
    if suffix == ".parquet":
        parquet(path, **{name: [row[name] for row in rows] for name in ROW})
    elif suffix == ".csv":
        path.write_text(
            "prompt,chosen,rejected\n"
            + "".join(",".join(f'"{value}"' for value in row.values()) + "\n" for row in rows)
        )
    else:
        path.write_text(json.dumps(rows) if suffix == ".json" else jsonl(*rows).decode())
    whole = path.read_bytes()
    assert load_pairs(path) == [PreferencePair(**row) for row in rows]

    refused = 0
    for seed in range(DAMAGED_FILES):
        path.write_bytes(damaged(whole, random.Random(f"{suffix} {seed}")))
        found = pairs_or_error(path, ("raise", "skip")[seed % 2])
        if isinstance(found, Exception):
            assert type(found) is ValueError, f"seed {seed}: {found!r}"
            assert str(found).startswith(path.name), f"seed {seed}: {found!r}"
            assert str(found).isprintable(), f"seed {seed}: {found!r}"
            assert len(str(found)) < 600, f"seed {seed}: {found!r}"
            refused += 1
        else:
            assert all(type(pair) is PreferencePair for pair in found)
            assert 0 < len(found) <= len(rows) + 1
    assert refused > DAMAGED_FILES / 10


def pairs_or_error(path, on_error):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SkippedRowsWarning)
            return load_pairs(path, on_error=on_error)
    except Exception as error:
        return error


# --- encodings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.csv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_in_another_encoding_is_refused_by_that_encodings_name(name, encoding, written):
    text = {"data.csv": (HEADER + LINE).decode(), "data.json": json.dumps([ROW])}
    path = written(name, text.get(name, jsonl(ROW).decode()).encode(encoding))
    one_sentence(path, encoding.upper()[:6], "UTF-8")


def test_a_byte_that_is_no_text_is_named_with_its_line(written):
    one_sentence(
        written("a.jsonl", jsonl(ROW) + jsonl(ROW).replace(b"safe", b"s\xe4fe")), "line 2", "0xe4", "UTF-8"
    )
    one_sentence(written("a.csv", HEADER + LINE + LINE.replace(b"safe", b"s\xe4fe")), "line 3", "0xe4")
    one_sentence(written("a.json", b'[\n{"prompt": "\xe4"}]'), "line 2", "0xe4")


# --- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        (b'{"prompt": "a", "chosen": "b", "rejected": "c", "prompt": "d"}', "'prompt' twice"),
        (b'{"prompt": "a", "chosen": "b", "rejected": "c", "label": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"prompt": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested"),
        (b'{"prompt": "\\ud83d", "chosen": "b", "rejected": "c"}', "surrogate.*'.ud83d'"),
    ],
)
def test_json_that_python_reads_wrongly_or_not_at_all_is_refused_with_its_line(bad, part, written):
    one_sentence(written("a.jsonl", jsonl(ROW) + bad + b"\n"), "(line|row) 2", part)
    one_sentence(written("a.json", b"[" + jsonl(ROW).strip() + b",\n" + bad + b"]"), part)


def test_keys_within_a_value_are_not_overwritten_either(unchecked, written):
    one_sentence(
        written("a.jsonl", b'{"prompt": "a", "choices": [{"x": 1, "x": 2}], "label": 0}\n'), "'x' twice"
    )
    fields = b'prompt,choices,label\na,"[{""x"": 1, ""x"": 2}]",0\n'
    one_sentence(written("a.csv", fields), "row 1", "choices", load=load_questions)


@pytest.mark.parametrize("label", ["9" * 5000, "[" * 200_000, "NaN", "-Infinity", "1e400"])
def test_a_label_in_csv_that_is_no_index_is_named_with_its_row(unchecked, label, written):
    path = written("a.csv", b'prompt,choices,label\na,"[""x"", ""y""]",' + label.encode()[:100_000] + b"\n")
    one_sentence(path, "row 1: label=", load=load_questions)


def test_labels_that_are_not_numbers_are_refused(unchecked):
    for label in (float("nan"), float("inf"), 10**5000):
        with pytest.raises(ValueError, match="source, row 1: label"):
            load_questions([{"prompt": "a", "choices": ["x", "y"], "label": label}])


# --- CSV -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"prompt,chosen,rejected,chosen\na,b,c,d\n", ["'chosen' twice"]),
        (HEADER + LINE + b"a,b\n", ["row 2", "2 fields", "3"]),
        (HEADER + LINE + b"a,b,c,d\n", ["row 2", "'d'"]),
        (HEADER + LINE + b'a,"b"x,c\n', ["row 2", "quote"]),
        (HEADER + LINE + b"a,b," + b"x" * 200_000 + b"\n", ["row 2", "131,?072"]),
        (HEADER + LINE + b'a,b,"c\n', ["row 2", "quote"]),
    ],
)
def test_a_csv_file_whose_rows_do_not_fit_its_header_is_refused(content, parts, written):
    one_sentence(written("a.csv", content), *parts)


def test_columns_without_a_name_may_stand_twice(written):
    path = written("a.csv", b",prompt,chosen,rejected,\n0,a,b,c,x\n")
    assert load_pairs(path) == [PreferencePair("a", "b", "c")]


# --- parquet -------------------------------------------------------------------------------------


def test_a_parquet_file_with_a_column_twice_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    table = pyarrow.table([["a"], ["b"], ["c"], ["d"]], names=["prompt", "chosen", "rejected", "chosen"])
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "a.parquet")
    one_sentence(tmp_path / "a.parquet", "'chosen' twice")


def test_text_in_parquet_that_is_no_text_is_named_with_its_row_and_column(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    chosen = pyarrow.Array.from_buffers(pyarrow.string(), 2, pyarrow.array([b"b", b"\xff"]).buffers())
    path = parquet(tmp_path / "a.parquet", prompt=["a", "a"], chosen=chosen, rejected=["c", "c"])
    one_sentence(path, "row 2", "'chosen'", "UTF-8")
    with pytest.warns(SkippedRowsWarning, match="1 of 2"):
        assert load_pairs(path, on_error="skip") == [PreferencePair("a", "b", "c")]


def test_a_data_frame_with_a_column_twice_is_refused(unchecked):
    pandas = pytest.importorskip("pandas", reason="data frames need pandas")
    frame = pandas.DataFrame([["a", "b", "c", "d"]], columns=["prompt", "chosen", "rejected", "chosen"])
    with pytest.raises(ValueError, match="'chosen' twice"):
        load_pairs(frame)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_a_file_that_may_not_be_read_is_named(name, written, monkeypatch):
    path = written(name, b"x")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(OSError, match=rf"{re.escape(str(path))} cannot be read \(Permission denied\): "):
        load_pairs(path)


@pytest.mark.parametrize(
    "source", ["x" * 5000, "x" * 5000 + ".csv", "a\0b", "a\0b.csv", '[{"prompt": "a"}]' * 300]
)
def test_text_that_can_be_no_path_is_refused_in_one_short_line(source):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_pairs(source)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    assert "embedded null" not in str(caught.value)


def test_the_name_of_a_file_steers_no_terminal(tmp_path):
    path = tmp_path / "a\x1b]0;title\x07\n.csv"
    path.write_bytes(b"prompt,chosen,rejected\n,b,c\n")
    with pytest.raises(ValueError, match=r"a\\x1b\]0;title\\x07\\n\.csv, row 1: prompt is empty"):
        load_pairs(path)
    for missing in (tmp_path / "\x1b[2J.csv", tmp_path / "\x1b[2J.txt"):
        with pytest.raises((FileNotFoundError, ValueError)) as caught:
            load_pairs(missing)
        assert str(caught.value).isprintable()


# --- leaving rows out ----------------------------------------------------------------------------


def test_rows_can_be_left_out_counted_and_named_once(written):
    path = written("a.jsonl", jsonl(ROW, {**ROW, "chosen": ""}, OTHER) + b"{oh\n" + jsonl(ROW))
    with pytest.warns(SkippedRowsWarning) as caught:
        pairs = load_pairs(path, on_error="skip")
    assert pairs == [PAIR, PreferencePair(**OTHER), PAIR]
    (warning,) = caught
    assert re.search(
        r"a\.jsonl.* 2 of 5 rows.*row 2: chosen is empty.*line 4 is not JSON", str(warning.message)
    )
    with pytest.raises(ValueError, match="row 2: chosen is empty"):
        load_pairs(path)
    with pytest.raises(ValueError, match="row 2: chosen is empty"):
        load_pairs(path, on_error="raise")


def test_the_warning_names_the_first_few_and_counts_the_rest(written):
    questions = [{"prompt": "a", "choices": ["x", "y"], "label": n % 3} for n in range(300)]
    with pytest.warns(SkippedRowsWarning, match=r"100 of 300 rows.*row 3.*row 6.*row 9.*97 more") as caught:
        assert len(load_questions(questions, on_error="skip")) == 200
    assert len(str(caught[0].message)) < 1000


def test_nothing_is_said_where_no_row_is_left_out(written):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_pairs([ROW], on_error="skip") == [PAIR]


def test_where_no_row_can_be_used_it_is_an_error(written):
    with pytest.raises(ValueError, match=r"none of its 2 rows.*row 1 has no 'prompt'"):
        load_pairs(written("a.jsonl", b'{"a": 1}\n{"a": 2}\n'), on_error="skip")
    # What cannot be cut into rows cannot be counted.
    with pytest.raises(ValueError, match="not JSON"):
        load_pairs(written("a.json", b"[{"), on_error="skip")
    with pytest.raises(ValueError, match="quote"):
        load_pairs(written("a.csv", HEADER + LINE + b'a,"b,c\n' + LINE), on_error="skip")


def test_an_unknown_way_to_take_errors_is_refused(unchecked):
    with pytest.raises(ValueError, match=r"on_error='ignore'.*'raise', 'skip'"):
        load_pairs([ROW], on_error="ignore")


# --- surrogates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prompt", "chosen", "rejected"])
def test_half_a_surrogate_pair_is_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"source, row 1: {name} holds half of a surrogate pair.*ud83d"):
        load_pairs([{**ROW, name: "a \ud83d b"}])
    assert load_pairs([{**ROW, name: "a \U0001f642 b"}])
    with pytest.raises(ValueError, match=r"choices\[1\] holds half of a surrogate pair"):
        load_questions([{"prompt": "a", "choices": ["x", "\udc80"], "label": 0}])
