"""Programs that are run to their end."""

import subprocess


def run(*command, **more):
    """What a command writes to stdout; its failure says why."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-3:]
        raise RuntimeError(f"{command[0]}: {' / '.join(said) or done.returncode}")
    return done.stdout
