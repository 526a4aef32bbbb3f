"""Saving without pickle: what goes in comes out, and no file can do harm."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from tiny_pairs import MOMENT, bodies, darker

from xray_harmonize import (
    DLBC,
    GDCE,
    CDFMatching,
    CropForeground,
    DeepFeatures,
    FourierSwap,
    FullRange,
    ImageSet,
    MinMax,
    MultiBand,
    Nyul,
    Resize,
    ResNetClassifier,
    ToneCurve,
    WindowClamp,
    ZScore,
    load,
    save,
)
from xray_harmonize.exceptions import PersistenceError, XRayHarmonizeWarning
from xray_harmonize.persistence import fingerprint

RNG = np.random.default_rng(0)
X = ImageSet(
    (RNG.random((8, 24, 20)) * np.linspace(0.5, 1, 8)[:, None, None] * 4095).astype("uint16"),
    scanner=["Größe, 1"] * 4 + ["007"] * 4,
    bits_stored=12,
)
Y = np.array(["well", "ill"] * 4)

TRANSFORMERS = [
    FullRange(),
    MinMax(),
    MinMax((1, 99), output_range="reference", reference="007"),
    ZScore(),
    WindowClamp((0.5, 0.25)),
    CDFMatching(scope="scanner", smoothness=0.1),
    CDFMatching(scope="mixed", reference="pooled"),
    Nyul(scope="scanner"),
    FourierSwap(),
    FourierSwap(mode="dct", scope="scanner"),
    MultiBand(scope="scanner", n_bands=2),
    CropForeground(margin=0.1),
    Resize((12, 10)),
]


class Holder(BaseEstimator):
    """Learns whatever it is given."""

    def __init__(self, parameter=None):
        self.parameter = parameter


class Deviced(BaseEstimator):
    """Has something that it calls a device."""

    def __init__(self, device=None):
        self.device = device


def holding(value):
    holder = Holder()
    holder.value_ = value
    return holder


def round_trip(estimator, path, **options):
    save(estimator, path)
    return load(path, **options)


def images(result):
    return [np.asarray(image) for image in result]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


# -- what goes in comes out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)
def test_a_fitted_transformer_gives_the_same_pixels_after_loading(transformer, path):
    fitted = transformer.fit(X)
    loaded = round_trip(fitted, path)
    assert type(loaded) is type(fitted)
    assert repr(loaded) == repr(fitted)
    for before, after in zip(images(fitted.transform(X)), images(loaded.transform(X)), strict=True):
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype


def test_a_loaded_harmonizer_can_learn_on(path):
    loaded = round_trip(CDFMatching(scope="scanner").fit(X), path)
    assert "new" in loaded.adapt(ImageSet(RNG.random((3, 8, 8)), scanner="new")).statistics_
    assert loaded.partial_fit(X).statistics_["007"]["n_images"] == 8


@pytest.fixture(scope="module")
def classifier():
    network = ResNetClassifier(depth=10, width=4, image_size=16, max_epochs=1, class_weight={"ill": 2.0, "well": 1.0})
    return network.set_params(random_state=0).fit(X, Y)


def test_a_classifier_gives_the_same_probabilities_and_string_labels(classifier, path):
    loaded = round_trip(classifier, path)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert loaded.predict(X).tolist() == classifier.predict(X).tolist()
    assert loaded.get_params() == classifier.get_params()
    assert loaded.history_ == classifier.history_


def test_a_pipeline_gives_the_same_answers(classifier, path):
    pipeline = Pipeline(
        [
            ("crop", CropForeground()),
            ("skip", "passthrough"),
            ("tone", CDFMatching().fit(X)),
            ("classifier", classifier),
        ]
    )
    loaded = round_trip(pipeline, path)
    assert [name for name, _ in loaded.steps] == ["crop", "skip", "tone", "classifier"]
    np.testing.assert_array_equal(loaded.predict_proba(X), pipeline.predict_proba(X))


def test_a_model_works_in_a_fresh_interpreter(tmp_path):
    fitted = CDFMatching(scope="scanner").fit(X)
    fitted.save(tmp_path / "model.npz")
    np.save(tmp_path / "before.npy", fitted.transform(X[:2])[1])
    np.save(tmp_path / "image.npy", X[1])
    code = (
        "import numpy as np, xray_harmonize as xh\n"
        "image = np.load('image.npy', allow_pickle=False)\n"
        "after = xh.load('model.npz').transform(xh.ImageSet([image], scanner='Größe, 1', bits_stored=12))[0]\n"
        "assert np.array_equal(after, np.load('before.npy', allow_pickle=False))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=120)


def test_a_class_of_ones_own_is_loaded_when_it_is_named(path):
    save(holding(3), path)
    with pytest.raises(PersistenceError, match=r"holds a Holder, which is no estimator.*classes=\[Holder\]"):
        load(path)
    assert load(path, classes=[Holder]).value_ == 3


def test_another_library_s_estimator_is_loaded_when_it_is_named(path):
    fitted = LogisticRegression().fit(RNG.random((8, 3)), Y)
    loaded = round_trip(fitted, path, classes=[LogisticRegression])
    assert loaded.predict(np.ones((1, 3))) == fitted.predict(np.ones((1, 3)))


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(plain.filter(lambda key: key == key), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=values)
def test_every_nest_of_plain_values_comes_back_as_it_was(value, tmp_path_factory):
    loaded = round_trip(holding(value), tmp_path_factory.getbasetemp() / "nest.npz", classes=[Holder]).value_
    assert repr(loaded) == repr(value)


arrays = npst.arrays(
    npst.boolean_dtypes()
    | npst.integer_dtypes()
    | npst.floating_dtypes()
    | npst.complex_number_dtypes()
    | npst.unicode_string_dtypes(min_len=1),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@given(value=arrays)
def test_every_array_comes_back_with_dtype_shape_and_bytes(value, tmp_path_factory):
    loaded = round_trip(holding(value), tmp_path_factory.getbasetemp() / "array.npz", classes=[Holder]).value_
    assert loaded.dtype == value.dtype
    assert loaded.shape == value.shape
    assert loaded.tobytes() == value.tobytes()


@pytest.mark.parametrize(
    "items",
    [["NA", "007", ""], [None, 1, 2.5, "x"], [[1, 2], [3, 4]], [np.arange(2), np.arange(2)], [("a", 1), ("b", 2)], []],
    ids=str,
)
def test_object_arrays_come_back_item_by_item(items, path):
    value = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        value[i] = item
    loaded = round_trip(holding(value), path, classes=[Holder]).value_
    assert loaded.dtype == object
    assert repr(loaded.tolist()) == repr(value.tolist())


def test_object_arrays_keep_their_shape(path):
    value = np.array([["a", None], ["b", 3]], dtype=object)
    assert round_trip(holding(value), path, classes=[Holder]).value_.tolist() == value.tolist()


def test_numpy_scalars_curves_and_paths_come_back_as_plain_values(path):
    value = {
        "n": np.int64(3),
        "share": np.float32(0.5),
        "yes": np.bool_(True),
        "name": np.str_("007"),
        "at": Path("a/b"),
    }
    loaded = round_trip(holding(value), path, classes=[Holder]).value_
    assert loaded == {"n": 3, "share": 0.5, "yes": True, "name": "007", "at": "a/b"}
    curve = round_trip(holding(ToneCurve([0, 0.5, 1], [0, 0.2, 1])), path, classes=[Holder]).value_
    assert curve(0.25) == pytest.approx(0.1)


def test_private_attributes_are_left_out(path):
    holder = holding(1)
    holder._cache_, holder.note = 2, 3
    loaded = round_trip(holder, path, classes=[Holder])
    assert vars(loaded) == {"parameter": None, "value_": 1}


# -- what cannot be written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (len, r"Holder\.value_ is a builtin_function_or_method"),
        ({"a": [1, 2 + 3j]}, r"Holder\.value_\['a'\]\[1\] is a complex"),
        (b"x", r"Holder\.value_ is a bytes"),
        (np.zeros(2, dtype=[("a", object)]), r"Holder\.value_ is a ndarray"),
    ],
)
def test_what_the_format_cannot_hold_is_named_with_its_place(value, place, path):
    with pytest.raises(PersistenceError, match=place):
        save(holding(value), path)
    assert not path.exists()


def test_a_step_that_cannot_be_written_is_named(path):
    with pytest.raises(PersistenceError, match=r"Pipeline\.steps\[1\]\[1\]\.parameter is a function"):
        save(Pipeline([("a", MinMax()), ("b", Holder(lambda: 0))]), path)


def test_a_save_that_fails_leaves_the_old_file(path, monkeypatch):
    save(MinMax(), path)
    before = path.read_bytes()

    def no_space(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", no_space)
    with pytest.raises(PersistenceError, match=r"cannot be written \(No space left on device\)"):
        save(CDFMatching().fit(X), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["model.npz"]


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(PersistenceError, match=r"missing/model\.npz cannot be written .*check the folder"):
        save(MinMax(), tmp_path / "missing" / "model.npz")


# -- files that are not to be trusted ---------------------------------------------------------------------------------


def write(path, model=None, *, arrays=None, format="xray_harmonize model", version=1, text=None):
    document = json.dumps({"format": format, "version": version, "model": model}) if text is None else text
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", document)
        for name, data in (arrays or {}).items():
            archive.writestr(name, data)


def model_of(cls="MinMax", parameters=None, learned=None):
    return {"class": cls, "parameters": parameters or {}, "learned": learned or {}}


def npy(array, shape=None):
    """Bytes of an array, its header claiming another shape if one is given."""
    stream = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(stream, {**header, **({"shape": shape} if shape else {})})
    return stream.getvalue() + array.tobytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model.npz"
    save(Nyul().fit(X), path)
    return path.read_bytes()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PersistenceError, match=r"missing\.npz cannot be opened \(No such file or directory\)"):
        load(tmp_path / "missing.npz")
    with pytest.raises(PersistenceError, match="cannot be opened"):
        load(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"something else", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "empty zip"]
)
def test_a_file_that_is_none_of_ours_is_refused(data, path):
    path.write_bytes(data)
    with pytest.raises(PersistenceError, match=r"model\.npz is no saved model of xray_harmonize, or is damaged"):
        load(path)


def test_arrays_that_numpy_saved_are_refused(path):
    np.savez(path, a=np.zeros(3))
    with pytest.raises(PersistenceError, match="is no saved model of xray_harmonize"):
        load(path)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "null", '{"format": "other"}', "\ufffe", "[" * 100_000])
def test_other_json_is_refused(text, path):
    write(path, text=text)
    with pytest.raises(PersistenceError, match="is no saved model of xray_harmonize"):
        load(path)


def test_a_newer_format_says_to_update(path):
    write(path, model_of(), version=2)
    with pytest.raises(PersistenceError, match=r"written by a newer version.*format 2; this one reads up to 1.*Update"):
        load(path)


@pytest.mark.parametrize(
    "name", ["Missing", "system", "ImageSet", "make_cohort", "load", "__version__", "BaseEstimator"]
)
def test_a_class_that_is_not_ours_is_refused(name, path):
    write(path, model_of(name))
    with pytest.raises(PersistenceError, match=f"holds a {name}, which is no estimator"):
        load(path)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"class": ["MinMax"], "parameters": {}, "learned": {}},
        model_of(parameters={"unknown": 1}),
        model_of(parameters=[1]),
        model_of(learned={"x_": {"array": "missing"}}),
        model_of(learned={"x_": {"array": ["a"]}}),
        model_of(learned={"x_": {"objects": [1, 2], "shape": [3]}}),
        model_of(learned={"x_": {"dict": [[1]]}}),
        model_of(learned={"x_": {"dict": [[[1], 2]]}}),
        model_of(learned={"x_": {"tuple": 1}}),
        model_of(learned={"x_": {"class": "ToneCurve", "x": [0, 1], "y": [1, 0]}}),
    ],
    ids=str,
)
def test_a_document_that_makes_no_sense_is_refused(model, path):
    write(path, model)
    with pytest.raises(PersistenceError, match="is no saved model of xray_harmonize, or is damaged"):
        load(path)


@pytest.mark.parametrize("name", ["transform", "__class__", "__dict__", "_render_", "fit"])
def test_a_file_can_set_no_attribute_but_learned_ones(name, path):
    write(path, model_of(learned={name: 1}))
    with pytest.raises(PersistenceError, match=f"{name} is no name of a learned attribute"):
        load(path)


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_anywhere_is_refused(whole, share, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "cut.npz"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(PersistenceError, match="is no saved model of xray_harmonize, or is damaged"):
        load(path)


@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255))
def test_a_changed_byte_changes_nothing_or_is_refused(whole, place, byte, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "changed.npz"
    data = bytearray(whole)
    data[int(place * len(data))] ^= byte
    path.write_bytes(data)
    try:
        loaded = load(path)
    except PersistenceError:
        return
    np.testing.assert_array_equal(loaded.standard_landmarks_, Nyul().fit(X).standard_landmarks_)


class Bomb:
    """Pickled, it writes a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "executed")


