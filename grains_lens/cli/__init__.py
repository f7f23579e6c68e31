"""The command line: `grains-lens demo | attribute | extract | generate | evaluate | inspect | study`.

Strings become objects here and nowhere else. Whatever is heavy is imported when a command needs it, so that
`--help` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import tyro
from tyro.conf import OmitArgPrefixes

from ..errors import printable
from .commands import attribute, demo, evaluate, extract, generate, inspect
from .studies import run_study, study


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 after an error that a user can mend, 130 after Ctrl-C."""
    commands = {one.__name__: one for one in (demo, attribute, extract, generate, evaluate, inspect, study)}
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if arguments[:1] == [study.__name__]:
                run_study(arguments[1:])
                return 0
            tyro.extras.subcommand_cli_from_dict(
                commands,
                prog="grains-lens",
                args=arguments,
                config=(OmitArgPrefixes,),
                description="Which input tokens drive a behaviour of a language model, and steering along what "
                "they do.",
            )
    except (ValueError, OSError, ImportError) as error:
        print(f"grains-lens: {_in_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("grains-lens: interrupted", file=sys.stderr)
        return 130
    return 0


def _show_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    """Ours in one line; what libraries warn their developers of is not for a user's terminal."""
    if category.__module__.startswith("grains_lens"):
        print(f"grains-lens: {_in_one_line(_in_options(message))}", file=sys.stderr)


def _in_options(message: Warning | str) -> Warning | str:
    """A warning whose remedy is Python, with options for it."""
    if not getattr(message, "remedy", ""):
        return message
    return (
        f"{getattr(message, 'finding', '')} Take more steps where they are needed (--tolerance 0.1), more for every "
        "pair (--steps 640), or another baseline (--baseline mask)."
    )


def _in_one_line(message: object) -> str:
    return printable(" ".join(str(message).split()))
