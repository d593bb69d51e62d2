"""`python -m svp_ros` is the `svp` command."""

import sys

from svp_ros.cli import main

if __name__ == '__main__':
    sys.exit(main())
