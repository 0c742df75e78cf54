from dataclasses import replace

import numpy as np
import pytest

from audit.dataset import Dataset, Sensitive, written_out
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.fairness.count import MOST_CLASSES, control_features, count, count_strata, outcomes


def dataset(classes, favourable=None, n=300, seed=0):
    random = np.random.default_rng(seed)
    parts = [
        Sensitive(name=name, groups=groups, codes=random.integers(0, len(groups), n))
        for name, groups in (("sex", ("F", "M")), ("race", ("A", "B", "unknown")), ("site", ("s", "t")))
    ]
    return Dataset(
        inputs=np.zeros((n, 1), np.float32),
        labels=random.integers(0, len(classes), n),
        modality="tabular",
        classes=classes,
        favourable=favourable,
        sensitive={part.name: part for part in parts[:2]},
        controls={"site": parts[2]},
    ), random.integers(0, len(classes), n)


def test_the_favourable_class_alone_is_counted_and_needs_no_name():
    data, predicted = dataset(("low", "mid", "high"), favourable=2)
    found = outcomes(data, predicted, ())
    assert (found.names, found.favourable, found.settings(0)) == (("high",), True, {})
    (cells,) = count(data, found, 1, 10)[0]
    women = data.sensitive["sex"].codes == 0
    for y, p in np.ndindex(2, 2):
        slowly = (women & ((data.labels == 2) == y) & ((predicted == 2) == p)).sum()
        assert cells.table[0, y, p] == slowly


def test_without_a_favourable_class_each_is_set_against_the_rest():
    data, predicted = dataset(("low", "mid", "high"))
    found = outcomes(data, predicted, ())
    items = count(data, found, 2, 10)[2]
    assert [item.settings for item in items] == [{"class": "low"}, {"class": "mid"}, {"class": "high"}]
    for place, item in enumerate(items):
        assert item.table[:, :, 1].sum() == (predicted == place).sum()
        assert item.table[:, 1].sum() == (data.labels == place).sum()
        assert item.table.sum() == len(data)


def test_named_classes_are_looked_at_even_where_one_is_favourable():
    data, predicted = dataset(("low", "mid", "high"), favourable=2)
    found = outcomes(data, predicted, ("mid", "low"))
    assert (found.names, found.favourable, found.left_out) == (("low", "mid"), False, 1)


def test_of_many_classes_the_most_frequent_are_looked_at():
    data, predicted = dataset(tuple(f"c{i}" for i in range(40)), n=4000)
    labels = np.where(data.labels < 15, data.labels, data.labels % 8)
    found = outcomes(replace(data, labels=labels), predicted, ())
    assert len(found.names) == MOST_CLASSES
    assert set(found.names) >= {f"c{i}" for i in range(15)}
    assert found.left_out == 40 - MOST_CLASSES


def test_an_output_without_a_name_is_counted_too():
    data, predicted = dataset(("low", "mid"))
    found = outcomes(data, predicted * 3, ())
    assert found.names == ("low", "mid", "output 2", "output 3")


def test_what_cannot_be_looked_at():
    data, predicted = dataset(("no", "yes"))
    with pytest.raises(NotApplicable, match="no outcome is named as favourable"):
        outcomes(data, predicted, ())
    with pytest.raises(ConfigError, match="names 'yse', which is no class; the nearest is 'yes'"):
        outcomes(data, predicted, ("yse",))
    with pytest.raises(
        ConfigError, match="neither a sensitive feature nor a control of the data; the nearest"
    ):
        control_features(data, ("sit",))


def test_strata_are_counted_by_group_and_control():
    data, predicted = dataset(("no", "yes"), favourable=1)
    found = outcomes(data, predicted, ())
    strata = count_strata(data, found, count(data, found, 2, 10), ("site", "race"))
    assert [held[0].cells.name for held in strata] == ["sex"]
    ((item,),) = strata
    assert item.control == "site x race"
    assert len(item.strata) == 6
    for g, (s, stratum) in ((g, pair) for g in range(2) for pair in enumerate(item.strata)):
        inside = data.sensitive["sex"].codes == g
        for part in (data.controls["site"], data.sensitive["race"]):
            inside &= part.codes == part.groups.index(stratum[part.name])
        assert item.rows[g, s] == inside.sum()
        assert item.selected[g, s] == (inside & (predicted == 1)).sum()


def test_no_control_no_strata():
    data, predicted = dataset(("no", "yes"), favourable=1)
    found = outcomes(data, predicted, ())
    assert count_strata(data, found, count(data, found, 1, 10), ()) == []


def test_the_most_frequent_classes_are_those_of_most_people():
    data, predicted = dataset(tuple(f"c{i}" for i in range(40)), n=4000)
    people = np.where(data.labels % 2 == 1, 50, 1)
    weighted = Dataset(**{**vars(data), "people": people})
    assert outcomes(weighted, predicted, ()).names == tuple(f"c{i}" for i in range(1, 40, 2))


def test_cells_and_strata_count_people():
    data, predicted = dataset(("no", "yes"), favourable=1)
    people = np.random.default_rng(4).integers(1, 20, len(data))
    weighted = Dataset(**{**vars(data), "people": people})
    found, whole = outcomes(weighted, predicted, ()), written_out(weighted)
    each = outcomes(whole, np.repeat(predicted, people), ())
    mine, theirs = count(weighted, found, 2, 10), count(whole, each, 2, 10)
    for one, other in zip(mine, theirs, strict=True):
        assert np.array_equal(one[0].table, other[0].table)
    held = zip(
        count_strata(weighted, found, mine, ["site"]),
        count_strata(whole, each, theirs, ["site"]),
        strict=True,
    )
    for one, other in held:
        assert np.array_equal(one[0].selected, other[0].selected)
        assert np.array_equal(one[0].rows, other[0].rows)


def test_nobody_has_no_outcomes():
    data, predicted = dataset(("no", "yes"), favourable=1)
    nobody = replace(data, people=np.zeros(300, np.int64))
    with pytest.raises(NotEvaluable, match="0 people"):
        outcomes(nobody, predicted, ())
