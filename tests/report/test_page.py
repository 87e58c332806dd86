"""The page and report.json: complete, valid, self-contained, and saying what the evaluation says."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from made_up import evaluation, record

from hodsim.report import figures, summary, write_report
from hodsim.report.page import CAPTIONS, render_page, warnings

OFFLINE = {"snapshots_s": 12.0, "training_s": 8.0}
VOID = {"meta", "br", "img", "input", "hr", "link", "source", "col"}
PROMISED = {
    "": {"dofs", "latent", "full", "models", "offline", "break_even_steps", "environment"},
    "full": {"ms_per_step", "newton_iterations"},
    "model": {
        "name", "r", "elasticity", "tip_error", "position_error", "velocity_error", "energy_error", "ms_per_step", "newton_iterations",
        "failed_steps", "speedup",
    },
}  # fmt: skip


class Page(HTMLParser):
    """Checks nesting while it reads, and gathers addresses and text."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.addresses, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "poster", "data", "xlink:href", "srcset") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def page(made=None, **options) -> Page:
    return Page(render_page(made or evaluation(), offline=OFFLINE, title="Beam", command="hodsim beam", **options))


def test_the_files_are_written_and_the_page_needs_nothing_else(tmp_path):
    seen = []
    files = write_report(evaluation(), offline=OFFLINE, directory=tmp_path / "new", progress=lambda *now: seen.append(now))
    assert seen[-1] == (6, 6)
    assert all(file.stat().st_size > 1000 for file in files)
    text = files.html.read_text(encoding="utf-8")
    addresses = Page(text).addresses
    assert {address[:15] for address in addresses if not address.startswith("#")} == {"data:image/png;", "data:video/mp4;"}
    assert not re.findall(r"url\((?!#)|@import|<script|<link", text)
    assert len(text) < 5e6
    assert json.loads(files.json.read_text(encoding="utf-8")) == summary(evaluation(), offline=OFFLINE) | {
        "environment": json.loads(files.json.read_text(encoding="utf-8"))["environment"]
    }


def test_json_has_the_promised_keys_and_figures():
    content = summary(evaluation(), offline=OFFLINE)
    assert PROMISED[""] <= content.keys() and PROMISED["full"] <= content["full"].keys()
    network, locked, failing = content["models"]
    for model in content["models"]:
        assert PROMISED["model"] <= model.keys()
        assert model["tip_error"].keys() == {"mean", "median", "max"} and model["ms_per_step"].keys() == {"p50", "p95"}
    assert content["offline"] == OFFLINE and content["dofs"] == 1542 and content["latent"] == 6
    assert network["tip_error"] == {"mean": 0.02, "median": 0.02, "max": 0.03} and network["speedup"] == 5
    assert network["velocity_error"] == 0.04 and network["energy_error"] == 0.01
    assert content["break_even_steps"] == 10_000
    assert failing["failed_steps"] == 7 and content["failures"][0]["reason"].startswith("it was made to fail")
    assert {"python", "torch", "numpy", "numba", "processor", "cores", "threads", "platform", "date"} <= content["environment"].keys()


def test_json_is_valid_when_nothing_could_be_measured():
    never = record("hopeless", 6, 0.5, milliseconds=np.nan, is_network=True)
    content = summary(evaluation(never), offline=OFFLINE)
    text = json.dumps(content, allow_nan=False)
    assert '"speedup": null' in text and content["break_even_steps"] is None
    assert "no step of the reduced model was completed" in page(evaluation(never)).text


@pytest.mark.parametrize(("error", "said"), [(0.0068, "118 times as much"), (0.25, "3.2 times as much")])
def test_how_much_more_the_rival_errs_is_said_without_powers_of_ten(error, said):
    models = record("HoD-Net", 6, error, milliseconds=0.5, is_network=True), record("PCA 6", 6, 0.8, milliseconds=0.4)
    assert said in page(evaluation(*models)).text


