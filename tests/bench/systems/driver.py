"""The conversation of a system's driver with the harness: one JSON line each way."""

import contextlib
import json
import os
import sys


def serve(version, cases):
    """Answers requests until standard input ends; `cases` take their fields by name."""
    # What the system itself prints must not get between the lines.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps({"ready": True, "version": version, "cases": sorted(cases)}), file=out)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            found = cases[request.pop("case")](**request)
        except Exception as e:
            found = {"error": f"{type(e).__name__}: {e}"}
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(found), file=out)
