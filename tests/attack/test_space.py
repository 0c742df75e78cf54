"""What an attack may change: units, ranges, and what stays fixed."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack.space import space
from audit.dataset import Dataset, Feature
from audit.errors import NotApplicable, NotEvaluable


def model(**fields):
    from audit.model import Model

    return Model(module=nn.Identity(), device=torch.device("cpu"), **fields)


def images(low=0.0, high=1.0, modality="image"):
    inputs = np.linspace(low, high, 12, dtype=np.float32).reshape(3, 1, 2, 2)
    return Dataset(inputs=inputs, labels=np.zeros(3, np.int64), modality=modality, classes=("a", "b"))


def table(features=(), columns=None):
    columns = [[0, 2, 4, 6], [1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 1, 0]] if columns is None else columns
    inputs = np.array(columns, np.float32).T.copy()
    labels = np.zeros(len(inputs), np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("a", "b"), features=features)


FEATURES = (
    Feature(name="income", columns=(0,)),
    Feature(name="year", columns=(1,)),
    Feature(name="job", kind="categorical", columns=(2, 3), categories=("x", "y")),
)


def test_images_move_in_raw_units_inside_the_range():
    found = space(model(input_range=(0.0, 255.0)), images(0, 255))
    assert (found.scale, float(found.unit.min()), float(found.unit.max())) == ("input", 1, 1)
    assert (found.low.min(), found.high.max()) == (0, 255)
    np.testing.assert_allclose(found.epsilons, (2, 4, 8))
    assert "0 to 255" in found.caveats[0]


@pytest.mark.parametrize("modality", ["image", "series"])
def test_without_a_range_the_sentence_says_what_to_set(modality):
    with pytest.raises(NotApplicable, match=r"set \[model\] input_range"):
        space(model(), images(modality=modality))


def test_data_outside_the_stated_range_are_refused():
    with pytest.raises(NotEvaluable, match=r"range from 0 to 255 but \[model\] input_range says \[0, 1\]"):
        space(model(input_range=(0.0, 1.0)), images(0, 255))


def test_data_that_are_not_numbers_are_refused():
    data = images()
    data.inputs[0, 0, 0, 0] = np.nan
    with pytest.raises(NotEvaluable, match="nan"):
        space(model(input_range=(0.0, 1.0)), data)


def test_standard_deviations_do_not_fit_images():
    with pytest.raises(NotApplicable, match="use scale = 'input'"):
        space(model(input_range=(0.0, 1.0)), images(), "std")


def test_tabular_columns_move_in_standard_deviations():
    found = space(model(), table(FEATURES))
    assert found.scale == "std"
    np.testing.assert_allclose(found.unit, [np.sqrt(5), 0, 0, 0], rtol=1e-6)
    assert found.low.tolist() == [0, 1, 0, 0]
    assert found.high.tolist() == [6, 1, 1, 1]
    text = " ".join(found.caveats)
    assert "standard deviations" in text
    assert "because categorical: job." in text
    assert "because constant: year." in text


def test_raw_units_on_request():
    assert space(model(), table(FEATURES), "input").unit.tolist() == [1, 0, 0, 0]


def test_immutable_and_ordinal_features_stay_and_are_named():
    features = (
        Feature(name="age", columns=(0,), immutable=True),
        Feature(name="steps", kind="ordinal", columns=(2,)),
        Feature(name="rate", columns=(3,)),
    )
    found = space(model(), table(features))
    assert (found.unit > 0).tolist() == [False, False, False, True]
    assert {"Not moved because immutable: age.", "Not moved because ordinal: steps."} <= set(found.caveats)


def test_unnamed_constant_columns_are_named_by_number():
    assert "Not moved because constant: column 1." in space(model(), table()).caveats


def test_nothing_that_may_move():
    with pytest.raises(NotApplicable, match="no column may be moved"):
        space(model(), table((Feature(name="all", columns=(0, 1, 2, 3), immutable=True),)))


def test_a_stated_range_comes_before_the_model_and_the_model_before_the_data():
    features = (Feature(name="a", columns=(0,), low=-1, high=10), Feature(name="b", columns=(1,)))
    found = space(model(input_range=(-5.0, 5.0)), table(features, [[0, 2, 4, 6], [1, 2, 3, 4]]))
    assert (found.low.tolist(), found.high.tolist()) == ([-1, -5], [10, 5])


def test_many_names_are_cut_short():
    features = tuple(Feature(name=f"f{i}", columns=(i,), immutable=True) for i in range(15))
    columns = [[0, 1]] * 16
    found = space(model(), table(features, columns))
    assert any("and 3 more." in sentence for sentence in found.caveats)


def test_a_column_outside_the_stated_range_is_named():
    features = (
        Feature(name="age", columns=(0,), low=0.0, high=99.0),
        Feature(name="debt", columns=(1,)),
    )
    columns = [[20, 40], [0.5, 1.5]]
    with pytest.raises(NotEvaluable, match=r"column 'debt' ranges from 0.5 to 1.5 but .* says \[0, 1\]"):
        space(model(input_range=(0.0, 1.0)), table(features, columns))
    inside = [[20, 40], [0.5, 0.9]]
    assert space(model(input_range=(0.0, 1.0)), table(features, inside)).high[0] == 99.0


def test_what_may_go_one_way_only_is_left_to_the_attack_that_knows_how():
    features = (Feature(name="age", columns=(0,), direction="increase"), Feature(name="debt", columns=(1,)))
    found = space(model(), table(features, [[20, 40], [0.5, 0.9]]))
    assert found.unit[0] == 0 < found.unit[1]
    assert "Not moved because free to go one way only: age." in found.caveats
