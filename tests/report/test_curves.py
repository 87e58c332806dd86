"""The numbers of the figures: a table for each of them, the same in CSV and JSON, and the same as in the evaluation."""

import csv
import json

import numpy as np
import pytest
from made_up import evaluation

from hodsim.reduced import Sampling
from hodsim.report import figures
from hodsim.report.curves import curves, write_curves
from hodsim.report.page import CAPTIONS


def samplings() -> list[Sampling]:
    return [Sampling(**{field: 10.0 * (1 + i) for field in Sampling.__dataclass_fields__}) for i in range(3)]


def test_every_figure_has_its_table_and_no_other():
    names = {*CAPTIONS, "reliability", "error_against_elements"}
    assert set(curves(evaluation(), samplings())) == names
    assert all(hasattr(figures, name) for name in names)
    assert "error_against_elements" not in curves(evaluation())


def test_csv_and_json_hold_the_same_numbers(tmp_path):
    tables = curves(evaluation(), samplings())
    content = json.loads(write_curves(tables, tmp_path).read_text())
    assert {file.stem for file in tmp_path.glob("*.csv")} == set(content) == set(tables)
    for name, table in tables.items():
        with open(tmp_path / f"{name}.csv", newline="") as file:
            head, *rows = csv.reader(file)
        assert head == list(content[name]) == list(table)
        for column, (title, values) in enumerate(table.items()):
            assert len(rows) == len(values) == len(content[name][title])
            for row, inside, value in zip(rows, content[name][title], values, strict=True):
                if isinstance(value, str):
                    assert row[column] == inside == value
                elif np.isnan(value):
                    assert row[column] == "" and inside is None
                else:
                    assert float(row[column]) == inside == pytest.approx(float(value), rel=1e-8)


def test_columns_are_those_of_the_evaluation():
    made = evaluation()
    tables = curves(made)
    np.testing.assert_array_equal(tables["tip_paths"]["full worst z"], made.full.tip[made.worst(), :, 2])
    np.testing.assert_array_equal(tables["energy_over_time"]["HoD-Net typical"], made.models[0].energy[made.representative()])
    assert tables["error_against_dimension"]["tip error max"][0] == made.models[0].tip_error.max()
