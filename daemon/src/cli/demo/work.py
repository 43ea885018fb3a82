"""The demo's project: what a user's own module would be."""

import time


def greet(name):
    return f"Hello, {name}"


def nothing():
    return None


def speak(seconds):
    import humanize  # from the registry; on the other node only

    return humanize.precisedelta(seconds)


def where(item):
    import os

    time.sleep(0.02)
    return os.environ["RHD_HOME"].rsplit("/", 1)[-1], item * item


def train(epochs):
    loss = 1.0
    for epoch in range(epochs):
        loss *= 0.6
        print(f"epoch {epoch}: loss {loss:.3f}")
        yield round(loss, 3)


def long_job():
    print("half of it is done")
    time.sleep(600)


def tidy():
    try:
        print("working")
        time.sleep(600)
    finally:
        print("put away what was open")


class Counter:
    """State that lives on another node."""

    def __init__(self, start=0):
        self.value = start

    def add(self, amount):
        self.value += amount
        return self.value

    @property
    def double(self):
        return 2 * self.value
