"""Write files so that neither a kill nor a full disk costs what was there before."""

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
