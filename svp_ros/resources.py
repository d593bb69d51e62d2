"""Find the files that ship beside the Python package: config/, launch/ and models/."""

from pathlib import Path
from typing import Union

import svp_ros


def find_resource(name: Union[str, Path]) -> Path:
    """Return the path of a shipped file or folder, such as `config/fastdds.xml`.

    A source tree (or an editable installation) has it beside the package, an installation by
    pip or colcon in the `share/svp_ros` of its prefix.

    Raises:
        FileNotFoundError: If it is in neither place.
    """
    package = Path(svp_ros.__file__).resolve().parent
    if (package.parent / 'package.xml').is_file():
        places = [package.parent]
    else:
        places = [prefix / 'share' / 'svp_ros' for prefix in package.parents]
    for place in places:
        if (place / name).exists():
            return place / name
    raise FileNotFoundError(f'svp_ros does not ship "{name}" (looked beside {package})')
