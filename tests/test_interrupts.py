import signal
import subprocess
import sys
import threading

import pytest

from end2_tf import interrupts
from end2_tf.interrupts import Terminated


@pytest.fixture(autouse=True)
def _handlers():
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    interrupts.install()
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_signals_are_raised_at_the_end_of_what_defers_them(number, error):
    with pytest.raises(error):
        signal.raise_signal(number)
    done = []

    def work():
        with interrupts.deferred():
            with interrupts.deferred():
                signal.raise_signal(number)
                done.append("inner")
            done.append("outer")
        done.append("after")

    with pytest.raises(error):
        work()
    assert done == ["inner", "outer"]
    with interrupts.deferred():  # and once only
        pass


def test_an_error_within_isnt_hidden():
    with pytest.raises(ZeroDivisionError), interrupts.deferred():
        _ = 1 / 0


def test_other_threads_defer_nothing():
    inside, leave = threading.Event(), threading.Event()

    def wait():
        with interrupts.deferred():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=wait)
    thread.start()
    inside.wait(10)
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
    leave.set()
    thread.join()


def test_the_command_line_says_how_it_ended():
    wait = (
        "import time; from end2_tf import cli\ncli._main = lambda argv: (print('ready', flush=True), time.sleep(60))\n"
    )
    for number, code, word in (signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted"):
        process = subprocess.Popen(
            [sys.executable, "-c", wait + "cli.start()"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.readline()
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == code
        assert said.strip() == f"{word}. Run the same command again: it goes on from here."
