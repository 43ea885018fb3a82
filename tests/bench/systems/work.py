"""What every system runs: the same few functions."""


def noop():
    pass


def echo(value):
    return value


def size(value):
    return len(value)


def count(n):
    # Not `yield from`: Ray wants a generator itself.
    for i in range(n):  # noqa: UP028
        yield i
