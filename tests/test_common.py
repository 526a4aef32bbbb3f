"""The contracts that every harmonizer keeps, checked over all of them.

A class in ``xray_harmonize.harmonizers`` is found and checked without being named here: as it is by default, and, if it
has a scope, with every scope. ``PARAMETERS`` adds settings that run through other code.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score, learning_curve
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.validation import check_is_fitted

import xray_harmonize
from xray_harmonize import (
    CDFMatching,
    CropForeground,
    ImageSet,
    MinMax,
    Resize,
    ResNetClassifier,
    WindowClamp,
    ZScore,
)
from xray_harmonize.exceptions import (
    InvalidImageError,
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    UnknownScannerError,
)
from xray_harmonize.harmonizers.base import Harmonizer, ReferenceHarmonizer
from xray_harmonize.harmonizers.built_network import BuiltNetwork
from xray_harmonize.harmonizers.network_rendering import GlobalRendering, LocalRendering, NetworkRendering
from xray_harmonize.harmonizers.paired import PairedHarmonizer

pytestmark = pytest.mark.filterwarnings("ignore::xray_harmonize.exceptions.XRayHarmonizeWarning")

BASES = {Harmonizer, ReferenceHarmonizer, BuiltNetwork, NetworkRendering}
BASES |= {PairedHarmonizer, GlobalRendering, LocalRendering}

LEVEL_8, LEVEL_16 = 1 / 255, 1 / 65535

JUDGE = ResNetClassifier(
    width=2, image_size=8, max_epochs=1, batch_size=4, validation_fraction=0, device="cpu", random_state=0
)
FITTED_JUDGE = clone(JUDGE).fit(np.random.default_rng(0).random((8, 8, 8)), [0, 1] * 4)
# A training of milliseconds, without labels of the images unless JUDGE is to be trained by them.
MOMENT: dict[str, Any] = {"discriminator": JUDGE, "supervision": "distribution", "perceptual": None, "start": "random"}
MOMENT |= {"max_steps": 2, "n_layers": 2, "view_size": 8, "batch_size": 4, "lr": 0.05, "device": "cpu"}
MOMENT |= {"random_state": 0}

# The same for methods that learn from pairs.
STEPS: dict[str, Any] = {"max_steps": 2, "batch_size": 2, "lr": 2e-3, "schedule": "constant", "device": "cpu"}
STEPS |= {"validation_fraction": 0, "random_state": 0}

# A flow of a handful of pixels, trained for two steps.
FLOW: dict[str, Any] = {"image_size": 8, "n_levels": 2, "n_steps": 1, "channels": 4, "n_bins": 4, "n_iterations": 2}
FLOW |= {"max_steps": 2, "batch_size": 4, "device": "cpu", "random_state": 0}

PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "BlindHarmony": [
        {**FLOW, "start": "matched"},
        {**FLOW, "reference": "A", "similarity": "cosine", "latent": "origin", "validation_fraction": 0},
    ],
    "CDFMatching": [
        {"smoothness": 0.02, "max_slope": 4.0, "foreground": "otsu"},
        {"scope": "shrunk"},
        {"scope": "shrunk", "reference": "pooled", "unseen": "image", "max_slope": 4.0},
    ],
    # In critics this small one unit that changes sides moves a tenth of a gradient, whose signs alone the first steps
    # look at: at the usual rate, images a level of 16 bits apart end grey levels apart, as they do with another seed.
    "CycleGAN": [{"max_steps": 2, "n_features": 2, "n_blocks": 1, "lr": 1e-5, "device": "cpu", "random_state": 0}],
    "DLBC": [{**STEPS, "n_features": 2, "view_size": 32}],
    "FourierSwap": [
        {"beta": 0.1, "window": "gaussian", "padding": "reflect"},
        {"beta": 0.1, "scope": "scanner"},
        {"mode": "dct"},
        {"mode": "dct", "scope": "scanner"},
    ],
    "GDCE": [
        MOMENT,
        {**MOMENT, "discriminator": FITTED_JUDGE},
        {**MOMENT, "discriminator": FITTED_JUDGE, "scope": "scanner", "unseen": "identity"},
    ],
    "InterpretableMapping": [
        {**STEPS, "n_features": 2},
        {**STEPS, "n_features": 2, "reference": "A", "rescale": "dicom", "global_statistics": False},
    ],
    "LUT3D": [{**STEPS, "n_features": 2, "view_size": 32}],
    "MinMax": [{"percentiles": (1, 99), "output_range": "reference", "foreground": "nonzero"}],
    "MultiBand": [{"n_bands": 3, "base_sigma": 0.05, "foreground": 0.1}],
    "Nyul": [{"percentiles": (5, 25, 50, 75, 95), "output_range": (0.05, 0.95)}],
    "ResUNet": [{**STEPS, "n_features": 2}],
    "SupDCE": [{**STEPS, "n_features": 2}],
    "UNet": [{**STEPS, "n_features": 2, "downscale": 2}],
    "WindowClamp": [
        {"window": "percentiles", "percentiles": (2, 98)},
        {"window": (0.5, 0.6), "voi_lut_function": "SIGMOID"},
    ],
}


def discovered() -> list[type[Harmonizer]]:
    """Find every public harmonizer class of the package."""
    found = set()
    package = importlib.import_module("xray_harmonize.harmonizers")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(value) and issubclass(value, Harmonizer) and not name.startswith("_"):
                found.add(value)
    return sorted(found - BASES, key=lambda cls: cls.__name__)


def configured(cls: type[Harmonizer]) -> list[Harmonizer]:
    # What trains a network, or needs labels, is checked in settings of PARAMETERS that take a moment and none.
    left_out = "device" in cls().get_params() or cls().__sklearn_tags__().target_tags.required
    settings: list[dict[str, Any]] = [] if left_out else [{}]
    if issubclass(cls, ReferenceHarmonizer):
        settings += [{"scope": "scanner", "unseen": "image"}, {"scope": "mixed"}, {"reference": "pooled"}]
    return [cls(**parameters) for parameters in settings + PARAMETERS.get(cls.__name__, [])]


def name_of(estimator: object) -> str:
    return " ".join(str(estimator).split())


HARMONIZERS = [harmonizer for cls in discovered() for harmonizer in configured(cls)]
PER_SCANNER = [h for h in HARMONIZERS if getattr(h, "scope", "image") != "image"]
LEARNING = [h for h in HARMONIZERS if h.__sklearn_tags__().requires_fit]
# Those that learn statistics which add up, as counts do.
COUNTING = [h for h in LEARNING if isinstance(h, ReferenceHarmonizer)]
GLOBAL = [h for h in HARMONIZERS if hasattr(h, "tone_curves")]
FRAMES = [CropForeground(), CropForeground(fill="square", size=24), Resize(20)]

every_harmonizer = pytest.mark.parametrize("harmonizer", HARMONIZERS, ids=name_of)
every_transformer = pytest.mark.parametrize("harmonizer", HARMONIZERS + FRAMES, ids=name_of)
every_learning_one = pytest.mark.parametrize("harmonizer", LEARNING, ids=name_of)
every_counting_one = pytest.mark.parametrize("harmonizer", COUNTING, ids=name_of)
every_per_scanner_one = pytest.mark.parametrize("harmonizer", PER_SCANNER, ids=name_of)
every_global_one = pytest.mark.parametrize("harmonizer", GLOBAL, ids=name_of)


# -- images of three scanners ---------------------------------------------------------------------------------------

RESPONSES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "A": lambda x: x,
    "B": lambda x: 0.8 * x**0.6,
    "C": lambda x: 0.1 + 0.6 * x**1.5,
}


def body(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """Give a bright disc with texture in dark air, in [0, 1]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    distance = np.hypot(rows - rng.uniform(-0.2, 0.2), columns - rng.uniform(-0.2, 0.2))
    texture = 0.06 * np.sin(rng.uniform(4, 9) * rows + rng.uniform(4, 9) * columns) + 0.03 * rng.standard_normal(shape)
    return np.clip(0.05 + 0.85 / (1 + np.exp(9 * (distance - 0.7))) + texture * (distance < 0.9), 0, 1)


