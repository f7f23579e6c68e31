"""What a study is made on: a world that ships, or any saved model with files of pairs and questions."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import grains_lens as gl

from .paths import named

KINDS = ("clear", "neutral")
"""Questions of other behaviours that must not suffer: with good cues only, and with none."""


EVERY_WORLD = "all"
"""Stands for all worlds that ship, in studies that run on several."""


@dataclass(frozen=True)
class Cell:
    """One model, one behaviour, one draw of pairs: what most studies measure at a time."""

    seed: int
    behaviour: str
    draw: int


@dataclass(frozen=True)
class Subject:
    """A world in several model seeds, or with `model` one local model."""

    world: str = "myths"
    """World that ships."""
    variant: str = "standard"
    """How the world's models were trained."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Model seeds of the world."""
    behaviours: tuple[str, ...] = ()
    """Behaviours to study; none means all."""
    n_behaviours: int | None = None
    """Where no behaviours are named: how many of them to study, the first ones."""
    model: str | None = None
    """A saved model's directory or a hub name, instead of a world; needs --pairs and --questions."""
    pairs: tuple[Path, ...] = ()
    """With --model: preference pairs, one file per behaviour, which the file's name names."""
    questions: tuple[Path, ...] = ()
    """With --model: multiple-choice questions, one file for each of --pairs; every other one is for dev, the rest for
    test."""
    keep: tuple[Path, ...] = ()
    """With --model: questions that must not suffer; split likewise."""
    columns: tuple[str, ...] = ()
    """With --model: other headers in its files, as prompt=question chosen=best."""
    chat: bool = False
    """Put prompts into the tokenizer's chat template."""
    system: str | None = None
    """System turn before each prompt, with --chat."""
    device: str | None = None
    """Torch device; a GPU if there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of weights and residual stream; float32 if not given."""

    def names(self) -> list[str]:
        """The behaviours to study. Raises ValueError for one that is not there."""
        if not self.model_seeds():
            raise ValueError("seeds=() names no model; give one or more.")
        known = list(self.known(self.model_seeds()[0]))
        for name in self.behaviours:
            if name not in known:
                raise ValueError(f"behaviours={name!r} is not one of {', '.join(known)}.")
        if self.n_behaviours is not None and self.n_behaviours < 1:
            raise ValueError(f"n_behaviours={self.n_behaviours} must be at least 1.")
        return list(self.behaviours) or known[: self.n_behaviours]

    def model_seeds(self) -> tuple[int, ...]:
        """The seeds of the models there are; a local model counts as seed 0."""
        return self.seeds if self.model is None else (0,)

    def recorded(self, name: Callable[[str], str] = named) -> Subject:
        """Itself as a run's file holds it: a local model by its folder's name and content, not by its place."""
        return self if self.model is None else replace(self, model=name(self.model))

    def known(self, seed: int) -> Mapping[str, gl.worlds.Behaviour]:
        """All behaviours there are, of the model with this seed."""
        if self.model is None:
            return _of_world(self.world, self.variant, seed)
        files = (*self.pairs, *self.questions)
        return _of_files(self.pairs, self.questions, self.columns, stamp(*files))

    def prompt_format(self) -> gl.PromptFormat:
        """How prompts become tokens. Raises ValueError for a system turn outside a chat."""
        if self.system is not None and not self.chat:
            raise ValueError(
                f"system={self.system!r} needs a chat template: give --chat (chat=True) as well."
            )
        return gl.PromptFormat(chat=self.chat, system=self.system)

    def each(self) -> dict[str, Subject]:
        """Subjects by the name of their world or model: this one, or for `EVERY_WORLD` each that has the behaviours.

        Raises ValueError where no world has them all."""
        if self.model is not None or self.world != EVERY_WORLD:
            return {self.world if self.model is None else Path(self.model).resolve().name: self}
        ships = [one.name for one in gl.worlds.available() if one.variant == self.variant]
        known = {name: _of_world(name, self.variant, self.model_seeds()[0]) for name in ships}
        chosen = {
            name: replace(self, world=name) for name in ships if set(self.behaviours) <= set(known[name])
        }
        if not chosen:
            there = "; ".join(f"{name}: {', '.join(has)}" for name, has in known.items())
            raise ValueError(f"behaviours={self.behaviours!r} are not all in one world. There are {there}.")
        return chosen

    def cells(self, draws: int) -> list[Cell]:
        """Every model, behaviour and draw of pairs, model by model: a worker then loads few of them."""
        names = self.names()
        return [Cell(s, name, draw) for s in self.model_seeds() for name in names for draw in range(draws)]

    def bench(self, cell: Cell) -> Bench:
        """What a cell is measured on; the model is loaded once per process (and thread)."""
        world = gl.worlds.load(self.world, seed=cell.seed, variant=self.variant) if not self.model else None
        source = str(world.path) if world else str(self.model)
        model = _model(source, self.device, self.dtype, stamp(source), threading.get_ident())
        return Bench(model, self.known(cell.seed), cell, world, self.kept(), self.prompt_format())

    def kept(self) -> Mapping[str, Sequence[gl.MultipleChoice]]:
        """What the files given as `keep` hold, by split."""
        columns = headers(self.columns, QUESTION)
        asked = [one for path in self.keep for one in gl.load_questions(path, columns=columns)]
        return halves(asked) if self.model else {}


