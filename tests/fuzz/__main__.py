"""So many inputs in all, of every kind or of those whose name holds a word: python -m tests.fuzz [NUMBER] [WORD]"""

import argparse
import tempfile
import time
from pathlib import Path

from .seeds import kinds
from .trial import apart

BATCH = 1000

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("number", nargs="?", type=int, default=100_000)
parser.add_argument("word", nargs="?", default="")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
faults, done, started = 0, 0, time.monotonic()
with tempfile.TemporaryDirectory() as folder:
    every = [kind for kind in kinds(Path(folder)) if options.word in kind.name]
    batches = max(1, round(options.number / BATCH / len(every)))
    for kind in every:
        mine = 0
        for batch in range(batches):
            found = apart(kind, BATCH, options.seed + batch)
            done += BATCH
            if found:
                mine += 1
                print(found, flush=True)
                if mine >= 3:
                    break
        faults += mine
        print(f"{kind.name:<14} {done} inputs so far, {mine} faults, {time.monotonic() - started:.0f} s", flush=True)
print(f"{done} inputs, {faults} faults in {time.monotonic() - started:.0f} s")
raise SystemExit(bool(faults))
