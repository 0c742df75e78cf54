import sys
from pathlib import Path

import pytest
from networks import MLP

from audit.config import ModelSection
from audit.errors import ConfigError, LoadError
from audit.loaders.factory import beside, build

SOURCE = """
from dataclasses import dataclass
from torch import nn
from layers import WIDTH

@dataclass
class Sizes:
    inputs: int = WIDTH

def network(outputs=2):
    import late
    return nn.Linear(Sizes().inputs, outputs * late.FACTOR)

def wrong():
    return "a string"

def fails():
    raise ValueError("first line\\nsecond line")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models.py").write_text(SOURCE)
    (tmp_path / "layers.py").write_text("WIDTH = 7")
    (tmp_path / "late.py").write_text("FACTOR = 10")
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text("")
    (tmp_path / "nets" / "deep.py").write_text("from torch import nn\ndef one(): return nn.Linear(1, 1)")
    (tmp_path / "broken.py").write_text("import not_there_at_all")
    (tmp_path / "syntax.py").write_text("def f(:")
    return tmp_path


def built(factory, folder, **arguments):
    return build(ModelSection(path=Path("m.pt"), factory=factory, arguments=arguments), folder)[0]


def test_it_is_found_beside_audit_toml_with_its_siblings_and_arguments(folder):
    module = built("models:network", folder, outputs=3)
    assert (module.in_features, module.out_features) == (7, 30)


def test_a_module_in_a_package_beside_audit_toml_is_found(folder):
    assert built("nets.deep:one", folder).in_features == 1


def test_it_is_found_on_the_path(tmp_path):
    assert isinstance(built("networks:MLP", tmp_path, inputs=4), MLP)


def test_path_and_modules_are_left_as_they_were(folder):
    path, modules = list(sys.path), set(sys.modules)
    built("models:network", folder)
    assert sys.path == path
    assert {"models", "layers", "late"} & (set(sys.modules) - modules) == set()


def test_two_folders_with_modules_of_one_name_are_kept_apart(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "models.py").write_text(SOURCE)
    (other / "layers.py").write_text("WIDTH = 99")
    (other / "late.py").write_text("FACTOR = 1")
    assert built("models:network", folder).in_features == 7
    assert built("models:network", other).in_features == 99


def test_beside_leaves_this_package_alone(tmp_path):
    root = Path(__file__).parents[2]
    with beside(root):
        import audit.loaders.factory
    assert sys.modules["audit.loaders.factory"] is audit.loaders.factory


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("models:netwrk", r"models.py has no function 'netwrk'; .*'network'"),
        ("nowhere:network", "there is no module 'nowhere' beside audit.toml"),
        ("models:wrong", "returned a str; it must return a torch.nn.Module"),
        ("models:fails", r"with arguments \{\} failed: ValueError: first line\.$"),
        ("broken:f", "failed: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("syntax:f", "failed: SyntaxError"),
    ],
)
def test_what_goes_wrong_is_one_sentence(factory, said, folder):
    with pytest.raises(LoadError, match=said) as refused:
        built(factory, folder)
    assert "\n" not in str(refused.value)


def test_a_wrong_argument_is_named(folder):
    with pytest.raises(LoadError, match=r"with arguments \{'classes': 3\} failed: TypeError"):
        built("models:network", folder, classes=3)


@pytest.mark.parametrize("factory", ["models", "models:", ":network"])
def test_another_form_is_a_wrong_configuration(factory, folder):
    with pytest.raises(ConfigError, match="write it as 'module:function'"):
        built(factory, folder)


def test_no_factory_is_one_sentence(tmp_path):
    with pytest.raises(LoadError, match=r"m\.pt holds weights alone; set \[model\] factory"):
        build(ModelSection(path=Path("m.pt")), tmp_path)
