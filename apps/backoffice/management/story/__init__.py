"""
The main job, told from start to end: money in, moved, paid out and proved.

It runs over the API, with real workers, the sandbox bank and a receiver of its own; what staff do
it does as staff, by the operations the back office calls.
"""
