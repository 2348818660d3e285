"""`python -m end2_tf` is `python main.py`."""

from end2_tf import cli

if __name__ == "__main__":
    cli.start()
