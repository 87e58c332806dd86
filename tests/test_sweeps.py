"""Sweeps on processes and on a Dask cluster: the same result, whoever is killed and whenever."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import wait

import pytest

from bodies import small_beam
from hodsim.snapshots import bending_loads, generate_snapshots, sweep
from hodsim.snapshots.processes import processes

SWEEP_SCRIPT = """
import sys
from bodies import small_beam
from hodsim.snapshots import bending_loads, generate_snapshots, sweep

if __name__ == "__main__":
    full = small_beam()
    cases = sweep(train=int(sys.argv[2]))
    made = generate_snapshots(
        full, bending_loads(full), cases, dt=0.01, steps=60, directory=sys.argv[1], workers=int(sys.argv[3]),
        scheduler=sys.argv[4] if len(sys.argv) > 4 else None, progress=lambda done, total: print(done, flush=True),
    )
    print(made.digest)
"""


@pytest.fixture
def start(tmp_path):
    """Start a sweep of small bodies as a process of its own, in a session of its own."""
    script = tmp_path / "sweep.py"
    script.write_text(SWEEP_SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
    started = []

    def start(directory, *arguments):
        command = [sys.executable, script, tmp_path / directory, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_killed_at_random_twenty_times_it_ends_the_same(tmp_path):
    """The process that writes is killed without a word, by its own hand, a random time after its sweep began."""
    script = """
import os, random, signal, sys, threading, time
from pathlib import Path
from bodies import small_beam
from hodsim.snapshots import bending_loads, generate_snapshots, sweep

full, directory = small_beam(), Path(sys.argv[1])
shapes = bending_loads(full)
def go(directory):
    return generate_snapshots(full, shapes, sweep(train=int(sys.argv[2])), dt=0.01, steps=20, directory=directory)

expected, rng, kills, midway = go(directory / "whole").digest, random.Random(0), 0, 0
while kills < 20:
    child = os.fork()
    if child == 0:
        delay = rng.uniform(0.0, 0.15)
        threading.Thread(target=lambda: (time.sleep(delay), os.kill(os.getpid(), signal.SIGKILL))).start()
        go(directory / "cut")
        time.sleep(10)
    rng.random()
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    kills += 1
    done = len(list((directory / "cut").glob("*.h5")))
    midway += 0 < done < int(sys.argv[2])
    if done == int(sys.argv[2]) and kills < 20:
        for file in (directory / "cut").glob("*.h5"):
            file.unlink()
print(expected, go(directory / "cut").digest, len(list((directory / "cut").glob(".*.tmp"))), midway)
"""
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", script, tmp_path, "60"], capture_output=True, text=True, env=environment, timeout=250)
    assert run.returncode == 0, run.stderr
    expected, digest, left, midway = run.stdout.split()
    assert digest == expected and left == "0"
    assert int(midway) >= 5


def expected(tmp_path, cases):
    full = small_beam()
    return generate_snapshots(full, bending_loads(full), sweep(train=cases), dt=0.01, steps=60, directory=tmp_path / "alone").digest


def finished(directory):
    return len(list(directory.glob("*.h5")))


def until(condition, *processes):
    deadline = time.monotonic() + 100
    while not condition():
        ended = [process for process in processes if process.poll() is not None]
        assert not ended and time.monotonic() < deadline, [process.communicate() for process in ended]
        time.sleep(0.02)


def children(process):
    """Processes of its session: worker processes and what multiprocessing runs beside them."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,sid=,args="], capture_output=True, text=True).stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in listed]
    return [int(pid) for pid, session, arguments in rows if int(session) == process.pid and int(pid) != process.pid and "spawn_main" in arguments]


