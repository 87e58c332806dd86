"""An hour of simulated use, or as many minutes as are named: python -m tests.soak [MINUTES]"""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from .session import Session, verdict

MEMORY, SLOWER = 0.02, 0.1  # that may be gained; of the time of a step, a machine with other work is no exact judge

number = int(sys.argv[1]) if len(sys.argv) > 1 else 60
with tempfile.TemporaryDirectory() as folder:
    session, minutes = Session(Path(str(files("hodsim.meshes") / "beam.hod")), Path(folder)), []
    for minute in session.minutes(number):
        minutes.append(minute)
        print(f"minute {len(minutes):3d}: {minute.steps} steps, {1e3 * minute.seconds:.3f} ms a step, {minute.memory / 2**20:.1f} MB, "
              f"{minute.stops} stops", flush=True)  # fmt: skip
found = verdict(minutes)
print("done: " + ", ".join(f"{name.strip('_')} {count}" for name, count in sorted(session.done.items())))
print(f"{sum(m.steps for m in minutes)} steps, none of them NaN; " + ", ".join(f"{name} {change:+.2%}" for name, change in found.items()))
raise SystemExit(found["memory"] > MEMORY or found["seconds a step"] > SLOWER)