@cache
def cohort(ragged: bool = True, n: int = 12) -> ImageSet:
    """Give n images of scanners A, B and C, of 12 bits stored, some with masks and display windows."""
    scanner = np.array(["A", "B", "C", "A"])[np.arange(n) % 4]
    images, masks = [], []
    for i in range(n):
        shape = (26 + i % 3, 24 + i % 5) if ragged else (26, 24)
        images.append(np.rint(RESPONSES[scanner[i]](body(i, shape)) * 4095).astype("uint16"))
        masks.append(np.add.outer(np.arange(shape[0]), np.arange(shape[1])) > 6 if i % 5 == 1 else None)
    window = np.where(np.arange(n) % 3 == 0, 2000.0, np.nan)
    meta = pd.DataFrame({"window_center": window, "window_width": 1.5 * window, "kvp": 60.0 + np.arange(n)})
    return ImageSet(images, scanner, [f"P{i}" for i in range(n)], bits_stored=12, mask=masks, meta=meta)


@cache
def fitted_once(k: int) -> Any:
    return clone((HARMONIZERS + FRAMES)[k]).fit(cohort())


def fitted(harmonizer: Any) -> Any:
    """Give a fitted copy of one of the estimators above."""
    return copy.deepcopy(fitted_once(next(k for k, h in enumerate(HARMONIZERS + FRAMES) if h is harmonizer)))


def scanner_keyword(harmonizer: Any) -> dict[str, Any]:
    """Give the labels of ``cohort()`` as a keyword, to those that take it."""
    return {"scanner": cohort().scanner} if isinstance(harmonizer, Harmonizer) else {}


def assert_same_images(first: Any, second: Any, atol: float = 0) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def parameters(estimator: Any) -> dict[str, Any]:
    """Give parameters by name; an estimator among them is told by its class and its own parameters."""
    return {k: type(v) if isinstance(v, BaseEstimator) else v for k, v in estimator.get_params().items()}


def learned(estimator: Any) -> dict[str, Any]:
    """Give what stays of a fit: caches do not, as nothing that is pickled holds them."""
    return {k: v for k, v in estimator.__getstate__().items() if k not in estimator.get_params(deep=False)}


def assert_same_state(first: Any, second: Any, rtol: float = 0) -> None:
    """Compare nested dicts, lists, arrays, scalars, and the states of estimators; seconds it took may differ."""
    if isinstance(first, BaseEstimator):
        assert type(first) is type(second)
        assert_same_state(learned(first), learned(second), rtol)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first.keys() - {"dur"}:
            assert_same_state(first[key], second[key], rtol)
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_same_state(a, b, rtol)
    elif isinstance(first, str | None):
        assert first == second
    else:
        np.testing.assert_allclose(first, second, rtol=rtol, atol=rtol)


# -- the list itself ------------------------------------------------------------------------------------------------


def test_every_harmonizer_is_found_and_public() -> None:
    names = {cls.__name__ for cls in discovered()}
    assert {"FullRange", "MinMax", "ZScore", "WindowClamp", "CDFMatching", "Nyul", "FourierSwap", "MultiBand"} <= names
    assert names <= set(xray_harmonize.__all__)
    assert set(PARAMETERS) <= names


def test_every_harmonizer_is_documented_with_an_example() -> None:
    for cls in discovered():
        assert ">>>" in inspect.getdoc(cls)
        for parameter in inspect.signature(cls).parameters:
            assert f"{parameter} :" in inspect.getdoc(cls), f"{cls.__name__}: {parameter}"


