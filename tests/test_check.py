import pytest

from audit.check import check
from audit.errors import ConfigError
from audit.evidence import Evidence


@check("sample.epsilon", needs={"gradients"}, modality={"image"})
def sample(model, data, *, epsilon: float = 0.1, norms: list[str] = ["linf"], steps: int | None = None):  # noqa: B006
    """Title of the check.

    The explanation
    of two lines.
    """
    return Evidence(measures=())


def test_the_docstring_is_the_published_text():
    assert sample.title == "Title of the check"
    assert sample.text == "The explanation\nof two lines."


def test_it_asks_by_parameter_name_and_keywords_are_settings():
    assert sample.asks == ("model", "data")
    assert sample.settings({}) == {"epsilon": 0.1, "norms": ["linf"], "steps": None}
    assert sample.settings({"epsilon": 1, "steps": 5})["epsilon"] == 1.0


@pytest.mark.parametrize("given", [{"epsilom": 0.1}, {"epsilon": "big"}, {"steps": 1.5}])
def test_a_wrong_setting_is_one_sentence_with_the_known_ones(given):
    key, value = next(iter(given.items()))
    with pytest.raises(ConfigError) as caught:
        sample.settings(given)
    text = str(caught.value)
    assert "sample.epsilon" in text
    assert f"'{key}' = {value!r}" in text
    assert "epsilon, norms, steps" in text


def test_a_setting_needs_a_type_and_a_default():
    @check("sample.bad")
    def no_default(data, *, epsilon: float):
        """Title."""

    @check("sample.bad")
    def no_type(data, *, epsilon=0.1):
        """Title."""

    with pytest.raises(ConfigError, match="'epsilon' has no default"):
        no_default.settings({})
    with pytest.raises(ConfigError, match="'epsilon' has no type"):
        no_type.settings({})


def test_what_it_can_measure_is_declared_or_left_open():
    def function(data):
        """Title."""

    assert check("a.b", measures={"x", "y"})(function).measures == frozenset({"x", "y"})
    assert check("a.b")(function).measures == frozenset()
