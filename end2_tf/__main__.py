"""`python -m end2_tf` is `python main.py`."""

import sys

from end2_tf import cli

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv))