def test_every_default_is_the_one_that_is_documented() -> None:
    for cls in discovered():
        for name, parameter in inspect.signature(cls).parameters.items():
            told = re.search(rf"^{name} : (.*)$", inspect.getdoc(cls) or "", re.MULTILINE)
            assert told is not None, f"{cls.__name__}: {name}"
            _, _, text = told.group(1).partition("default=")
            if "..." in text or "/" in text:  # numbers left out, and fractions
                continue
            expected = ast.literal_eval(text) if text else None
            assert parameter.default == expected, f"{cls.__name__}: {name}"


# -- parameters -----------------------------------------------------------------------------------------------------


@every_transformer
def test_the_constructor_stores_its_parameters_and_does_nothing_else(harmonizer: Any) -> None:
    parameters = harmonizer.get_params(deep=False)
    made = type(harmonizer)(**parameters)
    assert vars(made).keys() == parameters.keys() == inspect.signature(type(harmonizer)).parameters.keys()
    for key, value in parameters.items():
        assert getattr(made, key) is value


@every_transformer
def test_the_constructor_accepts_anything_so_that_fit_can_say_what_is_wrong(harmonizer: Any) -> None:
    nonsense = {key: object() for key in harmonizer.get_params(deep=False)}
    assert vars(type(harmonizer)(**nonsense)) == nonsense


@every_transformer
def test_clones_have_the_same_parameters_and_no_state(harmonizer: Any) -> None:
    copied = clone(fitted(harmonizer))
    assert parameters(copied) == parameters(harmonizer)
    assert vars(copied).keys() == harmonizer.get_params(deep=False).keys()


@every_transformer
def test_parameters_go_round(harmonizer: Any) -> None:
    other = type(harmonizer)().set_params(**harmonizer.get_params())
    assert other.get_params() == harmonizer.get_params()
    assert repr(other) == repr(harmonizer)


@every_transformer
def test_fitting_and_transforming_leave_parameters_and_global_settings_alone(harmonizer: Any) -> None:
    from sklearn import get_config

    before, settings = copy.deepcopy(parameters(harmonizer)), get_config()
    one = clone(harmonizer)
    assert one.fit(cohort()) is one
    list(one.transform(cohort()))
    assert parameters(one) == before
    assert get_config() == settings


# -- fitting --------------------------------------------------------------------------------------------------------


@every_transformer
def test_what_is_learned_is_arrays_scalars_and_strings_under_names_with_an_underscore(harmonizer: Any) -> None:
    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        if isinstance(value, list | tuple):
            return all(plain(item) for item in value)
        if isinstance(value, np.ndarray):
            return value.dtype != object
        if isinstance(value, BaseEstimator):
            return plain(learned(value))
        return isinstance(value, str | int | float | bool | np.generic | None)

    one = fitted(harmonizer)
    check_is_fitted(one)
    for key, value in learned(one).items():
        assert key.endswith("_")
        assert not key.startswith("_")
        assert plain(value), key


@every_learning_one
def test_nothing_is_transformed_before_fit(harmonizer: Any) -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        clone(harmonizer).transform(cohort())


@every_transformer
def test_fitting_again_equals_fitting_afresh(harmonizer: Any) -> None:
    again = clone(harmonizer).fit(cohort()[:7]).fit(cohort())
    assert_same_state(learned(again), learned(fitted(harmonizer)))


@every_harmonizer
def test_fit_does_not_depend_on_the_order_of_the_images(harmonizer: Any) -> None:
    order = np.random.default_rng(0).permutation(len(cohort()))
    shuffled = clone(harmonizer).fit(cohort()[order])
    assert_same_images(shuffled.transform(cohort()), fitted(harmonizer).transform(cohort()), atol=1e-5)


@pytest.mark.parametrize("harmonizer", [h for h in HARMONIZERS if not hasattr(h, "discriminator")], ids=name_of)
def test_fit_does_not_look_at_y(harmonizer: Any) -> None:
    one = clone(harmonizer).fit(cohort(), np.arange(len(cohort())))
    assert_same_state(learned(one), learned(fitted(harmonizer)))


@every_transformer
def test_fit_transform_is_fit_and_then_transform(harmonizer: Any) -> None:
    together = clone(harmonizer).fit_transform(cohort())
    assert_same_images(together, fitted(harmonizer).transform(cohort()))


@every_counting_one
@pytest.mark.parametrize("size", [1, 5])
def test_partial_fit_over_chunks_equals_fit(harmonizer: Any, size: int) -> None:
    streamed = clone(harmonizer)
    for start in range(0, len(cohort()), size):
        assert streamed.partial_fit(cohort()[start : start + size]) is streamed
    assert_same_state(learned(streamed), learned(fitted(harmonizer)), rtol=1e-12)


@every_harmonizer
def test_labels_by_keyword_and_in_the_set_mean_the_same(harmonizer: Any) -> None:
    X, scanner = list(cohort(ragged=False)), cohort(ragged=False).scanner
    bare = ImageSet(X, bits_stored=12)
    by_keyword = clone(harmonizer).fit(bare, scanner=scanner).transform(bare, scanner=scanner)
    inside = bare.with_scanner(scanner)
    assert_same_images(by_keyword, clone(harmonizer).fit(inside).transform(inside))
    assert_same_images(by_keyword, clone(harmonizer).fit_transform(bare, scanner=scanner))


@every_harmonizer
@pytest.mark.parametrize("method", ["fit", "transform", "fit_transform", "adapt"])
def test_labels_that_contradict_each_other_are_an_error(harmonizer: Any, method: str) -> None:
    wrong = np.roll(cohort().scanner, 1)
    with pytest.raises(InvalidParameterError, match=r"scanner= and X\.scanner differ, first at image 1: 'A' against"):
        getattr(fitted(harmonizer), method)(cohort(), scanner=wrong)


