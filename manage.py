#!/usr/bin/env python
import os
import sys

from django.core.management import execute_from_command_line

# What a shell says of a process that ^C ended.
ENDED_BY_CTRL_C = 130

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    try:
        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        # An operator stopped it, which is no fault: a traceback would look like one.
        sys.stderr.write("Stopped.\n")
        sys.exit(ENDED_BY_CTRL_C)