@dataclass(frozen=True)
class Bench:
    """A model, its behaviours, and which of them with which draw of pairs is studied."""

    model: Any
    behaviours: Mapping[str, gl.worlds.Behaviour]
    cell: Cell
    world: gl.worlds.World | None = None
    kept: Mapping[str, Sequence[gl.MultipleChoice]] = field(default_factory=dict)
    prompt_format: gl.PromptFormat = gl.PromptFormat()

    @property
    def behaviour(self) -> gl.worlds.Behaviour:
        """The behaviour that is studied."""
        return self.behaviours[self.cell.behaviour]

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers of the model."""
        return tuple(range(int(self.model.cfg.n_layers)))

    def draw(self, n: int) -> Sequence[gl.PreferencePair]:
        """`n` of the behaviour's pairs, as this cell draws them. Raises ValueError where there are fewer."""
        if n > len(self.behaviour.pairs):
            raise ValueError(
                f"n_pairs={n}: {self.cell.behaviour!r} has only {len(self.behaviour.pairs)} pairs; give n_pairs "
                f"(--n-pairs) of at most {len(self.behaviour.pairs)}."
            )
        return self.behaviour.draw(n, seed=self.cell.draw)

    def keep(self, split: str, n: int) -> dict[str, Sequence[gl.MultipleChoice]]:
        """What must not suffer, in groups: `n` clear and `n` neutral questions of each other behaviour, and the
        files given as `keep`. `split` is "dev" or "test"."""
        others = [one for name, one in self.behaviours.items() if name != self.cell.behaviour]
        groups = {kind: [q for one in others for q in getattr(one, f"{kind}_{split}")[:n]] for kind in KINDS}
        groups["keep"] = list(self.kept.get(split, ()))[: 2 * n]
        return {name: group for name, group in groups.items() if group}

    def texts(self, n: int) -> list[str]:
        """`n` texts that steering should leave alone: questions that must not suffer, with their right answers; the
        behaviour's own test questions where there are none. Questions about images are no texts."""
        plain = [question for question in self._untouched() if not question.images]
        return [f"{question.prompt} {question.choices[question.label]}" for question in _spread(plain, n)]

    def undisturbed(self, n: int) -> Sequence[Any]:
        """The same for divergences, which can be had over images and in chats too: texts, or pairs in their place."""
        return (not self.prompt_format.chat and self.texts(n)) or [
            gl.PreferencePair(one.prompt, one.choices[one.label], one.choices[one.label - 1], one.images)
            for one in _spread(self._untouched(), n)
        ]

    def _untouched(self) -> Sequence[gl.MultipleChoice]:
        keep = self.keep("test", 10**6)
        return keep.get("clear") or keep.get("keep") or self.behaviour.test


