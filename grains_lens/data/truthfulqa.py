"""TruthfulQA's published table, whose answers are lists, joined by ";", as rows of pairs and questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import seen

_QUESTION, _BEST, _RIGHT, _WRONG = "question", "best_answer", "correct_answers", "incorrect_answers"


_BEST_WRONG = "best_incorrect_answer"
"""A column that the authors added in 2025."""


def unfolded(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A row of the published CSV, or of the hub's "generation" table (which has lists), with `prompt`, `chosen`,
    `rejected`, `choices` and `label` added, and its columns of several answers cut down to one; any other row as
    it is.

    Chosen is the best answer. Rejected is the best incorrect one where there is such a column, else the first of the
    incorrect ones. The choices are the best answer, at label 0, and every incorrect one. Answers that are listed as
    correct too are no incorrect ones (two questions of the 817 have such).

    Raises ValueError where a question is left without an incorrect answer.
    """
    ours = {column.lower().replace(" ", "_"): column for column in row if isinstance(column, str)}
    if not {_QUESTION, _BEST, _RIGHT, _WRONG} <= ours.keys():
        return row
    best = row[ours[_BEST]]
    right = _answers(row[ours[_RIGHT]], ours[_RIGHT], where)
    not_wrong = {_folded(one) for one in [*right, best]}
    wrong: dict[str, str] = {}
    for one in _answers(row[ours[_WRONG]], ours[_WRONG], where):
        if _folded(one) not in not_wrong:
            wrong.setdefault(_folded(one), one)
    if not wrong:
        raise ValueError(
            f"{where}: {ours[_WRONG]!r} holds no answer that is not correct as well; leave the row out."
        )
    rejected = (
        row[ours[_BEST_WRONG]]
        if _BEST_WRONG in ours and row[ours[_BEST_WRONG]]
        else next(iter(wrong.values()))
    )
    choices = [best, *wrong.values()]
    made = {
        "prompt": row[ours[_QUESTION]],
        "chosen": best,
        "rejected": rejected,
        "choices": choices,
        "label": 0,
    }
    single = {ours[_RIGHT]: right[0] if right else "", ours[_WRONG]: rejected}
    return {**made, **row, **single}


def _answers(value: Any, column: str, where: str) -> list[str]:
    if isinstance(value, str):
        value = value.split(";")
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ValueError(f'{where}: {column!r} must be answers joined by ";", but is {seen(value)}.')
    return [one.strip() for one in value if one.strip()]


def _folded(answer: object) -> str:
    """What two answers have in common that differ in capitals, spaces or the full stop alone."""
    return " ".join(str(answer).split()).casefold().rstrip(".")
