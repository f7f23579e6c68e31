"""Data sets known by name: where they are on the hub, and how their rows become pairs and questions.

They are read as parquet, which the hub provides for every data set in the branch `refs/convert/parquet`. Some
of the originals are loading scripts, which `datasets` 4 refuses; others have metadata that `datasets` 3
cannot read.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import printable, said, seen, unknown_name
from ..literals import ItemKind
from .tables import Rows, read_table

Row = Mapping[str, Any]


PARQUET = "refs/convert/parquet"


@dataclass(frozen=True)
class Named:
    """A data set on the hub. `question` or `pair` converts its rows to those of `load_questions` or
    `load_pairs`."""

    repository: str
    config: str
    split: str
    question: Callable[[Row], dict[str, Any]] | None = None
    pair: Callable[[Row], dict[str, Any]] | None = None


def _as_it_is(row: Row) -> dict[str, Any]:
    return {"prompt": row["question"], "choices": list(row["choices"]), "label": row["label"]}


def _mmlu(row: Row) -> dict[str, Any]:
    return {"prompt": row["question"], "choices": list(row["choices"]), "label": row["answer"]}


def _faitheval(row: Row) -> dict[str, Any]:
    # Keys are letters in most rows and digits in some, as in the ARC questions it was made from.
    keys, choices = list(row["choices"]["label"]), list(row["choices"]["text"])
    if row["answerKey"] not in keys:
        raise ValueError(
            f"answerKey={seen(row['answerKey'])} is not one of the choices' labels, {seen(keys)}"
        )
    prompt = f"{row['context']}\n\n{row['question']}"
    return {"prompt": prompt, "choices": choices, "label": keys.index(row["answerKey"])}


def _spa_vl(row: Row) -> dict[str, Any]:
    pair = {name: row[name] for name in ("chosen", "rejected")}
    return {"prompt": row["question"], **pair, "images": [_picture(row["image"])]}


def _picture(value: Any) -> Any:
    """An image as stored in the hub's parquet: the bytes of its file."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('images in prompts need pillow: pip install "grains-lens[vision]".') from error
    content = value.get("bytes") if isinstance(value, Mapping) else None
    if not content:
        raise ValueError(f"image={seen(value, 60)} holds no picture")
    try:
        return Image.open(io.BytesIO(content))
    except (
        Exception
    ) as error:  # For damaged files, Pillow raises SyntaxError, struct.error, OSError and others.
        raise ValueError(f"image holds no picture that pillow can read ({said(error)})") from error


KNOWN: Mapping[str, Named] = {
    "truthful_qa": Named("EleutherAI/truthful_qa_mc", "multiple_choice", "validation", _as_it_is),
    "faitheval": Named("Salesforce/FaithEval-counterfactual-v1.0", "default", "test", _faitheval),
    "mmlu": Named("cais/mmlu", "all", "test", _mmlu),
    "spa_vl": Named("sqrti/SPA-VL", "default", "train", pair=_spa_vl),
}


def is_name(source: str) -> bool:
    """Whether this is meant as a name rather than as a file: no such file exists, and it has no suffix."""
    try:
        return source in KNOWN or not (Path(source).suffix or Path(source).exists() or "/" in source)
    except OSError:  # Too long to be a path.
        return True


def rows_of(name: str, kind: ItemKind) -> Rows:
    """The rows of a named data set, as `load_pairs` or `load_questions` reads them. A malformed row is
    replaced by the ValueError that says what is wrong.

    Raises ValueError for an unknown name, or for a data set without questions if they are asked for; OSError
    if it cannot be downloaded.
    """
    if name not in KNOWN:
        raise unknown_name("source", name, KNOWN)
    known = KNOWN[name]
    if kind == "questions" and known.question is None:
        raise ValueError(
            f"{name} has no multiple-choice questions: read its pairs with load_pairs({name!r})."
        )
    return _converted(name, known, kind, _files(name, known, kind))


def _converted(name: str, known: Named, kind: ItemKind, files: Sequence[Path]) -> Rows:
    number = 0
    for path in files:
        for _, row in read_table(path):
            number += 1
            where = f"{name}, row {number}"
            try:
                yield where, _convert(known, kind, row)
            except KeyError as error:
                yield where, ValueError(f"{where} has no {error}.")
            except (ValueError, TypeError, AttributeError) as error:
                yield where, ValueError(f"{where}: {said(error)}.")


def _convert(known: Named, kind: ItemKind, row: Any) -> dict[str, Any]:
    if isinstance(row, ValueError):
        raise row
    if kind == "pairs" and known.pair:
        return known.pair(row)
    assert known.question is not None
    question = known.question(row)
    return question if kind == "questions" else _pair_of(question)


def _pair_of(question: Row) -> dict[str, Any]:
    """The right choice as chosen, and the wrong choice listed after it as rejected."""
    choices, label = question["choices"], question["label"]
    if type(label) is not int or not 0 <= label < len(choices):
        raise ValueError(f"label={seen(label)} is not an index into the {len(choices)} choices")
    rejected = choices[(label + 1) % len(choices)]
    return {"prompt": question["prompt"], "chosen": choices[label], "rejected": rejected}


def _files(name: str, known: Named, kind: ItemKind) -> list[Path]:
    """The data set's files: from the hub or, if it cannot be reached, from an earlier download."""
    import huggingface_hub
    from huggingface_hub import constants

    where: Any = {"repo_type": "dataset", "revision": PARQUET}
    folder = f"{known.config}/{known.split}/"
    offline = constants.HF_HUB_OFFLINE
    try:
        if not offline:
            # This call respects its timeout; the calls below retry for half a minute.
            huggingface_hub.HfApi().dataset_info(known.repository, revision=PARQUET, timeout=PATIENCE)
        files = sorted(
            file
            for file in huggingface_hub.list_repo_files(known.repository, **where)
            if file.startswith(folder)
        )
        # The first file is fetched last: if it is in the cache, all of them are.
        paths = [huggingface_hub.hf_hub_download(known.repository, file, **where) for file in reversed(files)]
        return [Path(path) for path in reversed(paths)]
    # The hub's client raises its own errors and those of its HTTP client, which has changed twice.
    except Exception as error:
        first = huggingface_hub.try_to_load_from_cache(known.repository, f"{folder}{_FIRST}", **where)
        if isinstance(first, str):
            return sorted(Path(first).parent.glob("*.parquet"))
        why = "HF_HUB_OFFLINE is set" if offline else f"{type(error).__name__}: {said(error, 100)}"
        cache = printable(constants.HF_HUB_CACHE, 200)
        raise OSError(
            f"{name} ({known.repository}) cannot be downloaded here ({why}). On a machine with a network, "
            f"call load_{kind}({name!r}) once, which fetches {folder}*.parquet from its branch {PARQUET}, "
            f"and copy the folder datasets--{known.repository.replace('/', '--')} from the cache there "
            f"({_CACHE}) to {cache} here."
        ) from error


PATIENCE = 5.0
"""Seconds to wait for the hub's first answer."""


_FIRST = "0000.parquet"


_CACHE = "~/.cache/huggingface/hub"
"""Where the hub's client stores its downloads, unless HF_HOME says otherwise."""
