"""Write files whole or not at all: under another name beside the target, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from .errors import printable


def write_bytes(path: str | Path, content: bytes, *, argument: str = "path") -> Path:
    """Write `content` to the file `path`. If the process is killed or the disk is full, the old file stays
    intact.

    The directory is made if needed. A symbolic link is followed: its target is replaced, not the link. A new
    file gets the mode of the user's umask; an existing file keeps its own. Returns `path`. Raises OSError,
    which names the path and the remedy, if the file cannot be written or is not a regular file (a device, a
    pipe).
    """
    path = Path(path)
    check_writable(path, argument)
    target = _target(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, content)
    except OSError as error:
        raise _refusal(path, str(error.strerror), argument, error.errno) from error
    return path


def write_text(path: str | Path, text: str, *, argument: str = "path") -> Path:
    """The same for text, in UTF-8."""
    return write_bytes(path, text.encode("utf-8"), argument=argument)


def check_extension(path: Path, extension: str, argument: str = "path") -> None:
    """Raise ValueError unless the file's name ends in `extension`, by which people and programs recognise the
    format."""
    if path.suffix.lower() != extension:
        raise ValueError(
            f"{argument}={printable(path)!r} must end in {extension}: write to {printable(path.name)}{extension}."
        )


def check_writable(path: Path, argument: str) -> None:
    """Raise OSError if a file cannot be written: better before an hour's work than after it."""
    try:
        target = _target(path)
        there = next(place for place in (target, *target.parents) if place.exists())
    except (OSError, ValueError) as error:  # the name is too long, or contains NUL
        raise _refusal(path, getattr(error, "strerror", None) or str(error), argument) from error
    directory = there if there != target else target.parent
    if target.is_symlink():
        raise _refusal(path, "it is a symbolic link that leads in a circle", argument)
    if target.is_dir():
        raise _refusal(path, "it is a directory", argument)
    if there == target and not target.is_file():
        raise _refusal(path, "it is not a regular file but a device or a pipe", argument)
    if not directory.is_dir():
        raise _refusal(path, f"{printable(directory)} is not a directory", argument)
    for place, needed in ((there, os.W_OK), (directory, os.W_OK | os.X_OK)):
        if not os.access(place, needed):
            raise _refusal(path, f"you may not write to {printable(place)}", argument)


def _target(path: Path) -> Path:
    """The target of a path after following links, whether or not it exists."""
    return Path(os.path.realpath(path))


def _replace(target: Path, content: bytes) -> None:
    # The temporary name has a fixed length, because the target's name may be as long as the file system
    # allows.
    temporary = target.parent / f".grains_lens-{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:  # with the mode given by the umask
            if target.exists():
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        # After the rename it no longer exists. On any exception, including Ctrl-C, it is removed here.
        temporary.unlink(missing_ok=True)
    _flush_directory(target.parent)


def _flush_directory(directory: Path) -> None:
    """Flush the new name to disk as well. The file is whole even without this, and not every system supports
    it."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _refusal(path: Path, why: str, argument: str, number: int | None = None) -> OSError:
    remedy = "make room, or " if number in (errno.ENOSPC, errno.EDQUOT) else ""
    error = OSError(f"{printable(path)} cannot be written ({why}): {remedy}give another {argument}.")
    error.errno = number
    return error
