"""How many threads there are for native code."""

from tfxc.core.resources import limited_threads, thread_count


def test_limits_of_two_threads_that_overlap_leave_none():
    cores = thread_count()
    first, second = limited_threads(cores + 1), limited_threads(cores + 2)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert thread_count() == cores + 2
    second.__exit__(None, None, None)
    assert thread_count() == cores
    assert thread_count(5) == 5
