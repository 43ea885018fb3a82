"""The demo's project: what a user's own module would be."""

import os
import time


def greet(name):
    return f"Hello, {name}"


def nothing():
    return None


def speak(seconds):
    import humanize  # from the registry; on the other node only

    return humanize.precisedelta(seconds)


def where(item):
    time.sleep(0.02)
    return os.environ["RHD_HOME"].rsplit("/", 1)[-1], item * item


def train(epochs):
    loss = 1.0
    for epoch in range(epochs):
        loss *= 0.6
        print(f"epoch {epoch}: loss {loss:.3f}")
        yield round(loss, 3)


def long_job():
    yield "started"
    time.sleep(600)


def tidy(path):
    with open(path, "w"):
        try:
            print("working")
            while True:
                time.sleep(0.01)
        finally:
            os.unlink(path)


def lines(folder):
    return sum(len(folder.get(name).splitlines()) for name in folder.ls())


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
