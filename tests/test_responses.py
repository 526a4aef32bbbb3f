"""What a vendor stores of an attenuation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.datasets import PRESETS, ToneResponse
from xray_harmonize.datasets.responses import curve_between
from xray_harmonize.exceptions import InvalidParameterError

responses = st.builds(
    ToneResponse,
    response=st.sampled_from(["log", "power", "sigmoid"]),
    attenuation_range=st.tuples(st.floats(-0.5, 0.5), st.floats(2.0, 7.0)),
    strength=st.floats(0.1, 8.0),
    gamma=st.floats(0.3, 3.0),
    output_range=st.tuples(st.floats(0.0, 0.3), st.floats(0.4, 1.0)),
    bits_stored=st.integers(8, 16),
)


@given(tone=responses)
def test_every_response_rises_over_its_output_range(tone: ToneResponse) -> None:
    low, high = tone.attenuation_range
    fraction = tone.fraction(np.linspace(low - 1, high + 1, 301))
    assert np.all(np.diff(fraction) >= 0)
    assert fraction[0] == pytest.approx(tone.output_range[0], abs=1e-9)
    assert fraction[-1] == pytest.approx(tone.output_range[1], abs=1e-9)


@given(tone=responses)
def test_stored_values_fit_their_bits(tone: ToneResponse) -> None:
    stored = tone.store(np.linspace(-2, 12, 101))
    assert stored.dtype == np.uint16
    assert stored.max() <= 2**tone.bits_stored - 1


@given(source=responses, target=responses)
def test_curve_between_two_responses_takes_one_to_the_other(source: ToneResponse, target: ToneResponse) -> None:
    source = replace(source, attenuation_range=target.attenuation_range)
    low, high = target.attenuation_range
    # The ends may be steep beyond any number of knots (gamma below 1 starts vertically).
    p = np.linspace(low + 0.1 * (high - low), high - 0.1 * (high - low), 50)
    curve = curve_between(source, target)
    np.testing.assert_allclose(curve(source.fraction(p)), target.fraction(p), atol=2e-3)


def test_curve_of_a_response_to_itself_changes_nothing_it_can_store() -> None:
    tone = PRESETS["senograph-like"].tone
    values = np.linspace(*tone.output_range, 100)
    np.testing.assert_allclose(curve_between(tone, tone)(values), values, atol=1e-6)


def test_a_power_response_brightens_thin_parts_against_the_logarithm() -> None:
    p = np.linspace(0.5, 4.5, 9)
    assert (ToneResponse("power", (0.0, 5.0)).fraction(p) > ToneResponse("log", (0.0, 5.0)).fraction(p)).all()


def test_full_window_spans_all_stored_values_and_none_is_nan() -> None:
    stored, body = np.zeros((2, 2), np.uint16), np.ones((2, 2), bool)
    assert ToneResponse("log", (0, 5)).display_window(stored, body) == (2048.0, 4096.0)
    assert np.isnan(ToneResponse("log", (0, 5), window=None).display_window(stored, body)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"response": "cubic"}, "response must be one of 'log', 'power', 'sigmoid'; got 'cubic'"),
        ({"window": "wide"}, "window must be one of 'full', 'body', None"),
        ({"polarity": "RGB"}, "polarity must be one of"),
        ({"attenuation_range": (3.0, 1.0)}, "attenuation_range must be .low, high"),
        ({"output_range": (0.0, 1.2)}, "output_range must be .low, high"),
        ({"bits_stored": 17}, "bits_stored must be 1 to 16; got 17"),
        ({"gamma": 0.0}, "strength and gamma must be positive"),
        ({"jitter": -1.0}, "jitter not negative"),
    ],
)
def test_impossible_responses_are_refused_by_name(change: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        replace(ToneResponse("log", (0.0, 5.0)), **change)
