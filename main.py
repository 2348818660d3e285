"""End2: train an ensemble, distil its distribution, evaluate, report. `python main.py --help` says how."""

import sys

from end2_tf import cli

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv))
