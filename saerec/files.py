"""Files that are either whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path


def save_atomically(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file by `save(temporary_path)` and then give it its name, so that `path` is never half-written."""
    temporary = path.with_name(path.name + ".part")
    try:
        save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # after a failure
