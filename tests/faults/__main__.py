"""All trials, or those whose name holds one of some words: python -m tests.faults [--times N] [WORD ...]"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from .study import Study
from .trials import everything

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("words", nargs="*", default=[""], help="only trials that have one of these in their name")
parser.add_argument("--times", type=int, default=3, help="of what is drawn at random")
options = parser.parse_args()
failed, counts, started = [], Counter(), time.monotonic()
with tempfile.TemporaryDirectory() as folder:
    study = Study(Path(folder) / "study")
    trials = [trial for trial in everything(study, options.times) if any(word in trial.name for word in options.words)]
    for number, trial in enumerate(trials, 1):
        try:
            faults = trial.faults()
        except Exception as error:
            faults = [f"{type(error).__name__}: {error}"]
        counts["passed" if not faults else "failed"] += 1
        mark = "ok    " if not faults else "FAILED"
        print(f"{number:4d}/{len(trials)} {mark} {trial.name}" + "".join(f"\n            {fault}" for fault in faults), flush=True)
print(f"{counts['passed']} passed, {counts['failed']} failed of {len(trials)} trials in {time.monotonic() - started:.0f} s")
raise SystemExit(bool(counts["failed"]))