# -- one image never depends on another -----------------------------------------------------------------------------


@every_transformer
def test_the_result_for_an_image_does_not_depend_on_the_others_in_the_call(harmonizer: Any) -> None:
    one = fitted(harmonizer)
    together = one.transform(cohort())
    for i in range(len(cohort())):
        assert_same_images(one.transform(cohort()[[i]]), together[[i]])


@every_transformer
def test_another_order_of_images_gives_another_order_of_the_same_results(harmonizer: Any) -> None:
    one, order = fitted(harmonizer), np.random.default_rng(0).permutation(len(cohort()))
    assert_same_images(one.transform(cohort()[order]), one.transform(cohort())[order])


@every_transformer
def test_transforming_changes_nothing_in_the_estimator(harmonizer: Any) -> None:
    one = fitted(harmonizer)
    first = list(one.transform(cohort()))
    assert_same_state(learned(one), learned(fitted(harmonizer)))
    assert_same_images(first, list(one.transform(cohort())))


# -- containers -----------------------------------------------------------------------------------------------------


@every_transformer
def test_stacks_lists_and_sets_give_the_same_images_in_their_own_kind(harmonizer: Any) -> None:
    stack = np.stack(list(cohort(ragged=False)))
    keyword, one = scanner_keyword(harmonizer), clone(harmonizer)
    one.fit(stack, **keyword)
    of_stack, of_list = one.transform(stack, **keyword), one.transform(list(stack), **keyword)
    of_set = one.transform(ImageSet(stack, cohort().scanner))
    assert type(of_list) is list
    assert type(of_set) is ImageSet
    same_shape = len({image.shape for image in of_list}) == 1
    assert type(of_stack) is (np.ndarray if same_shape else list)
    assert_same_images(of_stack, of_list)
    assert_same_images(of_set, of_list)


@every_transformer
def test_an_image_set_keeps_its_labels(harmonizer: Any) -> None:
    result = fitted(harmonizer).transform(cohort())
    assert not result.is_lazy
    assert result.scanner.tolist() == cohort().scanner.tolist()
    assert result.patient.tolist() == cohort().patient.tolist()
    assert result.meta["kvp"].tolist() == cohort().meta["kvp"].tolist()
    for i in range(len(result)):
        mask = result.mask(i)
        assert mask is None or mask.shape == result[i].shape
        assert result.radiograph(i).scanner == cohort().scanner[i]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """``cohort()`` in files."""
    folder = tmp_path_factory.mktemp("cohort")
    for i, image in enumerate(cohort()):
        np.save(folder / f"{i}.npy", image)
    masks = [cohort().mask(i) for i in range(len(cohort()))]
    paths = [folder / f"{i}.npy" for i in range(len(cohort()))]
    return ImageSet(paths, cohort().scanner, cohort().patient, 12, masks, cohort().meta)


@every_transformer
def test_a_lazy_set_stays_lazy_and_gives_the_same_images(harmonizer: Any, files: ImageSet) -> None:
    one = clone(harmonizer).fit(files)
    result = one.transform(files)
    assert result.is_lazy
    assert result.scanner.tolist() == cohort().scanner.tolist()
    assert_same_images(result, fitted(harmonizer).transform(cohort()))
    assert_same_images(pickle.loads(pickle.dumps(result[[3, 0]])), result[[3, 0]])


@every_transformer
def test_a_list_of_paths_gives_a_lazy_set(harmonizer: Any, files: ImageSet) -> None:
    paths = [files.radiograph(i).name for i in range(len(files))]
    one = clone(harmonizer).fit(paths, **scanner_keyword(harmonizer))
    assert one.transform(paths, **scanner_keyword(harmonizer)).is_lazy


@every_transformer
def test_an_empty_set_comes_back_empty(harmonizer: Any) -> None:
    one = fitted(harmonizer)
    keyword = {"scanner": []} if isinstance(harmonizer, Harmonizer) else {}
    assert one.transform([], **keyword) == []
    assert one.transform(np.zeros((0, 4, 5), "uint8"), **keyword).shape == (0, 4, 5)
    assert len(one.transform(cohort()[[]])) == 0


@every_harmonizer
def test_nothing_can_be_learned_from_no_image(harmonizer: Any) -> None:
    with pytest.raises(NotEnoughImagesError, match="Expected at least 1 image to learn from, got 0"):
        clone(harmonizer).fit(cohort()[[]])


# -- pixels ---------------------------------------------------------------------------------------------------------


@every_harmonizer
def test_results_are_float32_in_unit_range_and_memory_of_their_own(harmonizer: Any) -> None:
    for dtype in ("uint16", "float32", "float64"):
        X = cohort()
        if dtype != "uint16":
            X = ImageSet([X.unit(i).astype(dtype) for i in range(len(X))], X.scanner)
        for image, source in zip(clone(harmonizer).fit(X).transform(X), X, strict=True):
            assert image.dtype == np.float32
            assert image.shape == source.shape
            assert image.flags.writeable
            assert not np.shares_memory(image, source)
            assert np.isfinite(image).all()
            assert isinstance(harmonizer, ZScore) or 0 <= image.min() <= image.max() <= 1


@every_transformer
def test_read_only_and_memory_mapped_input_is_taken_and_left_untouched(harmonizer: Any, tmp_path: Path) -> None:
    stack = np.stack(list(cohort(ragged=False)))
    np.save(tmp_path / "stack.npy", stack)
    mapped, frozen = np.load(tmp_path / "stack.npy", mmap_mode="r"), stack.copy()
    frozen.setflags(write=False)
    keyword = scanner_keyword(harmonizer)
    expected = clone(harmonizer).fit(stack, **keyword).transform(stack, **keyword)
    for X in (mapped, frozen, list(frozen)):
        assert_same_images(clone(harmonizer).fit(X, **keyword).transform(X, **keyword), expected)
    np.testing.assert_array_equal(stack, frozen)
    floats = frozen.astype("float32") / 65535
    before = floats.copy()
    clone(harmonizer).fit(floats, **keyword).transform(floats, **keyword)
    np.testing.assert_array_equal(floats, before)