def test_a_great_speed_up_is_said_without_powers_of_ten():
    fast = record("HoD-Net", 6, 0.02, milliseconds=0.5 / 1234, is_network=True), record("PCA 6", 6, 0.8, milliseconds=0.4)
    assert re.search(r"\d\W\d{3} times as long", page(evaluation(*fast)).text)


def test_offline_cost_that_is_missing_is_refused():
    with pytest.raises(ValueError, match="offline lacks training_s"):
        summary(evaluation(), offline={"snapshots_s": 1.0})


def test_the_first_screen_answers_how_accurate_how_fast_and_when_not():
    text = page().text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    first = re.sub(r"\s+", " ", text[: text.index("All models")])
    for answer in ("2.0 % mean tip error", "0.500 ms a step", "PCA 6, a linear subspace of the same size: 80 %, 40 times as much",
                   "5 times as long", "earned back after 10 000 steps", "Beyond tip displacements of 0.5"):  # fmt: skip
        assert answer in first
    assert "Rough figures" not in text and "Rough figures" in page(rough=True).text


def test_failures_are_listed_and_their_reasons_escaped():
    assert "it was made to fail <&>" in page().text
    failing = record("HoD-Net", 6, 0.02, milliseconds=0.5, is_network=True, lost=3)
    assert "failed in 1 of 5 load cases, losing 3 steps" in warnings(evaluation(failing))[0]


def test_a_better_rival_is_named():
    network, rivals = (
        record("HoD-Net", 6, 0.1, milliseconds=5, is_network=True),
        [("PCA 12", 0.04, 2), ("PCA 20", 0.01, 3), ("PCA 30", 0.01, 6)],
    )
    made = evaluation(network, *(record(name, int(name[4:]), scale, milliseconds=ms) for name, scale, ms in rivals))
    assert "PCA 12 and PCA 20 are both more accurate and faster in this run." in warnings(made)
    assert not any("more accurate" in text for text in warnings(evaluation()))


def test_a_slower_model_is_called_slower():
    text = page(evaluation(record("slow", 6, 0.1, milliseconds=5.0))).text
    assert "2 times slower" in text and "saves no time" in text


@pytest.mark.parametrize("name", CAPTIONS)
def test_every_figure_is_one_svg_with_all_its_models(name):
    svg = getattr(figures, name)(evaluation())
    reader = Page(svg)
    assert svg.startswith("<svg") and svg.count("<svg") == 1
    assert "HoD-Net" in reader.text and "nan" not in re.sub(r"<style.*?</style>", "", svg.lower())


def test_figures_survive_a_single_exact_model_and_a_single_case():
    """Zero errors have no logarithm, and one point has no extent."""
    made = evaluation(record("exact", 6, 0.0, milliseconds=1.0))
    assert page(made).text.count("exact") > 3


def test_the_page_says_what_the_lights_of_the_indicator_are_worth():
    made = evaluation(record("HoD-Net", 6, 0.02, milliseconds=0.5, is_network=True), record("PCA 6", 6, 0.8, milliseconds=0.4))
    lights = summary(made, offline=OFFLINE)["models"][0]["indicator"]
    head = made.headline
    for level, light in enumerate(("green", "amber", "red")):
        shown = head.deviation[head.light == level]
        assert lights[light]["share"] == pytest.approx(len(shown) / head.light.size, rel=1e-5)
        assert lights[light]["beyond"] == pytest.approx([(shown > 0.03).mean(), (shown > 0.1).mean()], rel=1e-5)
    assert lights["red"]["beyond"][1] == 1 and lights["green"]["beyond"][1] == 0
    assert summary(made, offline=OFFLINE)["models"][1]["indicator"] == {}
    page = render_page(made, offline=OFFLINE, title="", command="hodsim beam")
    assert "its light was green in" in page and "indicator took it for: a dot a step" in page
    without = evaluation(record("PCA 6", 6, 0.8, milliseconds=0.4))
    assert "its light was" not in render_page(without, offline=OFFLINE, title="", command="hodsim beam")
