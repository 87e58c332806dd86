"""Every command under faults: killed, interrupted, out of disk or memory, handed damaged files and numbers that are none.

Run by hand, `python -m tests.faults` from the root of the tree, it goes through all of them and prints a count; a sample is among the tests.
What has to hold: nothing that was saved is lost, the same command continues, and what goes wrong ends with one sentence and a status.
"""
