import numpy as np
import pytest
from PIL import Image

from audit.config import DataSection
from audit.errors import LoadError
from audit.read import load_data


def folder_of(path, images, header="file,label", rows=None):
    path.mkdir()
    for name, pixels in images.items():
        Image.fromarray(pixels).save(path / name)
    lines = rows if rows is not None else [f"{name},{i % 2}" for i, name in enumerate(images)]
    (path / "labels.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return DataSection(path=path)


def gray(value, shape=(4, 6)):
    return np.full(shape, value, dtype=np.uint8)


def test_gray_and_rgb_folders_become_scaled_images(tmp_path):
    data = load_data(folder_of(tmp_path / "g", {"a.png": gray(0), "b.png": gray(255)}), tmp_path)
    assert data.inputs.shape == (2, 1, 4, 6)
    assert data.modality == "image"
    assert data.inputs[0].max() == 0
    assert data.inputs[1].min() == 1
    colour = np.zeros((4, 6, 3), dtype=np.uint8)
    colour[..., 2] = 51
    data = load_data(folder_of(tmp_path / "c", {"a.png": colour}), tmp_path, input_range=(-1, 1))
    assert data.inputs.shape == (1, 3, 4, 6)
    assert data.inputs[0, 0, 0, 0] == -1
    assert data.inputs[0, 2, 0, 0] == pytest.approx(-0.6)


def test_sensitive_columns_rows_and_where_keep_images_and_labels_together(tmp_path):
    images = {f"{i}.png": gray(i) for i in range(20)}
    rows = [f"{i},{i}.png,{'x' if i % 2 else 'y'},{'test' if i >= 10 else 'train'}" for i in range(20)]
    section = folder_of(tmp_path / "f", images, "id,file,group,split", rows).model_copy(
        update={"target": "id", "sensitive": ("group",), "where": {"split": "test"}, "rows": 5}
    )
    data = load_data(section, tmp_path)
    shown = np.rint(data.inputs[:, 0, 0, 0] * 255).astype(int)
    assert len(data) == 5
    assert shown.tolist() == [int(data.classes[label]) for label in data.labels]
    assert (shown >= 10).all()
    groups = [data.sensitive["group"].groups[code] for code in data.sensitive["group"].codes]
    assert groups == ["x" if value % 2 else "y" for value in shown]
    assert data.source["rows_matched"] == 10


def test_an_image_of_another_shape_is_named_with_its_row(tmp_path):
    section = folder_of(tmp_path / "f", {"a.png": gray(1), "b.png": gray(1), "odd.png": gray(1, (5, 6))})
    with pytest.raises(
        LoadError, match=r"labels\.csv, row 3, column 'file': image 'odd\.png' is 5 x 6 gray.*4 x 6"
    ):
        load_data(section, tmp_path)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("gone.png,1", r"row 2, column 'file': image 'gone\.png' does not exist"),
        ("../secret.png,1", r"'\.\./secret\.png' lies outside the folder"),
        ("broken.png,1", r"'broken\.png' cannot be opened as an image"),
        ("alpha.png,1", r"'alpha\.png' is stored as RGBA"),
    ],
)
def test_a_file_that_is_no_image_is_named(tmp_path, row, complaint):
    section = folder_of(tmp_path / "f", {"a.png": gray(1)}, rows=["a.png,0", row])
    Image.fromarray(gray(9)).save(tmp_path / "secret.png")
    (tmp_path / "f" / "broken.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((4, 6, 4), dtype=np.uint8)).save(tmp_path / "f" / "alpha.png")
    with pytest.raises(LoadError, match=complaint):
        load_data(section, tmp_path)


def test_a_folder_without_labels_is_refused(tmp_path):
    (tmp_path / "f").mkdir()
    with pytest.raises(LoadError, match=r"labels\.csv does not exist; \[data\] labels"):
        load_data(DataSection(path=tmp_path / "f"), tmp_path)
    (tmp_path / "f" / "labels.csv").write_text("file\na.png\n")
    with pytest.raises(LoadError, match="add a column 'label'"):
        load_data(DataSection(path=tmp_path / "f"), tmp_path)
    with pytest.raises(LoadError, match="takes a folder"):
        load_data(DataSection(path=tmp_path / "f" / "labels.csv", reader="images"), tmp_path)