def test_a_pickle_in_the_file_is_never_run(path, tmp_path):
    target = tmp_path / "executed"
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([Bomb(target)], dtype=object), allow_pickle=True)
    write(path, model_of(learned={"x_": {"array": "a"}}), arrays={"a.npy": stream.getvalue()})
    with pytest.raises(PersistenceError, match="damaged"):
        load(path)
    assert not target.exists()


def test_neither_saving_nor_loading_uses_pickle(path, classifier, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    round_trip(Pipeline([("tone", CDFMatching().fit(X)), ("classifier", classifier)]), path)
    with zipfile.ZipFile(path) as archive:
        for name in set(archive.namelist()) - {"model.json"}:
            with archive.open(name) as member:
                np.lib.format.read_array(member, allow_pickle=False)


def test_an_array_that_claims_more_than_is_there_is_refused_before_memory_is_taken(path):
    huge = npy(np.zeros(4), shape=(2**27,))
    write(path, model_of(learned={"x_": {"array": "a"}}), arrays={"a.npy": huge})
    tracemalloc.start()
    try:
        with pytest.raises(PersistenceError, match=r"a\.npy holds 32 bytes, expected 1073741824 for float64"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_an_array_with_bytes_left_over_is_refused(path):
    write(path, model_of(learned={"x_": {"array": "a"}}), arrays={"a.npy": npy(np.zeros(4), shape=(3,))})
    with pytest.raises(PersistenceError, match=r"a\.npy holds 32 bytes, expected 24"):
        load(path)


def test_a_directory_that_claims_more_than_the_file_can_hold_is_refused(path):
    write(path, model_of(learned={"x_": {"array": "a"}}), arrays={"a.npy": npy(np.zeros(4), shape=(2**27,))})
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, entry + 24, 2**30 + 128)
    path.write_bytes(data)
    with pytest.raises(PersistenceError, match=r"claims to hold \d{10} bytes, more than its \d+ can"):
        load(path)


def test_json_larger_than_any_model_needs_is_refused(path):
    write(path, text=" " * (2**26 + 1))
    with pytest.raises(PersistenceError, match="its JSON has 67108865 bytes, expected at most 67108864"):
        load(path)


# -- fitted elsewhere -----------------------------------------------------------------------------------------------

# No machine has so many; what was fitted here is made to look fitted there.
ABSENT = "cuda:99"


@pytest.fixture(scope="module")
def window():
    return DLBC(**MOMENT).fit(darker(), target=bodies())


def on_absent_device(estimator):
    return copy.deepcopy(estimator).set_params(device=ABSENT)


def told_of(path, **options):
    with pytest.warns(XRayHarmonizeWarning) as caught:
        loaded = load(path, **options)
    assert {warning.filename for warning in caught} == {__file__}
    return loaded, [str(warning.message) for warning in caught]


def test_a_harmonizer_fitted_on_a_device_that_is_not_here_computes_on_what_is(window, path):
    save(on_absent_device(window), path)
    loaded, (message,) = told_of(path)
    place = "cuda" if torch.cuda.is_available() else "cpu"
    assert message == (
        f"DLBC was fitted on 'cuda:99', which this machine does not have; it computes on '{place}' here "
        "(device='auto')."
    )
    assert loaded.device == "auto"
    for before, after in zip(images(window.transform(darker())), images(loaded.transform(darker())), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-5)


def test_devices_of_classifiers_and_whatever_stands_within_are_seen_to(window, classifier, path):
    nested = Pipeline(
        [
            ("inner", Pipeline([("window", on_absent_device(window)), ("again", on_absent_device(window))])),
            ("classifier", on_absent_device(classifier)),
        ]
    )
    holder = holding([{"here": on_absent_device(classifier)}, nested])
    holder.parameter = GDCE(discriminator=on_absent_device(classifier), device=ABSENT)
    save(holder, path)
    loaded, messages = told_of(path, classes=[Holder])
    # One a class, in however many places it is.
    assert sorted(message.split()[0] for message in messages) == ["DLBC", "GDCE", "ResNetClassifier"]
    inner = loaded.value_[1]
    devices = [step.device for step in (*inner["inner"].named_steps.values(), inner["classifier"], loaded.parameter)]
    devices += [loaded.parameter.discriminator.device, loaded.value_[0]["here"].device]
    assert devices == ["auto"] * 6
    assert inner.predict_proba(X).shape == (8, 2)


def test_features_of_a_network_may_have_been_computed_elsewhere(path):
    features = DeepFeatures(width=4, image_size=16, weights="random", device="cpu").fit(X)
    save(on_absent_device(features), path)
    loaded, (message,) = told_of(path)
    assert message.startswith("DeepFeatures was fitted on 'cuda:99'")
    np.testing.assert_allclose(loaded.transform(X), features.transform(X), atol=1e-5)


@pytest.mark.parametrize("device", ["auto", "cpu", "left detector", None, 3])
def test_a_device_that_is_here_or_is_none_is_left_as_it_is(device, path):
    save(Deviced(device), path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(path, classes=[Deviced]).device == device


# -- what tells one model from another ------------------------------------------------------------------------------


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)
def test_a_fingerprint_is_that_of_the_saved_copy(transformer, path):
    fitted = transformer.fit(X)
    told = fingerprint(fitted)
    assert re.fullmatch("[0-9a-f]{64}", told)
    assert fingerprint(round_trip(fitted, path)) == told
    assert fingerprint(copy.deepcopy(fitted)) == told


def test_a_fingerprint_does_not_depend_on_the_process():
    code = (
        "import numpy as np\n"
        "from xray_harmonize import CDFMatching\n"
        "from xray_harmonize.persistence import fingerprint\n"
        "print(fingerprint(CDFMatching().fit(np.arange(32, dtype='uint8').reshape(2, 4, 4))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == fingerprint(CDFMatching().fit(np.arange(32, dtype="uint8").reshape(2, 4, 4)))


def test_class_parameters_and_learned_state_all_count():
    models = [
        CDFMatching().fit(X),
        CDFMatching().fit(X[:4]),
        CDFMatching(smoothness=0.1).fit(X),
        CDFMatching(),
        Nyul().fit(X),
        Pipeline([("a", CDFMatching().fit(X))]),
        Pipeline([("b", CDFMatching().fit(X))]),
        holding(np.arange(4)),
        holding(np.arange(4).astype("int32")),
        holding(np.arange(4).reshape(2, 2)),
        holding([0, 1, 2, 3]),
        holding((0, 1, 2, 3)),
        holding({"a": 1}),
        holding({"a": 2}),
        holding("array_0"),
    ]
    assert len({fingerprint(model) for model in models}) == len(models)


def test_order_and_layout_do_not_count():
    values = np.arange(12.0).reshape(3, 4)
    assert fingerprint(holding(values)) == fingerprint(holding(np.asfortranarray(values)))
    assert fingerprint(holding(values)) == fingerprint(holding(values.astype(">f8")))
    one = CDFMatching(scope="scanner", reference="007").fit(X)
    other = CDFMatching(scope="scanner", reference="007").fit(X[::-1])
    assert list(one.statistics_) != list(other.statistics_)
    assert fingerprint(holding({"a": values, "b": 1})) == fingerprint(holding({"b": 1, "a": values}))


def test_where_it_is_computed_does_not_count_but_what_else_is_called_a_device_does(window, path):
    told = fingerprint(window)
    save(on_absent_device(window), path)
    with pytest.warns(XRayHarmonizeWarning, match="DLBC was fitted on"):
        assert fingerprint(load(path)) == fingerprint(on_absent_device(window)) == told
    assert len({fingerprint(Deviced(device)) for device in ("auto", "left detector", "right detector", None)}) == 4


def test_what_cannot_be_saved_has_no_fingerprint():
    with pytest.raises(PersistenceError, match=r"Holder.value_ is a set, which this format cannot hold"):
        fingerprint(holding({1, 2}))
