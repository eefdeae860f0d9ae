"""Messages: silent in a program, printed in a command, each thread's own where it asks for them."""

import logging
import threading

import pytest

from tfxc.core.messages import NOTES, OUTPUT, is_printed, printed


@pytest.fixture(autouse=True)
def _messages_are_printed():
    """Not here."""


def say(name="it"):
    OUTPUT.info(f"{name} is done")
    NOTES.info(f"{name} starts")
    NOTES.warning(f"{name} is odd")


def test_commands_print_them_as_they_are(capsys):
    with printed():
        assert is_printed()
        say("100 %s")
        with printed(), printed(this_thread=True):
            say("inside")
    say("after")
    out, err = capsys.readouterr()
    assert out == "100 %s is done\ninside is done\n"
    assert err == ("100 %s starts\nwarning: 100 %s is odd\ninside starts\nwarning: inside is odd\n")
    assert not is_printed() and NOTES.level == logging.NOTSET
    assert NOTES.propagate and not NOTES.handlers


def test_a_program_collects_them(caplog):
    with caplog.at_level("INFO", "tfxc"):
        say()
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]
    assert {record.name for record in caplog.records} == {"tfxc", "tfxc.output"}


def test_a_handler_of_the_root_gets_what_is_not_printed(capsys, caplog):
    """As TensorFlow's: what is printed is not shown twice, and no warning of another is lost."""
    with printed(this_thread=True):
        say("mine")
        assert not caplog.records
        other = threading.Thread(target=say)
        other.start()
        other.join()
    assert [record.getMessage() for record in caplog.records] == ["it is odd"]
    assert capsys.readouterr().out == "mine is done\n"
    say("after")
    assert [record.getMessage() for record in caplog.records] == ["it is odd", "after is odd"]


def test_threads_that_overlap_print_their_own(capsys):
    first_is_open, second_is_open = threading.Event(), threading.Event()

    def first():
        with printed(this_thread=True):
            first_is_open.set()
            assert second_is_open.wait(10)
            say("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert first_is_open.wait(10) and not is_printed()
    say("nobody")
    with printed(this_thread=True):
        second_is_open.set()
        thread.join()
        say("second")
    say("nobody")
    assert capsys.readouterr().out == "first is done\nsecond is done\n"
    assert NOTES.level == logging.NOTSET and not NOTES.handlers
