"""The demo's program: runs on the node `laptop`, uses the nodes `gpu` and `cloud`."""

import collections
import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

import rhd as rh
import work

PIDS = json.loads(os.environ["RHD_DEMO_PIDS"])
WARM_CALLS = 2000
FILES = 2000


class Step:
    """Prints a title, what is said inside, and the time it took."""

    def __init__(self, title):
        self.title = title

    def __enter__(self):
        print(self.title)
        self.started = time.perf_counter()
        return self.say

    def say(self, *lines):
        for line in lines:
            for part in str(line).splitlines():
                print("     " + part)

    def __exit__(self, kind, *_):
        if kind is None:
            print(f"     [{time.perf_counter() - self.started:.2f} s]\n")


def calls():
    with Step("3. send a function to gpu and call it") as say:
        greet = rh.function(work.greet).to("gpu")
        say("greet = rh.function(work.greet).to('gpu')", f"greet('Ada') -> {greet('Ada')!r}")
    return greet


def warm_calls():
    with Step(f"6. {WARM_CALLS} warm no-op calls, one after the other, over two daemons") as say:
        nothing = rh.function(work.nothing).to("gpu")
        for _ in range(200):
            nothing()
        times = []
        for _ in range(WARM_CALLS):
            started = time.perf_counter_ns()
            nothing()
            times.append((time.perf_counter_ns() - started) / 1000)
        cuts = statistics.quantiles(times, n=100)
        say(f"p50 {statistics.median(times):.0f} us, p99 {cuts[98]:.0f} us")


def packages():
    with Step("4. a function that needs a package, in an env of its own on gpu") as say:
        try:
            env = rh.env(name="words", reqs=["humanize"])
            speak = rh.function(work.speak).to("gpu", env=env)
        except rh.EnvError as error:
            say("the env could not be built; without network for packages that is expected:")
            say(str(error).splitlines()[0], "the rest of the demo goes on without it")
            return
        say("env=rh.env(name='words', reqs=['humanize'])", f"speak(3661) -> {speak(3661)!r}")
    with Step("5. the same env once more: it is there") as say:
        say(f"second use -> {rh.function(work.speak).to('gpu', env=env)(61)!r}")


def state_and_streams():
    with Step("7. a class with state on gpu") as say:
        counter = rh.module(work.Counter).to("gpu")(10)
        say(f"counter.add(5) -> {counter.add(5)}", f"counter.add(1) -> {counter.add(1)}")
        say(f"counter.double -> {counter.double}")
    with Step("8. a generator on cloud, streamed, with its prints") as say:
        for loss in rh.function(work.train).to("cloud")(3):
            say(f"  got {loss}")
    with Step("9. a map over two nodes") as say:
        where = rh.function(work.where).to(["gpu", "cloud"])
        results = list(where.map(range(40), concurrency=8))
        say(f"squares in order: {[square for _, square in results][:8]} …")
        for node, count in sorted(collections.Counter(node for node, _ in results).items()):
            say(f"{count} on {node}")


def cancellation():
    with Step("10. a run is cancelled, and tidies up after itself") as say:
        path = pathlib.Path("open-file").absolute()
        run = rh.function(work.tidy).to("gpu").run(str(path))
        lines = run.logs(follow=True)
        say(f"run {run.id} on {run.host}: {run.status}, it says {next(lines).strip()!r}")
        run.cancel()
        say(f"run.cancel() -> {run.status}, its file is {'left' if path.exists() else 'gone'}")


def loss_of_a_node():
    with Step("11. cloud is killed in the middle of a call; its receipt tells what became of it") as say:
        job = iter(rh.function(work.long_job).to("cloud")())
        say(f"cloud says {next(job)!r}; kill -9 {PIDS['cloud']}")
        os.kill(PIDS["cloud"], signal.SIGKILL)
        try:
            next(job)
        except rh.PeerLost as error:
            say(f"{type(error).__name__}: {error}")
            call = error.call_id
        else:
            raise SystemExit("the call of a dead node returned")
        cloud = pathlib.Path(os.environ["RHD_HOME"]).with_name("cloud")
        up = [os.environ["RHD_DEMO_BINARY"], "--home", cloud, "up", "--detach", "--name", "cloud"]
        subprocess.run(up, check=True, capture_output=True)
        say("cloud is up again", f"rh.run({call!r}).status -> {receipt(call)}")


def receipt(call):
    """Waits until somebody can tell."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return rh.run(call).status
        except rh.PeerLost:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def edit(greet):
    with Step("12. change one line of work.py, and call again") as say:
        source = pathlib.Path(work.__file__)
        source.write_text(source.read_text().replace('"Hello, ', '"Good morning, '))
        started = time.perf_counter()
        say(f"greet('Ada') -> {greet('Ada')!r}")
        say(f"edited file to new result in {time.perf_counter() - started:.2f} s")


def folders():
    # Outside the project, which goes with every function.
    here = pathlib.Path(tempfile.mkdtemp())
    for i in range(FILES):
        (here / f"{i:04}.txt").write_text(f"line of file {i}\n" * 100)
    with Step(f"13. a folder of {FILES} files: to gpu, from gpu to cloud; one file changes") as say:
        folder = rh.folder(str(here))
        started = time.perf_counter()
        there = folder.to("gpu")
        took = time.perf_counter() - started
        say(f"there = rh.folder(here).to('gpu') -> {there.last.written} files in {took:.2f} s")
        copy = there.to("cloud")
        say(f"copy = there.to('cloud')  # not by here -> {copy.last.written} files")
        lines = rh.function(work.lines).to("cloud")
        say(f"lines(copy) -> {lines(copy)}")
        with (here / "0000.txt").open("a") as file:
            file.write("one more\n")
        started = time.perf_counter()
        written = [folder.to("gpu").last.written, there.to("cloud").last.written]
        took = time.perf_counter() - started
        say(f"one more line, brought to both -> {written} files in {took * 1000:.0f} ms")
        say(f"lines(copy) -> {lines(copy)}")


def versions():
    with Step("14. a blob with a name on gpu, and its versions") as say:
        blob = rh.blob([1.0, 2.0], name="weights", system="gpu")
        blob.write([3.0, 4.0])
        say(f"rh.load('weights').fetch() -> {rh.load('weights').fetch()}")
        say(f".history() -> versions {[version.number for version in blob.history()]}")
        blob.rollback(1)
        say(f".rollback(1), .fetch() -> {rh.load('weights').fetch()}")


if __name__ == "__main__":
    greet = calls()
    packages()
    warm_calls()
    state_and_streams()
    cancellation()
    loss_of_a_node()
    edit(greet)
    folders()
    versions()
