"""Labels become class ids by one reading for all splits, and nothing is guessed."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alphafix.errors import AlphafixError, InputError
from alphafix.images.labels import Known, Reading, Written, check_own_names
from alphafix.images.order import read_class_map
from alphafix.images.spec import Details, open_data
from alphafix.images.splits import Said, SplitSources, open_splits
from alphafix.images.tables import rows_of
from alphafix.values.classes import ClassTable
from tests.extract.photos import add_member

SIX = ("ant", "bee", "cat", "dog", "eel", "fox")
REVERSED = SIX[::-1]


def opened(data: object, *splits: str, known: Known | None = None, **said: Any) -> SplitSources:
    return open_splits(open_data(str(data)), splits or ("train",), Said(**said), known=known)


def labels(found: SplitSources, split: str = "train") -> list[int]:
    source = found.sources[split]
    return [source.label(g, i) for g in range(source.groups) for i in range(source.size(g))]


def class_map(folder: Path, names: Sequence[str]) -> Path:
    path = folder / "map"
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def write_list(path: Path, names: Sequence[object]) -> None:
    path.write_text("".join(f"{path.stem}{i}.jpg {name}\n" for i, name in enumerate(names)))


# Lists


def test_list__numbers_that_a_class_map_names_are_names_as_folders_are(tmp_path: Path) -> None:
    order = sorted(map(str, range(12)))  # 0, 1, 10, 11, 2, ...
    write_list(tmp_path / "train.txt", range(12))
    found = opened(tmp_path, class_map=class_map(tmp_path, order))
    assert labels(found) == [order.index(str(i)) for i in range(12)]
    assert found.reading.by == "names"


def test_list__without_a_class_map_numbers_are_ids(tmp_path: Path) -> None:
    write_list(tmp_path / "train.txt", ["0", "2", "1.0"])
    found = opened(tmp_path)
    assert (labels(found), found.names, found.reading.by) == ([0, 2, 1], None, "ids")


def test_list__numbers_of_a_split_are_names_where_those_of_training_are(tmp_path: Path) -> None:
    write_list(tmp_path / "train.txt", ["cat", "7", "12", "1"])
    write_list(tmp_path / "val.txt", ["12", "1", "7"])
    found = opened(tmp_path, "train", "val", order="string")
    assert found.names == ("1", "12", "7", "cat")
    assert labels(found, "val") == [1, 0, 2]
    alone = opened(tmp_path, "val", order="string")  # the whole data set decides
    assert labels(alone, "val") == [1, 0, 2]


def test_list__two_readings_are_the_users_choice(tmp_path: Path) -> None:
    write_list(tmp_path / "train.txt", ["1", "2", "3"])
    names = class_map(tmp_path, ["1", "2", "3", "4"])
    with pytest.raises(InputError) as raised:
        opened(tmp_path, class_map=names)
    text = str(raised.value)
    assert "label '1' (line 1 of train.txt)" in text
    assert "the name of class 0" in text
    assert "the id of class 1" in text
    assert "label_kind='names'" in text
    assert labels(opened(tmp_path, class_map=names, kind="names")) == [0, 1, 2]
    assert labels(opened(tmp_path, class_map=names, kind="ids")) == [1, 2, 3]
    known = Known(("1", "2", "3", "4"), "ids")
    assert labels(opened(tmp_path, known=known)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["0", "-1", "1"], r"no class id(.|\n)*'-1' \(line 2"),
        (["0", "1", "01"], "'01' and '1'"),
        (["0", "99999999999999999999"], "no class id"),
    ],
)
def test_list__ids_that_are_none(tmp_path: Path, values: list[str], message: str) -> None:
    write_list(tmp_path / "train.txt", values)
    with pytest.raises(InputError, match=message):
        opened(tmp_path)


def test_list__labels_with_spaces_stand_behind_a_tab(tmp_path: Path) -> None:
    lines = [("a b.jpg", "ice cream"), ("c.png copy.jpg", "St. Bernard"), ("d", "ant")]
    file = tmp_path / "train.txt"
    file.write_text("".join(f"{path}\t{label}\n" for path, label in lines))
    assert [row[1:3] for row in rows_of(file)] == lines


@pytest.mark.parametrize("line", ["a b.jpg ice cream", "c.png copy.jpg St. Bernard", "d.PNG ,  x"])
def test_list__a_label_that_seems_to_hold_spaces_is_not_guessed(line: str, tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text(f"e.jpg copy.png 0\n{line}\n")
    with pytest.raises(InputError, match="line 2: it is not certain where the label begins"):
        list(rows_of(file))


def test_list__an_image_that_is_listed_twice(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.jpg 0\nb.jpg 1\n./a.jpg 0\n")
    with pytest.raises(InputError, match=r"more than once(.|\n)*lines 1 and 3\n"):
        opened(tmp_path)
    (tmp_path / "train.txt").write_text("a.jpg 0\nb.jpg 1\na.jpg 1\n")
    with pytest.raises(InputError, match=r"lines 1 and 3, as '0' and as '1'"):
        opened(tmp_path)


def test_list__a_label_that_only_another_split_has(tmp_path: Path) -> None:
    write_list(tmp_path / "train.txt", ["ant", "bee"])
    write_list(tmp_path / "val.txt", ["ant", "wasp"])
    with pytest.raises(InputError, match=r"'wasp' \(line 2 of val.txt\) of val"):
        opened(tmp_path, "train", "val")


# Tables


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        ("path,,,label", ["{},1,2,{}"], "names"),
        ("Image Path;Class Name", ["{};{}"], "names"),
        ("filename\tclass_name", ["{}\t{}"], "names"),
    ],
)
def test_table__columns_by_place(
    tmp_path: Path, header: str, rows: list[str], expected: str
) -> None:
    lines = [rows[0].format(f"{i}.jpg", name) for i, name in enumerate(("bee", "ant", "bee"))]
    (tmp_path / "train.csv").write_text("\ufeff" + "\n".join([header, *lines]) + "\n")
    found = opened(tmp_path)
    assert (found.names, labels(found), found.reading.by) == (("ant", "bee"), [1, 0, 1], expected)


def test_table__doubled_columns_are_not_chosen_from(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label,label\na.jpg,ant,0\nb.jpg,bee,1\n")
    with pytest.raises(InputError, match="label and label could be it"):
        opened(tmp_path)
    (tmp_path / "train.csv").write_text("path,class_id,class_name\na.jpg,0,ant\nb.jpg,1,bee\n")
    with pytest.raises(InputError, match="class_id and class_name could be it"):
        opened(tmp_path)
    data = open_data(str(tmp_path), Details(label_key="class_name"))
    assert open_splits(data, ["train"]).names == ("ant", "bee")


def test_table__row_with_a_comma_too_many(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label\na.jpg,ant\nb,c.jpg,bee\n")
    with pytest.raises(InputError, match="line 3 has another number of columns"):
        opened(tmp_path)


def test_json_lines__are_a_table_too(tmp_path: Path) -> None:
    rows = [{"file_name": f"{i}.jpg", "label": i} for i in (1, 0)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert labels(opened(tmp_path)) == [1, 0]


# Archives


def write_archive(path: Path, texts: Sequence[object]) -> None:
    with tarfile.open(path, "w") as archive:
        for number, text in enumerate(texts):
            add_member(archive, f"{number:03d}.png", b"x")
            add_member(archive, f"{number:03d}.cls", str(text).encode())


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (range(6), [0, 1, 2, 3, 4, 5]),
        (range(1, 7), [0, 1, 2, 3, 4, 5]),
        ((1, 2, 3), None),
    ],
)
def test_archives__map_of_numbers(
    tmp_path: Path, texts: Sequence[int], expected: list[int] | None
) -> None:
    write_archive(tmp_path / "train.tar", texts)
    names = class_map(tmp_path, list("123456"))
    data = tmp_path / "{split}.tar"
    if expected is None:
        with pytest.raises(InputError, match=r"not certain(.|\n)*either the name of class 0"):
            opened(data, class_map=names)
    else:
        assert labels(opened(data, class_map=names)) == expected


def test_archives__all_of_them_decide_where_the_first_leaves_it_open(tmp_path: Path) -> None:
    write_archive(tmp_path / "train-0.tar", (1, 2))
    write_archive(tmp_path / "train-1.tar", (0, 5))
    data = f"{tmp_path}/{{split}}-{{0..1}}.tar"
    found = opened(data, class_map=class_map(tmp_path, list("123456")))
    assert (labels(found), found.reading.by) == ([1, 2, 0, 5], "ids")


def test_archives__names_without_a_map(tmp_path: Path) -> None:
    write_archive(tmp_path / "train-0.tar", ("bee", "ant"))
    write_archive(tmp_path / "train-1.tar", ("cat", "bee"))
    found = opened(f"{tmp_path}/{{split}}-{{0..1}}.tar")
    assert (found.names, labels(found)) == (("ant", "bee", "cat"), [1, 0, 2, 1])


def test_archives__a_later_label_of_another_kind(tmp_path: Path) -> None:
    write_archive(tmp_path / "train-0.tar", (0, 1))
    write_archive(tmp_path / "train-1.tar", (1, "ant"))
    with pytest.raises(InputError, match=r"no class id(.|\n)*'ant' \(train-1/001\)"):
        labels(opened(f"{tmp_path}/{{split}}-{{0..1}}.tar"))


# Hugging Face


def hub(folder: Path, splits: Mapping[str, tuple[Sequence[Any], Any]]) -> str:
    """A saved data set; of each split its labels and the type of its column."""
    import datasets

    made = {}
    for split, (values, kind) in splits.items():
        features = datasets.Features({"image": datasets.Image(), "label": kind})
        rows = {"image": [Image.new("RGB", (2, 2))] * len(values), "label": list(values)}
        made[split] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(made).save_to_disk(str(folder))
    return f"hf:{folder}"


def class_label(names: Sequence[str]) -> Any:
    import datasets

    return datasets.ClassLabel(names=list(names))


def value(kind: str) -> Any:
    import datasets

    return datasets.Value(kind)


def test_hub__labels_follow_a_class_map(tmp_path: Path) -> None:
    data = hub(tmp_path / "d", {"train": (range(6), class_label(SIX))})
    found = opened(data, class_map=class_map(tmp_path, REVERSED))
    assert (found.names, labels(found)) == (REVERSED, [5, 4, 3, 2, 1, 0])


def test_hub__splits_with_class_labels_of_their_own(tmp_path: Path) -> None:
    splits = {"train": (range(6), class_label(SIX)), "validation": (range(5), class_label(SIX[1:]))}
    data = open_data(hub(tmp_path / "d", splits))
    found = open_splits(data, {"train": "train", "val": "validation"})
    assert labels(found, "val") == [1, 2, 3, 4, 5]
    assert found.names == SIX
    alone = open_splits(data, {"val": "validation"}, known=Known(REVERSED, "names"))
    assert labels(alone, "val") == [4, 3, 2, 1, 0]


def test_hub__texts_are_names_and_numbers_ids(tmp_path: Path) -> None:
    data = hub(tmp_path / "a", {"train": (["bee", "ant", "bee"], value("string"))})
    found = opened(data)
    assert (found.names, labels(found)) == (("ant", "bee"), [1, 0, 1])
    assert labels(opened(data, class_map=class_map(tmp_path, ["bee", "ant"]))) == [0, 1, 0]
    assert labels(opened(hub(tmp_path / "b", {"train": ([2, 0], value("int64"))}))) == [2, 0]


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([0, None, 1], lambda: class_label(SIX), r"1 of 3 rows(.|\n)*None in row 1"),
        ([-1, -1], lambda: class_label(SIX), r"2 of 2 rows(.|\n)*-1 in row 0"),
        ([0.5, 1.0], lambda: value("float64"), r"holds no labels(.|\n)*0.5"),
        (["ant", None], lambda: value("string"), "None in row 1"),
    ],
)
def test_hub__rows_without_a_label(
    tmp_path: Path, values: list[Any], kind: Callable[[], Any], message: str
) -> None:
    data = hub(tmp_path / "d", {"train": (values, kind())})
    with pytest.raises(InputError, match=message):
        opened(data)


# NumPy


def arrays(folder: Path, array: Any) -> Path:
    images = np.zeros((len(array), 2, 2, 3), dtype=np.uint8)
    np.savez(folder / "a.npz", train_images=images, train_labels=array)
    return folder / "a.npz"


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([0, 2, 1], dtype=np.uint64), [0, 2, 1]),
        (np.array([0.0, 2.0]), [0, 2]),
        (np.array(["bee", "ant"]), [1, 0]),
        (np.array([b"bee", b"ant"]), [1, 0]),
        (np.array([False, True]), [0, 1]),
    ],
)
def test_arrays__labels(tmp_path: Path, array: Any, expected: list[int]) -> None:
    assert labels(opened(arrays(tmp_path, array))) == expected


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([0, 1]) + 0.6, r"no class ids and no names(.|\n)*0.6 of sample 0"),
        (np.array([0, np.nan]), "nan of sample 1"),
        (np.array([1, 2**64 - 1], dtype=np.uint64), "18446744073709551615"),
        (np.array([0, -1]), r"no class id(.|\n)*'-1'"),
        (np.eye(3), r"shape \(3, 3\)(.|\n)*argmax"),
        (np.array([1j, 2j]), "complex128"),
    ],
)
def test_arrays__labels_that_are_none(tmp_path: Path, array: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(arrays(tmp_path, array))


# Folders


def folders(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        (root / "train" / name).mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(root / "train" / name / "a.png")
    return root


def test_folders__numbers_are_names_unless_the_map_has_others(tmp_path: Path) -> None:
    data = folders(tmp_path / "d", ["0", "1", "2"])
    assert labels(opened(data, class_map=class_map(tmp_path, ["2", "1", "0"]))) == [0, 1, 2]
    by_id = opened(data, class_map=class_map(tmp_path, ["ant", "bee", "cat"]))
    assert (labels(by_id), by_id.names, by_id.reading.by) == (
        [0, 1, 2],
        ("ant", "bee", "cat"),
        "ids",
    )


def test_folders__of_no_class_are_refused(tmp_path: Path) -> None:
    data = folders(tmp_path / "d", ["ant", "wasp"])
    with pytest.raises(InputError, match="'wasp'"):
        opened(data, class_map=class_map(tmp_path, ["ant", "bee"]))


# Class maps


def test_class_map__of_texts_that_are_numbers_is_read_the_one_way_that_it_can_be(
    tmp_path: Path,
) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"3": "0", "1": "1", "0": "2"}')
    assert read_class_map(path) == ("3", "1", "0")
    path.write_text('{"0": "7", "1": "3"}')
    assert read_class_map(path) == ("7", "3")
    path.write_text('{"0": "1", "1": "0"}')  # the same either way
    assert read_class_map(path) == ("1", "0")
    path.write_text('{"0": "1", "1": "2", "2": "0"}')
    with pytest.raises(InputError, match=r"two readings(.|\n)*2, 0, 1(.|\n)*1, 2, 0"):
        read_class_map(path)


def test_class_map__byte_order_mark_and_configs_of_models(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_bytes("\ufeffant\nbee\n".encode())
    assert read_class_map(tmp_path / "map.txt") == ("ant", "bee")
    (tmp_path / "config.json").write_text('{"id2label": {"1": "bee", "0": "ant"}, "x": 1}')
    assert read_class_map(tmp_path / "config.json") == ("ant", "bee")
    (tmp_path / "config.json").write_text('{"architecture": "a", "label_names": ["ant", "bee"]}')
    assert read_class_map(tmp_path / "config.json") == ("ant", "bee")


def test_class_table__names_are_there_once() -> None:
    with pytest.raises(AlphafixError, match=r"more than once(.|\n)*'ant'"):
        ClassTable(("ant", "bee", "ant"), np.array([1, 2, 3]))


# The model's own names


def own(names: tuple[str, ...] | None, own_names: tuple[str, ...], by: Any = "names") -> str:
    values = names if by == "names" and names else tuple(map(str, range(6)))
    return check_own_names(Reading(by, names, ""), own_names, {"train": Written(values, "")})


def test_own_names__one_that_is_spelt_otherwise_hides_no_other_order() -> None:
    spelt = ("ant", "bee", "cat", "dog", "eels", "fox")
    assert own(SIX, spelt) == "agree but for class 4 'eel', there 'eels'"
    assert own(SIX, SIX) == "agree"
    assert own(("Tabby_cat", "dog"), ("tabby cat", "dog")) == "agree"
    with pytest.raises(InputError, match=r"another order than the model's own(.|\n)*5 of 6 differ"):
        own(REVERSED, spelt)
    assert "could not be compared" in own(SIX, tuple("uvwxyz"))


def test_own_names__that_are_numbers_make_ids_uncertain() -> None:
    with pytest.raises(InputError, match="in the model's own names"):
        own(None, tuple("543210"), by="ids")
    assert own(None, tuple("012345"), by="ids") == "taken from the model"


def test_own_names__are_taken_where_the_data_has_none(tmp_path: Path) -> None:
    write_list(tmp_path / "train.txt", range(6))
    found = opened(tmp_path)
    assert found.check_classes(6, SIX).names == SIX
    assert found.check_classes(6, tuple(f"LABEL_{i}" for i in range(6))).names is None
