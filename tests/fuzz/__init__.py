"""Whatever is read from a file, fed with damaged and with ill-meant content: a sentence (ValueError or OSError), never a crash, a hang or a flood.

Run by hand, `python -m tests.fuzz 100000` from the root of the tree tries so many inputs in all; a sample is among the tests.
"""
