"""End2: train an ensemble, distil its distribution, evaluate, report. `python main.py --help` says how."""

from end2_tf import cli

if __name__ == "__main__":
    cli.start()
