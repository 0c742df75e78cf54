"""Columns of predictions: decisions or scores, told apart by what they hold; see test_read for labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audit.config import DataSection
from audit.errors import LoadError
from audit.labels import read_decisions, target_values
from audit.readers.raw import Raw, numbered


def decisions(cells, classes=(), threshold=0.5, **fields):
    raw = Raw(path=Path("d.csv"), table=numbered(pd.DataFrame({"p": cells})), target="p")
    return read_decisions(raw, "p", DataSection(path=Path("d.csv"), **fields), classes, threshold)


@pytest.mark.parametrize(
    ("cells", "classes", "decided"),
    [
        (["no", "yes", "no"], (), [0, 1, 0]),
        (["yes", "no"], ("yes", "no"), [0, 1]),
        (["0", "1", "1"], ("no", "yes"), [0, 1, 1]),
        ([0, 1, 1], (), [0, 1, 1]),
        (["1.0", "0.0"], (), [1, 0]),
        (["b", "c"], ("a", "b", "c"), [1, 2]),
    ],
)
def test_names_and_indices_of_classes_are_decisions(cells, classes, decided):
    found = decisions(cells, classes)
    assert found.decided.tolist() == decided
    assert found.scores is None


def test_numbers_between_the_classes_are_scores_of_the_favourable_one():
    found = decisions(["0.25", "0.5", "1"], ("yes", "no"), favourable="yes")
    assert found.scores.tolist() == [0.25, 0.5, 1.0]
    assert found.decided.tolist() == [1, 0, 0]
    assert found.favourable == 0


def test_classes_that_nobody_names_come_from_the_column():
    assert decisions([0.25, 0.75]).classes == ("0", "1")
    assert decisions([0.25, 0.75], favourable="hired").classes == ("not hired", "hired")
    nobody = decisions(["rejected", "rejected"], favourable="hired")
    assert (nobody.classes, nobody.favourable) == (("hired", "rejected"), 0)
    assert nobody.decided.tolist() == [1, 1]


def test_words_are_mapped_to_classes():
    assert decisions(
        ["ja", "nein"], ("no", "yes"), label_map={"ja": "yes", "nein": "no"}
    ).decided.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("cells", "classes", "words"),
    [
        (["0.5", ""], (), "column 'p', row 2: prediction '' is missing"),
        ([0.5, None], (), "row 2: prediction (empty) is missing"),
        (
            ["0.5", "1.5"],
            (),
            "row 2: prediction '1.5' is neither one of the classes '0', '1' nor a score from 0 to 1",
        ),
        (["0.5", "-0.1"], ("no", "yes"), "prediction '-0.1' is neither"),
        (["yes", "maybe"], ("no", "yes"), "prediction 'maybe' is neither one of the classes 'no', 'yes'"),
        (["yes", "0.5"], ("no", "yes"), "row 1: prediction 'yes' is neither"),
        (["0.5", "0.7"], ("a", "b", "c"), "scores, which need two classes; these are 'a', 'b', 'c'"),
        ([str(n) for n in range(60)], (), "holds 60 different predictions"),
    ],
)
def test_what_is_no_prediction_is_named_with_its_row(cells, classes, words):
    with pytest.raises(LoadError) as caught:
        decisions(cells, classes)
    assert words in str(caught.value)


def test_a_favourable_class_that_is_none_is_named():
    with pytest.raises(LoadError, match="favourable = 'yess' is not a class"):
        decisions(["yes", "no"], ("no", "yes"), favourable="yess")


def targets(cells, **fields):
    raw = Raw(path=Path("d.csv"), table=numbered(pd.DataFrame({"p": cells})), target="p")
    return target_values(raw, DataSection(path=Path("d.csv"), **fields))


@pytest.mark.parametrize("cells", [["1.5", " -2", "1e3"], [1.5, -2, 1000], np.array([1.5, -2, 1e3])])
def test_targets_are_the_numbers_that_stand_there(cells):
    found = targets(cells)
    assert found.dtype == np.float64
    assert found.tolist() == [1.5, -2, 1000]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["1", "?", "2"], r"d.csv: column 'p', row 2: target '\?' is missing; .* \(1 of 3 rows\)"),
        (["1", None], "row 2: target .* is missing"),
        ([1.0, np.nan], "row 2: target .* is missing"),
        (["-9", "1"], "row 1: target '-9' is missing"),
        (["1", "dear"], "row 2: target 'dear' is not a finite number"),
        (["1", "inf"], "row 2: target 'inf' is not a finite number"),
    ],
)
def test_a_target_that_is_no_number_is_named_with_its_row(cells, words):
    with pytest.raises(LoadError, match=words):
        targets(cells, missing=("", "?", "-9"))


@pytest.mark.parametrize("fields", [{"favourable": "1"}, {"label_map": {"1": "yes"}}])
def test_a_regression_has_no_classes_to_speak_of(fields):
    with pytest.raises(LoadError, match=f"{next(iter(fields))} speaks of classes"):
        targets(["1", "2"], **fields)
