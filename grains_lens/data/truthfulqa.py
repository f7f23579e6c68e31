"""Convert TruthfulQA's published table, whose answers are lists joined by ";", to rows of pairs and
questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import seen

_QUESTION, _BEST, _RIGHT, _WRONG = "question", "best_answer", "correct_answers", "incorrect_answers"


_BEST_WRONG = "best_incorrect_answer"
"""A column that the authors added in 2025."""


def unfolded(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Convert a row of the published CSV, or of the hub's "generation" table, which has lists. `prompt`,
    `chosen`, `rejected`, `choices` and `label` are added, and columns with several answers are reduced to
    one. Any other row is returned unchanged.

    The best answer is chosen. The best incorrect answer is rejected, or the first incorrect one if there is
    no such column. The choices are the best answer, at label 0, and all incorrect ones. Answers that are also
    listed as correct do not count as incorrect (two of the 817 questions have such answers).

    Raises ValueError if a question is left without an incorrect answer.
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
            f"{where}: {ours[_WRONG]!r} holds only answers that are also listed as correct; leave the row "
            "out."
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
    """An answer without capitals, extra spaces and its full stop, for comparison."""
    return " ".join(str(answer).split()).casefold().rstrip(".")
