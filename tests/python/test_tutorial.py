"""README's tutorial, as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rhd as rh
from conftest import Node, until

README = Path(__file__).parents[2] / "README.md"
RESULT = "{'per hour': 20.0, 'start': 3.0}"


def snippets(heading: str) -> list[str]:
    """The Python in a section."""
    section = README.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def written(program: Path) -> str:
    """What a program writes that is a client of its own, in its own folder."""
    env = {**os.environ, "PYTHONPATH": str(Path(rh.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, program.name],
        cwd=program.parent,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_result_is_read_when_those_who_made_it_are_gone(
    fresh: Callable[..., Node], tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    laptop, box, gpu = (fresh(n, HOME=str(tmp_path / n)) for n in ("laptop", "box", "gpu"))
    programs = [tmp_path / "trips.py", tmp_path / "later.py"]
    for program, text in zip(programs, snippets("A data set, on three machines"), strict=True):
        program.write_text(text)
    assert written(programs[0]) == f"198 trips: {RESULT}"
    assert (tmp_path / "box" / "trips" / "year=2024").is_dir()
    record = laptop.home / "runs" / "records" / rh.run("fares").id
    until(record.exists, "the record is copied")
    box.kill()
    gpu.kill()
    assert written(programs[1]) == RESULT
