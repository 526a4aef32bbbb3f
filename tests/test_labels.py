"""Label tables: rows, files and what is said when they do not fit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xray_harmonize.exceptions import LabelTableError
from xray_harmonize.labels import SkippedRow, find_images, read_labels, readable


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "c", "sub/d"):
        np.save(folder / f"{name}.npy", np.zeros((2, 2), np.uint8))
    return folder


def write(root: Path, text: str) -> Path:
    table = root.parent / "labels.csv"
    table.write_text(text, encoding="utf-8")
    return table


HEADER = "path,label,scanner,patient\n"


def test_columns_are_aligned_with_the_files(root: Path) -> None:
    table = write(root, "path,age,label,scanner,patient\nsub/d.npy,71,1,GE,p2\na.npy,,0,Fuji,p1\n")
    result = read_labels(root, table)
    assert result.paths == [root / "sub" / "d.npy", root / "a.npy"]
    assert result.labels is not None
    assert result.scanner is not None
    assert result.patient is not None
    assert result.labels.tolist() == [1, 0]
    assert result.scanner.tolist() == ["GE", "Fuji"]
    assert result.patient.tolist() == ["p2", "p1"]
    assert result.rows.tolist() == [2, 3]
    assert result.extra.to_dict("list") == {"age": ["71", ""]}
    assert result.skipped == []
    assert len(result) == 2


def test_names_of_columns_can_be_given(root: Path) -> None:
    table = write(root, "File,Density,Vendor,Person\na.npy,B,GE,p1\n")
    result = read_labels(root, table, path="File", label="Density", scanner="Vendor", patient="Person")
    assert result.labels is not None
    assert result.labels.tolist() == ["B"]
    assert list(result.extra.columns) == []


def test_columns_that_are_not_asked_for_are_extra(root: Path) -> None:
    table = write(root, "path,label\na.npy,1\n")
    result = read_labels(root, table, label=None, scanner=None, patient=None)
    assert result.labels is result.scanner is result.patient is None
    assert result.extra["label"].tolist() == ["1"]


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["0", "1"], [0, 1]),
        (["-1", "+2"], [-1, 2]),
        (["1.0", "0"], [1, 0]),
        (["007", "1"], ["007", "1"]),
        (["1", "A"], ["1", "A"]),
        (["0.5", "1"], ["0.5", "1"]),
        (["9" * 30, "1"], ["9" * 30, "1"]),
    ],
)
def test_labels_are_integers_only_if_all_are(root: Path, cells: list[str], labels: list[object]) -> None:
    table = write(root, HEADER + f"a.npy,{cells[0]},GE,p\nb.npy,{cells[1]},GE,p\n")
    result = read_labels(root, table).labels
    assert result is not None
    assert result.tolist() == labels
    assert result.dtype.kind in ("i", "U")


def test_scanner_called_na_keeps_its_name(root: Path) -> None:
    table = write(root, HEADER + "a.npy,1,NA,None\nb.npy,0, null ,\n")
    result = read_labels(root, table)
    assert result.scanner is not None
    assert result.patient is not None
    assert result.scanner.tolist() == ["NA", "null"]
    assert result.patient.tolist() == ["None", None]


def test_rows_are_counted_as_a_spreadsheet_counts_them(root: Path) -> None:
    table = write(
        root, '\ufeffpath,label,scanner,patient,note\r\na.npy,1,GE,p,"two\nlines"\r\n\r\n,,,,\r\nb.npy,0,GE,p,\r\n'
    )
    result = read_labels(root, table)
    assert result.rows.tolist() == [2, 5]
    assert result.extra["note"].tolist() == ["two\nlines", ""]


# ---------------------------------------------------------------- tables that cannot be used


def test_missing_folder_and_table_are_named(root: Path) -> None:
    with pytest.raises(LabelTableError, match=r"nowhere: no such folder, expected the one that holds the images"):
        read_labels(root / "nowhere", root / "labels.csv")
    with pytest.raises(LabelTableError, match=r"labels\.csv: cannot be opened \(No such file or directory\)"):
        read_labels(root, root / "labels.csv")


def test_unknown_column_lists_those_there_are_and_the_option(root: Path) -> None:
    table = write(root, "path,label,vendor,patient\na.npy,1,GE,p\n")
    with pytest.raises(
        LabelTableError,
        match=r"no column 'scanner', the columns are 'path', 'label', 'vendor', 'patient'; name the right one with "
        r"scanner=\.\.\., or scanner=None for a table without",
    ):
        read_labels(root, table)
    with pytest.raises(LabelTableError, match=r"no column 'file', .* name the right one with path=\.\.\.\.$"):
        read_labels(root, table, path="file")


def test_table_with_another_separator_is_recognized(root: Path) -> None:
    table = write(root, "path;label;scanner;patient\na.npy;1;GE;p\n")
    with pytest.raises(LabelTableError, match=r"'path;label;scanner;patient'.* Is the separator a comma"):
        read_labels(root, table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "row 1 is empty, expected the names of the columns"),
        (HEADER, "no row can be used, expected at least one image"),
        (HEADER + "a.npy,1,GE,p,too,much\n", "row 2 has 6 cells, expected 4 as in the header"),
        ("path,label,scanner,path\na.npy,1,GE,p\n", "2 columns are named 'path', expected one"),
    ],
)
def test_tables_that_are_none_are_refused(root: Path, text: str, message: str) -> None:
    with pytest.raises(LabelTableError, match=rf"labels\.csv: .*{message}"):
        read_labels(root, write(root, text))


def test_table_in_another_encoding_is_refused(root: Path) -> None:
    table = root.parent / "labels.csv"
    table.write_bytes(HEADER.encode() + "a.npy,Dichte-ä,GE,p\n".encode("latin-1"))
    with pytest.raises(LabelTableError, match=r"labels\.csv: no CSV in UTF-8 .*save the table as CSV UTF-8"):
        read_labels(root, table)


# ---------------------------------------------------------------- rows that cannot be used

BAD_ROWS = {
    "missing file": ("none.npy,1,GE,p", r"row 3 \('none\.npy'\): no file .*none\.npy"),
    "no path": (",1,GE,p", r"row 3 \(''\): column 'path' is empty, expected a file"),
    "a folder": ("sub,1,GE,p", r"row 3 \('sub'\): .*sub is a folder"),
    "label missing": ("b.npy,,GE,p", r"row 3 \('b\.npy'\): column 'label' is empty, expected a label"),
    "label nan": ("b.npy,NaN,GE,p", r"row 3 \('b\.npy'\): column 'label' is empty, expected a label"),
    "row too short": ("b.npy", r"row 3 \('b\.npy'\): column 'label' is empty"),
    "scanner empty": ("b.npy,1, ,p", r"row 3 \('b\.npy'\): column 'scanner' is empty, expected a scanner"),
    "duplicate": ("./sub/../a.npy,0,GE,p", r"row 3 .*: the same file as in row 2, expected each file once"),
    "leaves the folder": (
        "../labels.csv,1,GE,p",
        r"row 3 .*: the path leaves .*images, expected a file in that folder",
    ),
    "absolute elsewhere": ("/etc/passwd,1,GE,p", r"row 3 \('/etc/passwd'\): the path leaves"),
    "NUL": ("a\0b,1,GE,p", r"row 3 .*: the path holds a NUL character"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_is_an_error_that_names_row_and_file(root: Path, case: str) -> None:
    row, message = BAD_ROWS[case]
    table = write(root, HEADER + f"a.npy,1,GE,p\n{row}\nc.npy,0,Fuji,q\n")
    with pytest.raises(LabelTableError, match=rf"labels\.csv: 1 row\(s\) cannot be used: {message}.*skip_bad=True"):
        read_labels(root, table)


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_is_listed_and_skipped_on_request(root: Path, case: str) -> None:
    table = write(root, HEADER + f"a.npy,1,GE,p\n{BAD_ROWS[case][0]}\nc.npy,0,Fuji,q\n")
    result = read_labels(root, table, skip_bad=True)
    assert [path.name for path in result.paths] == ["a.npy", "c.npy"]
    assert result.labels is not None
    assert result.labels.tolist() == [1, 0]
    assert result.rows.tolist() == [2, 4]
    assert [(one.row, type(one)) for one in result.skipped] == [(3, SkippedRow)]
    assert result.skipped[0].reason


def test_file_of_a_skipped_row_can_be_used_by_a_later_one(root: Path) -> None:
    table = write(root, HEADER + "a.npy,,GE,p\na.npy,1,GE,p\n")
    result = read_labels(root, table, skip_bad=True)
    assert result.rows.tolist() == [3]


def test_many_bad_rows_are_summed_up(root: Path) -> None:
    table = write(root, HEADER + "".join(f"none{i}.npy,1,GE,p\n" for i in range(9)))
    with pytest.raises(LabelTableError, match=r"9 row\(s\) cannot be used: row 2 .*row 6 .*; and 4 more"):
        read_labels(root, table)
    with pytest.raises(LabelTableError, match=r"no row can be used, expected at least one image.*and 4 more"):
        read_labels(root, table, skip_bad=True)


def test_absolute_paths_inside_the_folder_are_taken(root: Path) -> None:
    result = read_labels(root, write(root, HEADER + f"{root / 'a.npy'},1,GE,p\n"))
    assert result.paths == [root / "a.npy"]


def test_links_inside_the_folder_may_point_anywhere(root: Path) -> None:
    elsewhere = root.parent / "disk2"
    elsewhere.mkdir()
    np.save(elsewhere / "e.npy", np.zeros((2, 2), np.uint8))
    (root / "more").symlink_to(elsewhere)
    assert read_labels(root, write(root, HEADER + "more/e.npy,1,GE,p\n")).paths == [root / "more" / "e.npy"]


def test_relative_folder_gives_absolute_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    result = read_labels("images", write(root, HEADER + "a.npy,1,GE,p\n"))
    assert os.fspath(result.paths[0]) == os.fspath(root / "a.npy")


def test_check_finds_files_that_are_no_images(root: Path) -> None:
    (root / "bad.png").write_text("no image")
    table = write(root, HEADER + "bad.png,1,GE,p\na.npy,0,GE,p\n")
    assert len(read_labels(root, table)) == 2
    with pytest.raises(LabelTableError, match=r"row 2 \('bad\.png'\): .*bad\.png: no image that can be read"):
        read_labels(root, table, check=True)
    result = read_labels(root, table, check=True, skip_bad=True)
    assert [path.name for path in result.paths] == ["a.npy"]
    assert "no image that can be read" in result.skipped[0].reason


def test_check_of_pixels_finds_files_that_break_off(root: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    Image.fromarray(values).save(root / "cut.png")
    content = (root / "cut.png").read_bytes()
    (root / "cut.png").write_bytes(content[: len(content) // 2])
    table = write(root, HEADER + "cut.png,1,GE,p\na.npy,0,GE,p\n")
    assert len(read_labels(root, table, check="header")) == 2
    with pytest.raises(LabelTableError, match=r"row 2 \('cut\.png'\): .*cut\.png: does not decode as PNG"):
        read_labels(root, table, check="pixels")
    good, bad = readable([root / "a.npy", root / "cut.png"])
    assert good == [root / "a.npy"]
    assert [path.name for path, _ in bad] == ["cut.png"]
    assert "does not decode as PNG" in bad[0][1]


# ---------------------------------------------------------------- folders without a table


def test_images_of_a_folder_are_found_by_content_in_order(root: Path) -> None:
    (root / "notes.txt").write_text("no image")
    (root / "broken.png").write_text("no image")
    (root / ".hidden").mkdir()
    np.save(root / ".hidden" / "e.npy", np.zeros((2, 2), np.uint8))
    (root / "sub" / "d.npy").rename(root / "sub" / "no-extension")
    table = find_images(root)
    assert [str(path.relative_to(root)) for path in table.paths] == ["a.npy", "b.npy", "c.npy", "sub/no-extension"]
    assert table.scanner is not None
    assert table.scanner.tolist() == ["images"] * 3 + ["sub"]
    assert table.labels is table.patient is None
    assert len(table.extra) == len(table.rows) == 4
    assert [one.path for one in table.skipped] == ["broken.png"]


def test_images_of_one_folder_have_no_scanner(root: Path) -> None:
    assert find_images(root / "sub").scanner is None


def test_folder_without_images_is_refused(root: Path) -> None:
    (root / "empty").mkdir()
    with pytest.raises(LabelTableError, match=r"empty: no image, expected PNG, TIFF, JPEG, NPY or DICOM files"):
        find_images(root / "empty")
    with pytest.raises(LabelTableError, match="nowhere: no such folder"):
        find_images(root / "nowhere")


@pytest.mark.realdata
def test_real_table_of_three_sites_is_read_whole(real_data: Path) -> None:
    folder = real_data / "tb"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    result = read_labels(folder, folder / "labels.csv", check=True)
    assert len(result) == 776
    assert result.labels is not None
    assert result.scanner is not None
    counts = {site: np.bincount(result.labels[result.scanner == site]).tolist() for site in set(result.scanner)}
    assert counts == {"shenzhen": [257, 265], "montgomery": [59, 39], "delhi": [78, 78]}
