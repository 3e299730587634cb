"""Steps of a client's script: each is one line of output, and what failed is shown whole."""

import os
import sys
import time
import traceback

_steps = []


def step(name):
    """A step, named as what it shows; `finish` runs all of them in their order."""

    def keep(function):
        _steps.append((name, function, False))
        return function

    return keep


def step_of_pods(name):
    """The same, where a node runs pods."""

    def keep(function):
        _steps.append((name, function, True))
        return function

    return keep


def eventually(what, condition, seconds=60):
    """Waits until the condition holds, and answers what it answered."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} seconds")
        time.sleep(0.1)


def finish(client):
    """Runs the steps; the exit status tells whether each succeeded."""
    print(client, flush=True)
    failed = 0
    for name, function, needs_pods in _steps:
        if needs_pods and os.environ.get("PODS") != "yes":
            print(f"  skipped {name} (no node runs pods)", flush=True)
            continue
        try:
            function()
            print(f"  ok      {name}", flush=True)
        except Exception:
            failed += 1
            print(f"  FAILED  {name}:\n{traceback.format_exc()}", flush=True)
    # Threads of a failed step must not keep the program alive.
    sys.stdout.flush()
    os._exit(1 if failed else 0)
