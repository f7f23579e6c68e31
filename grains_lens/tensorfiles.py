"""safetensors files of ours: tensors, and metadata that say what they are."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .errors import VectorFileError


def read_tensors(
    path: Path, *, form: str, holds: str, writer: str
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a file in this `form`; `holds` and `writer` say in errors what it should hold
    and who writes such files.

    Raises FileNotFoundError, or VectorFileError if the file is cut off or of another form.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist (looked in {path.absolute().parent}).")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise VectorFileError(
            f"{path} is not a whole safetensors file ({error}): copy it again, or make it anew."
        ) from error
    if metadata.get("format") != form:
        raise VectorFileError(
            f"{path} is a safetensors file, but not one of {holds}: it holds "
            f"{', '.join(sorted(tensors)) or 'nothing'}. Pass a file that {writer} wrote."
        )
    return metadata, tensors