def _spread(questions: Sequence[gl.MultipleChoice], n: int) -> Sequence[gl.MultipleChoice]:
    """`n` of them, evenly from all."""
    return questions[:: max(1, len(questions) // n)][:n]


Stamp = tuple[tuple[str, int, int], ...]


def stamp(*paths: str | Path) -> Stamp:
    """Name, size and time of files, and of those in folders: what is kept of files that have changed is not used."""
    places = [Path(path) for path in paths]
    files = [one for place in places for one in (sorted(place.iterdir()) if place.is_dir() else [place])]
    found = [(one, one.stat()) for one in files if one.exists()]
    return tuple((str(one), status.st_size, status.st_mtime_ns) for one, status in found)


@functools.lru_cache(maxsize=4)
def _model(source: str, device: str | None, dtype: str | None, stamp: Stamp, thread: int) -> Any:
    # Steering changes a model while it lasts, so no two threads may share one.
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    return gl.load_model(source, device=device, dtype=getattr(torch, dtype or "float32"))


@functools.lru_cache(maxsize=8)
def _of_world(world: str, variant: str, seed: int) -> Mapping[str, gl.worlds.Behaviour]:
    return gl.worlds.load(world, seed=seed, variant=variant).behaviours


@functools.lru_cache(maxsize=8)
def _of_files(
    pairs: tuple[Path, ...], questions: tuple[Path, ...], columns: tuple[str, ...], stamp: Stamp
) -> Mapping[str, gl.worlds.Behaviour]:
    if not pairs or len(pairs) != len(questions):
        raise ValueError(
            f"with model=..., pairs names {len(pairs)} files and questions {len(questions)}: give one of each for "
            "every behaviour."
        )
    names = [path.stem for path in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"pairs holds two files that name the behaviour {twice[0]!r}: rename one.")
    return {
        path.stem: behaviour(
            path.stem,
            gl.load_pairs(path, columns=headers(columns, PAIR)),
            gl.load_questions(asked, columns=headers(columns, QUESTION)),
            f"{path.name} and {asked.name}",
        )
        for path, asked in zip(pairs, questions, strict=True)
    }


PAIR = ("prompt", "chosen", "rejected", "images", "image")
QUESTION = ("prompt", "choices", "label", "images", "image")


def headers(columns: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Those of columns, NAME=HEADER each, that name something wanted. Raises ValueError for one that names nothing."""
    named = [one.partition("=") for column in columns for one in column.split(",")]
    for name, _, header in named:
        if name not in {*PAIR, *QUESTION} or not header:
            raise ValueError(
                f"columns={name + '=' + header!r} must be NAME=HEADER, NAME one of "
                f"{', '.join(dict.fromkeys((*PAIR, *QUESTION)))}."
            )
    return {name: header for name, _, header in named if name in wanted}


def behaviour(
    name: str, pairs: Sequence[gl.PreferencePair], questions: Sequence[gl.MultipleChoice], description: str
) -> gl.worlds.Behaviour:
    """A behaviour of one's own. Every other question is for dev, the rest for test.

    Raises LeakageError where pairs and questions share a prompt or an image.
    """
    split = halves(questions)
    if len(questions) < 2:
        raise ValueError(
            f"questions: {name!r} has {len(questions)}; two are needed, one to choose on, one to judge on."
        )
    gl.check_disjoint(pairs, questions, names=("pairs", "questions"))
    known: dict[str, Any] = {"name": name, "description": description, "pairs": tuple(pairs), **split}
    # Clear and neutral questions are what worlds know of themselves; files have `keep` instead.
    unknown = {field.name: () for field in fields(gl.worlds.Behaviour) if field.name not in known}
    return gl.worlds.Behaviour(**known, **unknown)


def halves(questions: Sequence[gl.MultipleChoice]) -> dict[str, tuple[gl.MultipleChoice, ...]]:
    """Every other question for dev, the rest for test."""
    return {"dev": tuple(questions[::2]), "test": tuple(questions[1::2])}
