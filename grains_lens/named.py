"""Data sets known by name: where the hub has them, and how their rows become pairs and questions.

They are read as parquet, which the hub makes of every data set (its branch `refs/convert/parquet`): some of
them come as loading scripts, which `datasets` 4 refuses, others with metadata that `datasets` 3 cannot read.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import unknown_name
from .tables import read_table

Kind = Literal["pairs", "questions"]
Row = Mapping[str, Any]

PARQUET = "refs/convert/parquet"


@dataclass(frozen=True)
class Named:
    """A data set on the hub; `question` or `pair` turns its rows into those of `load_questions` or `load_pairs`."""

    repository: str
    config: str
    split: str
    question: Callable[[Row], dict[str, Any]] | None = None
    pair: Callable[[Row], dict[str, Any]] | None = None


def _as_it_is(row: Row) -> dict[str, Any]:
    return {"prompt": row["question"], "choices": list(row["choices"]), "label": int(row["label"])}


def _mmlu(row: Row) -> dict[str, Any]:
    return {"prompt": row["question"], "choices": list(row["choices"]), "label": int(row["answer"])}


def _faitheval(row: Row) -> dict[str, Any]:
    # Keys are letters in most rows and digits in some, as in the ARC questions it was made from.
    keys, choices = list(row["choices"]["label"]), list(row["choices"]["text"])
    prompt = f"{row['context']}\n\n{row['question']}"
    return {"prompt": prompt, "choices": choices, "label": keys.index(row["answerKey"])}


def _spa_vl(row: Row) -> dict[str, Any]:
    pair = {name: row[name] for name in ("chosen", "rejected")}
    return {"prompt": row["question"], **pair, "images": [_picture(row["image"])]}


def _picture(value: Any) -> Any:
    """A picture as the hub's parquet holds it: the bytes of its file."""
    from PIL import Image

    return Image.open(io.BytesIO(value["bytes"]))


KNOWN: Mapping[str, Named] = {
    "truthful_qa": Named("EleutherAI/truthful_qa_mc", "multiple_choice", "validation", _as_it_is),
    "faitheval": Named("Salesforce/FaithEval-counterfactual-v1.0", "default", "test", _faitheval),
    "mmlu": Named("cais/mmlu", "all", "test", _mmlu),
    "spa_vl": Named("sqrti/SPA-VL", "default", "train", pair=_spa_vl),
}


def is_name(source: str) -> bool:
    """Whether this is meant as a name rather than as a file: no file is called so, and it has no suffix."""
    return source in KNOWN or not (Path(source).suffix or Path(source).exists() or "/" in source)


def rows_of(name: str, kind: Kind) -> Iterator[dict[str, Any]]:
    """The rows of a data set that is known by name, as `load_pairs` or `load_questions` reads them.

    Raises ValueError for an unknown name, or a data set without questions; OSError if it cannot be downloaded.
    """
    if name not in KNOWN:
        raise unknown_name("source", name, KNOWN)
    known = KNOWN[name]
    if kind == "questions" and known.question is None:
        raise ValueError(f"{name} has no multiple-choice questions: load_pairs({name!r}) reads its pairs.")
    for path in _download(name, known):
        for row in read_table(path):
            if kind == "questions":
                assert known.question is not None
                yield known.question(row)
            else:
                yield known.pair(row) if known.pair else _pair_of(known.question(row))  # type: ignore[misc]


def _pair_of(question: Row) -> dict[str, Any]:
    """The right choice, against the wrong one that is listed after it."""
    choices, label = question["choices"], question["label"]
    rejected = choices[(label + 1) % len(choices)]
    return {"prompt": question["prompt"], "chosen": choices[label], "rejected": rejected}


def _download(name: str, known: Named) -> list[Path]:
    import huggingface_hub

    where: Any = {"repo_type": "dataset", "revision": PARQUET}
    folder = f"{known.config}/{known.split}/"
    try:
        files = sorted(
            file
            for file in huggingface_hub.list_repo_files(known.repository, **where)
            if file.startswith(folder)
        )
        return [Path(huggingface_hub.hf_hub_download(known.repository, file, **where)) for file in files]
    except (OSError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise OSError(
            f"{name} ({known.repository}) cannot be downloaded here ({type(error).__name__}): fetch {folder}*.parquet "
            f"of its branch {PARQUET} where there is a network, and pass the file, with columns={{...}}."
        ) from error