@pytest.mark.skipif(os.name == "nt", reason="kills as only POSIX does")
def test_killed_workers_and_a_killed_parent_lose_no_finished_case(start, tmp_path):
    cases, directory = 100, tmp_path / "cut"
    run = start("cut", cases, 2)
    until(lambda: finished(directory) >= 1, run)
    os.kill(children(run)[0], signal.SIGKILL)
    _, errors = run.communicate(timeout=100)
    assert "a worker process was killed" in errors
    kept = finished(directory)
    assert 1 <= kept < cases
    run = start("cut", cases, 2)
    until(lambda: finished(directory) > kept, run)
    workers = children(run)
    assert len(workers) == 2
    run.kill()
    run.wait()
    until(lambda: not children(run))  # nobody goes on for a parent that is gone
    assert finished(directory) < cases
    run = start("cut", cases, 2)
    output, errors = run.communicate(timeout=100)
    assert run.returncode == 0, errors
    assert output.split()[-1] == expected(tmp_path, cases)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 128 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], capture_output=True) if os.name == "posix" else None
    if mounted is None or mounted.returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_in_the_middle_of_a_sweep_stops_it_in_one_sentence(start, small_disk, tmp_path):
    run = start("disk/cut", 40, 2)
    _, errors = run.communicate(timeout=100)
    assert run.returncode != 0
    assert "could not be saved: No space left on device; what was there before is unchanged" in errors.splitlines()[-1]
    kept = finished(small_disk / "cut")
    assert 1 <= kept < 40 and not list((small_disk / "cut").glob(".*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    run = start("disk/cut", 40, 2)
    output, errors = run.communicate(timeout=100)
    assert run.returncode == 0, errors
    assert output.split()[0] == str(kept) and output.split()[-1] == expected(tmp_path, 40)


@pytest.fixture
def dask(tmp_path):
    """Start a part of a cluster, `scheduler` or `worker`, as its documentation says."""
    pytest.importorskip("distributed")
    started, environment = [], os.environ | {"PYTHONPATH": os.path.dirname(__file__), "OMP_NUM_THREADS": "1"}

    def dask(*arguments):
        with open(tmp_path / "dask.log", "a") as log:
            started.append(subprocess.Popen([sys.executable, "-m", "dask", *arguments], stdout=log, stderr=log, env=environment, cwd=tmp_path))
        return started[-1]

    yield dask
    for process in started:
        process.kill()
        process.wait()


def test_a_dask_cluster_gives_the_same_though_a_worker_and_then_the_scheduler_are_killed(start, dask, tmp_path):
    cases, directory, where = 70, tmp_path / "cut", tmp_path / "scheduler.json"

    def serve():
        where.unlink(missing_ok=True)
        scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(where))
        until(where.exists, scheduler)
        address = json.loads(where.read_text())["address"]
        return scheduler, [dask("worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny") for _ in range(2)], address

    scheduler, workers, address = serve()
    run = start("cut", cases, 1, address)
    until(lambda: finished(directory) >= 2, run)
    workers[0].kill()  # the other one takes over
    kept = finished(directory)
    until(lambda: finished(directory) >= kept + 3, run)
    scheduler.kill()
    _, errors = run.communicate(timeout=100)
    assert run.returncode != 0 and "the Dask scheduler at" in errors.splitlines()[-1]
    assert finished(directory) < cases
    _, _, address = serve()
    run = start("cut", cases, 1, address)
    output, errors = run.communicate(timeout=100)
    assert run.returncode == 0, errors
    assert output.split()[-1] == expected(tmp_path, cases)


def test_a_scheduler_that_is_not_there_is_named(tmp_path, monkeypatch):
    cluster = pytest.importorskip("hodsim.snapshots.cluster")
    monkeypatch.setattr(cluster, "WAIT", 1)
    full = small_beam()
    with pytest.raises(ConnectionError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        generate_snapshots(full, bending_loads(full), sweep(train=1), dt=0.01, steps=2, directory=tmp_path, scheduler="tcp://127.0.0.1:9")


def sent_in_part(_) -> bytes:
    """A task whose worker is killed while it sends the result."""
    threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes(2**28)


@pytest.mark.skipif(os.name == "nt", reason="kills as only POSIX does")
def test_a_worker_that_is_killed_while_it_sends_a_result_is_noticed():
    started = time.monotonic()
    with pytest.raises(ChildProcessError, match="a worker process was killed"), processes(2, "key", None) as engine:
        futures = [engine.executor.submit(sent_in_part, 0)]
        while time.monotonic() < started + 60:
            wait(futures, timeout=0.1)
            engine.check()
            if futures[0].done():
                futures[0].result()
