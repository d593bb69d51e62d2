"""Write files so that neither a kill nor a full disk costs what was there; check what is there."""

import hashlib
import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file beside `path`, then put it in its place.

    Raises:
        OSError: If it cannot be written; what was there is still there.
    """
    temporary = path.with_name(f'{path.name}.tmp')
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kept = '; the previous one is kept' if path.exists() else ''
        raise OSError(f'cannot write {path}: {error.strerror}{kept}') from error


def cache_folder() -> Path:
    """Folder of this user for engines that take long to make."""
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root) / 'svp_ros' / 'engines'


def sha256_of(*paths: Path) -> str:
    """SHA-256 of the content of files, one after the other, in hexadecimal digits.

    Raises:
        OSError: If one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
