"""Packages that only some engines need."""

from importlib.util import find_spec


def need(*packages: str) -> None:
    """Check that Python packages, whose pip names are the same, are installed.

    Raises:
        ValueError: If one is missing, with the command that installs it.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ValueError(f'this needs {" and ".join(missing)}: pip install {" ".join(missing)}')
