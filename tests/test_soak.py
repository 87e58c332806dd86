"""Some seconds of tests/soak, which has an hour: a random person at the viewer leaves no NaN behind, and does everything there is to do."""

from fuzz import seeds
from soak.session import Minute, Session, verdict


def test_a_random_person_leaves_nothing_but_numbers(tmp_path):
    (tmp_path / "small.hod").write_bytes(seeds._model(tmp_path))
    session = Session(tmp_path / "small.hod", tmp_path)
    (minute,) = session.minutes(1)
    assert minute.steps > 1000
    assert len(session.done) >= 8


def test_the_verdict_sees_growth():
    flat = [Minute(1e-3, 10**8, 0, 1) for _ in range(12)]
    growing = [Minute(1e-3 * (1 + i / 10), 10**8 + i * 10**6, 0, 1) for i in range(12)]
    assert verdict(flat) == {"memory": 0.0, "seconds a step": 0.0}
    assert verdict(growing)["memory"] > 0.05 and verdict(growing)["seconds a step"] > 0.5
