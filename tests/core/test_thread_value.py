"""Each thread has its own value."""

import concurrent.futures

import pytest

from tfxc.core.thread_value import ThreadValue


def test_other_threads_see_the_default():
    colour = ThreadValue("red")
    with concurrent.futures.ThreadPoolExecutor(1) as pool, colour.set_to("blue"):
        assert pool.submit(lambda: colour.value).result() == "red"
        assert colour.value == "blue"


def test_the_value_before_comes_back():
    colour = ThreadValue("red")
    with colour.set_to("blue"):
        with pytest.raises(KeyError), colour.set_to("green"):
            raise KeyError
        assert colour.value == "blue"
