"""
python -m bench._child <module>: a part of a benchmark in a process of its own.

The first line of standard input is its order, as JSON. The module's `prepare(order)` sets up and
warms up, and returns what is to be measured; that runs once the next line arrives, and what it
returns is printed as JSON. `bench.children` is the other end.
"""

import importlib
import json
import os
import sys

if __name__ == "__main__":
    import django

    from config.memory import settle

    # What is logged meanwhile goes where a person sees it: only answers go to the parent.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    django.setup()
    run = importlib.import_module(sys.argv[1]).prepare(json.loads(sys.stdin.readline()))
    # As every process that serves does once it has started.
    settle()
    print("ready", file=answers, flush=True)
    sys.stdin.readline()
    print(json.dumps(run()), file=answers, flush=True)