@every_transformer
def test_strided_and_byte_swapped_images_give_the_same(harmonizer: Any) -> None:
    stack = np.stack(list(cohort(ragged=False)))
    keyword, one = scanner_keyword(harmonizer), clone(harmonizer)
    expected = list(one.fit(stack, **keyword).transform(stack, **keyword))
    wide = np.repeat(stack, 2, axis=2)[:, :, ::2]
    assert_same_images(one.transform(wide, **keyword), expected)
    assert_same_images(one.transform(np.asfortranarray(stack), **keyword), expected)
    swapped = list(one.transform(stack.astype(">u2"), **keyword))
    for a, b in zip(swapped, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@every_harmonizer
def test_the_same_grey_values_at_any_depth_give_the_same_within_a_level(harmonizer: Any) -> None:
    eight = np.stack([np.rint(cohort(ragged=False).unit(i) * 255).astype("u1") for i in range(12)])
    scanner = cohort().scanner

    def result(images: np.ndarray) -> np.ndarray:
        return clone(harmonizer).fit_transform(images, scanner=scanner)

    # 257 times a level of 8 bits is the level of 16 bits that means the same.
    sixteen = result(eight.astype("u2") * 257)
    for other in (result(eight), result(eight.astype("f4") / 255), result(eight / 255.0)):
        assert np.abs(other - sixteen).max() <= LEVEL_8


@every_harmonizer
def test_bits_stored_say_what_full_scale_is(harmonizer: Any) -> None:
    # A display window of the metadata is in stored values, so it would have to change along.
    X = ImageSet(list(cohort()), cohort().scanner, bits_stored=12)
    deep = ImageSet([(image.astype("u4") << 4) + (image >> 8) for image in X], X.scanner, bits_stored=16)
    first, second = (clone(harmonizer).fit_transform(images) for images in (X, deep))
    assert max(np.abs(a - b).max() for a, b in zip(first, second, strict=True)) <= LEVEL_8


# -- images that go wrong -------------------------------------------------------------------------------------------

ODD = {
    "black": np.zeros((9, 7), "u2"),
    "white": np.full((9, 7), 65535, "u2"),
    "grey": np.full((9, 7), 20000, "u2"),
    "grey floats": np.full((9, 7), 0.3, "f4"),
    "one pixel": np.array([[7]], "u1"),
    "one pixel wide": np.arange(30, dtype="u2")[:, None] * 2000,
    "one pixel high": np.arange(30, dtype="u1")[None] * 8,
    "two levels": np.eye(9, 7, dtype="u1") * 255,
    "smallest steps": np.full((9, 7), 0.5) + np.arange(63).reshape(9, 7) * 1e-9,
}


@every_harmonizer
@pytest.mark.parametrize("odd", ODD)
def test_odd_images_have_a_defined_result_or_an_error_that_names_them(harmonizer: Any, odd: str) -> None:
    X = ImageSet([cohort()[0], ODD[odd]], scanner=["A", "B"])
    for fit in (lambda: fitted(harmonizer), lambda: clone(harmonizer).fit(X)):
        with np.errstate(all="raise", under="ignore"):
            try:
                result = fit().transform(X)[1]
            except InvalidImageError as error:
                assert "Image 1" in str(error)  # noqa: PT017 - either way is allowed
                continue
        assert result.shape == ODD[odd].shape
        assert np.isfinite(result).all()
        assert isinstance(harmonizer, ZScore) or 0 <= result.min() <= result.max() <= 1


@every_global_one
def test_a_constant_image_stays_constant(harmonizer: Any) -> None:
    X = ImageSet([np.full((9, 7), 30000, "u2")], scanner="A")
    assert np.ptp(fitted(harmonizer).transform(X)[0]) == 0


@every_harmonizer
def test_an_image_without_a_pixel_that_counts_has_a_defined_result_or_an_error_that_names_it(harmonizer: Any) -> None:
    masks = [None, np.zeros(cohort()[1].shape, bool)]
    X = ImageSet(list(cohort()[:2]), cohort().scanner[:2], bits_stored=12, mask=masks)
    for method in ("fit", "transform"):
        try:
            getattr(fitted(harmonizer), method)(X)
        except InvalidImageError as error:
            assert "Image 1" in str(error)  # noqa: PT017 - either way is allowed


@every_transformer
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused_with_the_name_of_the_image(harmonizer: Any, bad: float) -> None:
    X = ImageSet([cohort().unit(0), cohort().unit(1).copy()], scanner=["A", "B"])
    X[1][3, 3] = bad
    with pytest.raises(InvalidImageError, match=r"Image 1\b"):
        list(fitted(harmonizer).transform(X))


@every_harmonizer
@pytest.mark.parametrize("bad", [-0.01, 1.01, 255.0])
def test_floats_beyond_the_unit_range_are_refused_with_the_name_of_the_image(harmonizer: Any, bad: float) -> None:
    X = ImageSet([cohort().unit(0), cohort().unit(1).copy()], scanner=["A", "B"])
    X[1][3, 3] = bad
    with pytest.raises(InvalidImageError, match=rf"Image 1\b.* holds floats from .*{bad:g}.*; expected \[0, 1\]"):
        fitted(harmonizer).transform(X)


@every_harmonizer
def test_stored_values_beyond_their_bits_are_refused_with_the_name_of_the_image(harmonizer: Any) -> None:
    X = ImageSet([cohort()[0], cohort()[1] + np.uint16(4000)], scanner=["A", "B"], bits_stored=12)
    with pytest.raises(InvalidImageError, match=r"Image 1\b.* stored value .* above the full scale 4095"):
        fitted(harmonizer).transform(X)


@every_transformer
@pytest.mark.parametrize("X", [np.zeros((4, 5)), "image.png", None], ids=["one image", "a string", "nothing"])
def test_what_is_no_set_of_images_is_refused(harmonizer: Any, X: object) -> None:
    with pytest.raises(InvalidImageError, match=r"^Expected (a set of images|an ImageSet)"):
        fitted(harmonizer).transform(X)


@every_transformer
@pytest.mark.parametrize("X", [[np.zeros((0, 4))], [np.zeros((3, 4, 3))]], ids=["empty", "colour"])
def test_images_that_are_none_are_refused_by_name(harmonizer: Any, X: list) -> None:
    with pytest.raises(InvalidImageError, match="Image 0 has shape"):
        fitted(harmonizer).transform(X)


# -- global methods -------------------------------------------------------------------------------------------------


@every_global_one
def test_tone_curves_are_monotone_and_transform_is_these_curves_applied(harmonizer: Any) -> None:
    one = fitted(harmonizer)
    curves = one.tone_curves(cohort())
    assert len(curves) == len(cohort())
    for i, (curve, image) in enumerate(zip(curves, one.transform(cohort()), strict=True)):
        assert np.all(np.diff(curve.table(4096)) >= 0)
        np.testing.assert_array_equal(curve(cohort()[i], 12), image)


@every_global_one
def test_what_a_mask_leaves_out_goes_through_the_same_curve(harmonizer: Any) -> None:
    one, plain = fitted(harmonizer), cohort()[[1]]
    assert not plain.mask(0).all()
    np.testing.assert_array_equal(one.transform(plain)[0], one.tone_curves(plain)[0](plain[0], 12))


@every_learning_one
def test_what_a_mask_leaves_out_decides_nothing(harmonizer: Any) -> None:
    X = cohort(ragged=False)[[1]]
    disturbed = X[0].copy()
    disturbed[~X.mask(0)] = 4095
    Y = ImageSet([disturbed], X.scanner, bits_stored=12, mask=[X.mask(0)])
    one = fitted(harmonizer)
    inside = X.mask(0)
    np.testing.assert_allclose(one.transform(X)[0][inside], one.transform(Y)[0][inside], atol=1e-5)


# -- scanners -------------------------------------------------------------------------------------------------------


@every_per_scanner_one
def test_a_scanner_not_seen_in_fit_is_an_error_or_taken_image_by_image(harmonizer: Any) -> None:
    known = cohort()[cohort().scanner != "C"]
    strange = cohort()[cohort().scanner == "C"]
    with pytest.raises(UnknownScannerError, match=r"Scanner 'C' was not seen in fit; known are A, B\. Call adapt"):
        clone(harmonizer).set_params(unseen="error").fit(known).transform(strange)
    if harmonizer in COUNTING:
        alone = clone(harmonizer).set_params(unseen="image").fit(known).transform(strange)
        assert_same_images(alone, clone(harmonizer).set_params(scope="image").fit(known).transform(strange), atol=1e-6)


@every_per_scanner_one
@pytest.mark.parametrize("method", ["fit", "transform", "adapt"])
def test_a_missing_scanner_is_an_error_that_names_both_ways_to_give_it(harmonizer: Any, method: str) -> None:
    name = type(harmonizer).__name__
    both = rf"{name}\.{method} needs .* ImageSet\(images, scanner=\.\.\.\), or call {method}\(X, (y, )?scanner=\.\.\.\)"
    with pytest.raises(MissingScannerError, match=both):
        getattr(fitted(harmonizer), method)(list(cohort()))


@pytest.mark.parametrize("harmonizer", [h for h in HARMONIZERS if h not in PER_SCANNER], ids=name_of)
def test_transform_needs_no_label_unless_the_method_is_per_scanner(harmonizer: Any) -> None:
    unlabelled = ImageSet([cohort()[i] for i in range(12)], bits_stored=12, mask=[cohort().mask(i) for i in range(12)])
    labelled_only = unlabelled.with_scanner(cohort().scanner)
    one = fitted(harmonizer)
    assert_same_images(one.transform(unlabelled), one.transform(labelled_only))


@every_harmonizer
def test_adapt_serves_a_new_scanner_and_touches_nothing_that_was_known(harmonizer: Any) -> None:
    known, new = cohort()[cohort().scanner != "C"], cohort()[cohort().scanner == "C"]
    on_reference = clone(harmonizer)
    if "reference" in harmonizer.get_params():
        on_reference.set_params(reference="A")
    one = clone(on_reference).fit(known)
    before = copy.deepcopy(one)
    adapted = one.adapt(new)
    assert_same_state(learned(one), learned(before))
    assert one.get_params() == adapted.get_params()
    assert_same_images(adapted.transform(known), before.transform(known))
    if harmonizer in COUNTING:
        # The new scanner is learned as if it had been there from the start.
        assert_same_images(adapted.transform(new), clone(on_reference).fit(cohort()).transform(new), atol=1e-6)
    assert_same_images(one.adapt(list(new[[0]]), scanner=["C"]).transform(known), before.transform(known))


# -- saved and loaded -----------------------------------------------------------------------------------------------

FRESH = """
import sys
from pathlib import Path

import joblib
import numpy as np

import xray_harmonize

folder = Path(sys.argv[1])
X = joblib.load(folder / "images.joblib")
(folder / "results").mkdir()
for kind in ("plain", "deep"):
    for path in sorted((folder / kind).glob("*.npz")):
        for way, model in ("safe", xray_harmonize.load(path)), ("pickled", joblib.load(path.with_suffix(".joblib"))):
            answer = model.predict_proba if hasattr(model, "predict_proba") else model.transform
            np.savez(folder / "results" / f"{path.stem} {way}", *answer(X))
    assert kind == "deep" or "torch" not in sys.modules
"""


def pipeline_of_all_kinds() -> Pipeline:
    return make_pipeline(CropForeground(fill="square"), Resize(20), CDFMatching(scope="scanner"), MinMax())


def pipeline_with_a_classifier() -> Pipeline:
    return make_pipeline(xray_harmonize.GDCE(**MOMENT), clone(JUDGE))


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save all estimators and let a fresh interpreter load them; its results are in the folder ``results``."""
    folder = tmp_path_factory.mktemp("models")
    joblib.dump(cohort(), folder / "images.joblib")
    estimators = [fitted(estimator) for estimator in HARMONIZERS + FRAMES] + [pipeline_of_all_kinds().fit(cohort())]
    estimators.append(pipeline_with_a_classifier().fit(cohort(), labels()[: len(cohort())]))
    for k, estimator in enumerate(estimators):
        trains = any(name.rpartition("__")[2] == "device" for name in estimator.get_params())
        kind = folder / ("deep" if trains else "plain")
        kind.mkdir(exist_ok=True)
        xray_harmonize.save(estimator, kind / f"{k}.npz")
        joblib.dump(estimator, kind / f"{k}.joblib")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FRESH, str(folder)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return folder


def assert_reloaded(folder: Path, k: int, expected: Any) -> None:
    for way in ("safe", "pickled"):
        with np.load(folder / "results" / f"{k} {way}.npz") as stored:
            assert_same_images([stored[f"arr_{i}"] for i in range(len(expected))], expected)


@pytest.mark.parametrize("k", range(len(HARMONIZERS + FRAMES)), ids=[name_of(h) for h in HARMONIZERS + FRAMES])
def test_saved_and_loaded_in_a_fresh_interpreter_it_gives_the_same_images(k: int, reloaded: Path) -> None:
    assert_reloaded(reloaded, k, fitted_once(k).transform(cohort()))


def test_a_pipeline_is_saved_and_loaded_in_a_fresh_interpreter(reloaded: Path) -> None:
    k, y = len(HARMONIZERS + FRAMES), labels()[: len(cohort())]
    assert_reloaded(reloaded, k, pipeline_of_all_kinds().fit(cohort()).transform(cohort()))
    assert_reloaded(reloaded, k + 1, pipeline_with_a_classifier().fit(cohort(), y).predict_proba(cohort()))


@every_transformer
def test_what_is_loaded_has_the_parameters_and_the_state_of_what_was_saved(harmonizer: Any, tmp_path: Path) -> None:
    one = fitted(harmonizer)
    xray_harmonize.save(one, tmp_path / "model.npz")
    loaded = xray_harmonize.load(tmp_path / "model.npz")
    assert type(loaded) is type(one)
    assert parameters(loaded) == parameters(one)
    assert_same_state(learned(loaded), learned(one))


@every_counting_one
def test_what_is_loaded_can_be_adapted_and_fitted_further(harmonizer: Any, tmp_path: Path) -> None:
    one = clone(harmonizer).set_params(reference="A").fit(cohort()[:8])
    one.save(tmp_path / "model.npz")
    further = xray_harmonize.load(tmp_path / "model.npz").partial_fit(cohort()[8:])
    assert_same_state(learned(further), learned(one.partial_fit(cohort()[8:])))
    new = ImageSet(list(cohort()[8:]), "N", bits_stored=12)
    assert_same_state(learned(further.adapt(new)), learned(one.adapt(new)))


# -- inside scikit-learn --------------------------------------------------------------------------------------------


class GreyValues(TransformerMixin, BaseEstimator):
    """Mean, deviation and quantiles of every image, and in ``seen`` the scanners of every call."""

    def fit(self, X: Any, y: Any = None) -> GreyValues:
        return self

    def transform(self, X: Any) -> np.ndarray:
        assert isinstance(X, ImageSet)
        assert X.scanner is not None
        return np.array([[image.mean(), image.std(), *np.quantile(image, [0.1, 0.5, 0.9])] for image in X])

    def __sklearn_is_fitted__(self) -> bool:
        return True


N_SCORED = 24


@cache
def labels() -> np.ndarray:
    """Tell large bodies from small ones; two classes of equal numbers."""
    size = np.array([body(i, (26, 24)).mean() for i in range(N_SCORED)])
    return (size > np.median(size)).astype(int)


def classification(harmonizer: Any) -> Pipeline:
    return make_pipeline(clone(harmonizer), GreyValues(), LogisticRegression())


def by_hand(harmonizer: Any, folds: StratifiedKFold) -> tuple[list[float], np.ndarray]:
    """Fit, score and predict fold by fold without scikit-learn's tools: AUC a fold, and out-of-fold probabilities."""
    X, y = cohort(n=N_SCORED), labels()
    scores, probabilities = [], np.empty((N_SCORED, 2))
    for train, test in folds.split(np.zeros(N_SCORED), y):
        one = clone(harmonizer).fit(X[train], y[train])
        grey = GreyValues()
        classifier = LogisticRegression().fit(grey.transform(one.transform(X[train])), y[train])
        probabilities[test] = classifier.predict_proba(grey.transform(one.transform(X[test])))
        scores.append(roc_auc_score(y[test], probabilities[test, 1]))
    return scores, probabilities


FOLDS = StratifiedKFold(2, shuffle=True, random_state=0)


@every_harmonizer
def test_grid_search_scores_with_the_scanner_of_every_image(harmonizer: Any) -> None:
    search = GridSearchCV(
        classification(harmonizer), {"logisticregression__C": [1.0]}, scoring="roc_auc", cv=FOLDS, error_score="raise"
    ).fit(cohort(n=N_SCORED), labels())
    scores, _ = by_hand(harmonizer, FOLDS)
    assert [search.cv_results_[f"split{k}_test_score"][0] for k in range(2)] == pytest.approx(scores)


@every_harmonizer
def test_cross_val_predict_predicts_with_the_scanner_of_every_image(harmonizer: Any) -> None:
    pipeline = classification(harmonizer)
    predicted = cross_val_predict(pipeline, cohort(n=N_SCORED), labels(), cv=FOLDS, method="predict_proba")
    np.testing.assert_allclose(predicted, by_hand(harmonizer, FOLDS)[1], atol=1e-6)


@every_harmonizer
def test_calibration_takes_image_sets(harmonizer: Any) -> None:
    X, y = cohort(n=N_SCORED), labels()
    calibrated = CalibratedClassifierCV(classification(harmonizer), cv=FOLDS, ensemble=False).fit(X, y)
    alone = calibrated.predict_proba(X[[5]])
    assert alone.shape == (1, 2)
    np.testing.assert_allclose(calibrated.predict_proba(X)[[5]], alone, atol=1e-9)


@every_per_scanner_one
def test_learning_curves_take_image_sets(harmonizer: Any) -> None:
    sizes, train, test = learning_curve(
        classification(clone(harmonizer).set_params(unseen="image" if harmonizer in COUNTING else "identity")),
        cohort(n=N_SCORED),
        labels(),
        train_sizes=[8, 12],
        cv=FOLDS,
        scoring="roc_auc",
        shuffle=True,
        random_state=0,
        error_score="raise",
    )
    assert sizes.tolist() == [8, 12]
    assert np.isfinite(train).all()
    assert np.isfinite(test).all()


@pytest.mark.parametrize("lazy", [False, True], ids=["in memory", "lazy"])
def test_two_jobs_score_as_one_does(lazy: bool, files: ImageSet) -> None:
    X = files if lazy else cohort()
    y = labels()[: len(X)]
    harmonizers = [WindowClamp(), CDFMatching("A", "scanner", unseen="image")]
    for harmonizer in harmonizers:
        one, two = (
            cross_val_score(
                classification(harmonizer), X, y, cv=FOLDS, scoring="roc_auc", n_jobs=n_jobs, error_score="raise"
            )
            for n_jobs in (1, 2)
        )
        assert one.tolist() == two.tolist()


# -- why the scanner lives in X -------------------------------------------------------------------------------------


class Listening(TransformerMixin, BaseEstimator):
    """Notes whether the scanner, asked for by scikit-learn's metadata routing, arrives in ``transform``."""

    arrived: list[bool] = []

    def fit(self, X: Any, y: Any = None, scanner: Any = None) -> Listening:
        return self

    def fit_transform(self, X: Any, y: Any = None, scanner: Any = None) -> np.ndarray:
        return self.transform(X, scanner=scanner)

    def transform(self, X: Any, scanner: Any = None) -> np.ndarray:
        self.arrived.append(scanner is not None)
        return np.asarray(X).reshape(len(X), -1)

    def __sklearn_is_fitted__(self) -> bool:
        return True


def test_plain_metadata_routing_loses_the_scanner_where_an_image_set_does_not() -> None:
    """Routed metadata reaches ``fit``, but neither ``transform`` while scoring by name nor while predicting."""
    stack, y = np.stack([cohort(ragged=False, n=N_SCORED).unit(i) for i in range(N_SCORED)]), labels()
    scanner = cohort(n=N_SCORED).scanner
    grid = {"scoring": "roc_auc", "cv": FOLDS, "refit": False, "error_score": "raise"}
    with config_context(enable_metadata_routing=True):
        listening = Listening().set_fit_request(scanner=True).set_transform_request(scanner=True)
        routed = make_pipeline(listening, LogisticRegression())
        Listening.arrived.clear()
        GridSearchCV(routed, {"logisticregression__C": [1.0]}, **grid).fit(stack, y, scanner=scanner)
        # Two folds: in each the pipeline is fitted with the scanner, and scored without anybody noticing.
        assert Listening.arrived == [True, False] * 2
        # A harmonizer that needs the scanner says so, instead of falling back in silence.
        by_scanner = make_pipeline(CDFMatching(scope="scanner"), Flat(), LogisticRegression())
        with pytest.raises(MissingScannerError, match=r"CDFMatching\.transform needs to know which scanner"):
            GridSearchCV(by_scanner, {"logisticregression__C": [1.0]}, **grid).fit(stack, y, scanner=scanner)
        with pytest.raises(MissingScannerError, match=r"CDFMatching\.transform needs to know which scanner"):
            cross_val_predict(by_scanner, stack, y, cv=FOLDS, params={"scanner": scanner})
    # The same pipeline, with the scanner in X.
    X = ImageSet(stack, scanner)
    search = GridSearchCV(by_scanner, {"logisticregression__C": [1.0]}, **grid).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert cross_val_predict(by_scanner, X, y, cv=FOLDS).shape == (N_SCORED,)


class Flat(TransformerMixin, BaseEstimator):
    """Images of one shape as rows."""

    def fit(self, X: Any, y: Any = None) -> Flat:
        return self

    def transform(self, X: Any) -> np.ndarray:
        return np.stack([image.ravel() for image in X])

    def __sklearn_is_fitted__(self) -> bool:
        return True


@every_harmonizer
def test_where_routing_works_harmonizers_ask_for_the_scanner_by_themselves(harmonizer: Any) -> None:
    stack, scanner = np.stack(list(cohort(ragged=False))), cohort().scanner
    y = labels()[: len(stack)]
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(clone(harmonizer), Flat(), LogisticRegression())
        pipeline.fit(stack, y, scanner=scanner)
        routed = pipeline.predict_proba(stack, scanner=scanner)
    X = ImageSet(stack, scanner)
    plain = make_pipeline(clone(harmonizer), Flat(), LogisticRegression()).fit(X, y)
    np.testing.assert_allclose(routed, plain.predict_proba(X), atol=1e-6)
