"""A few low-frequency coefficients of an image, and their change put back, without transforming the whole image.

A method that touches 41 x 41 of 2048 x 2048 frequencies needs two thin matrix products each way, in real single
precision: analysis ``Bh' x Bw`` and update ``x + Bh C Bw'``. Only where so many coefficients are wanted that a fast
Fourier transform is cheaper, that one is taken (``benchmarks/fourier_speed.py``).

Fourier coefficients are divided by the number of pixels, so that the zeroth is the mean grey value and images of
different sizes compare. As the image is real, half of the plane says everything: a block of shape ``(b + 1, 2 b + 1)``
holds F(k, l) for k = 0..b cycles a field from top to bottom and l = -b..b from left to right.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from threadpoolctl import ThreadpoolController

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.masked import mean_inside

# Rows a step: their products stay in the second-level cache.
_N_ROWS = 128

# A thin product of 2 (b + 1) columns costs as much as the fast transform where 2 (b + 1) is about eight times
# log2(pixels); measured from 128 x 128 to 3000 x 3000.
_COLUMNS_PER_LEVEL = 8


def low_frequencies(
    image: np.ndarray, b: int, *, padding: str | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """Fourier coefficients up to ``b`` cycles a field.

    ``F(k, l) = sum x(r, c) exp(-2 pi i (k r / h + l c / w)) / (h w)``

    Parameters
    ----------
    image : ndarray of float32 of shape (height, width)
    b : int
        Highest frequency, at most half of the shorter (padded) side.
    padding : {None, "reflect"}
        "reflect" mirrors a quarter of the field at each side, so that what leaves the image at one border does not
        enter at the opposite one. Cycles are then counted a padded field.
    mask : ndarray of bool of shape (height, width), optional
        Pixels that count; the others are filled with the mean of these, and sums are divided by the share that counts.

    Returns
    -------
    ndarray of complex128 of shape (b + 1, 2 b + 1)
        F(k, l) at ``[k, l + b]``.

    Raises
    ------
    InvalidParameterError
        If ``b`` is negative or beyond half of the shorter side.
    InvalidImageError
        If the mask is empty.

    Examples
    --------
    >>> wave = np.cos(2 * np.pi * np.arange(8) / 8) * np.ones((6, 1)) + 3
    >>> low_frequencies(wave.astype("float32"), 1).round(6).real + 0.0
    array([[0.5, 3. , 0.5],
           [0. , 0. , 0. ]])
    """
    height, width = image.shape
    shorter = min(padded_length(height, padding), padded_length(width, padding))
    if not 0 <= b <= shorter // 2:
        raise InvalidParameterError(
            f"An image of {height} x {width} pixels has frequencies from 0 to {shorter // 2} cycles a field; got b={b}."
        )
    mean = mean_inside(image, mask)
    share = 1.0 if mask is None else float(mask.mean())
    if _partial_is_cheaper(image.shape, b):
        rows, columns = (_fourier_bases(n, b, padding)[0] for n in image.shape)
        product = _project(image, rows, columns, mean, mask).astype(np.float64)
        cc, cs = product[: b + 1, : b + 1], product[: b + 1, b + 1 :]
        sc, ss = product[b + 1 :, : b + 1], product[b + 1 :, b + 1 :]
        # exp(-ik) exp(-il) and exp(-ik) exp(+il), multiplied out
        forward, backward = (cc - ss) - 1j * (sc + cs), (cc + ss) - 1j * (sc - cs)
    else:
        centred = image - np.float32(mean)
        if mask is not None:
            centred[~mask] = 0.0
        half_plane = scipy.fft.rfft2(_pad(centred, padding), norm="forward")[:, : b + 1]
        forward = half_plane[: b + 1].astype(np.complex128)
        backward = half_plane[-np.arange(b + 1)].conj().astype(np.complex128)
    spectrum = np.concatenate([backward[:, :0:-1], forward], axis=1) / share
    spectrum[0, b] = spectrum[0, b].real + mean
    return spectrum


def add_low_frequencies(image: np.ndarray, change: np.ndarray, *, padding: str | None = None) -> np.ndarray:
    """Add the image that a block of Fourier coefficients stands for: the inverse of :func:`low_frequencies`.

    Parameters
    ----------
    image : ndarray of float32 of shape (height, width)
        Changed in place.
    change : ndarray of complex of shape (b + 1, 2 b + 1)
        What to add to F(k, l), and its conjugate to F(-k, -l).
    padding : {None, "reflect"}
        As in :func:`low_frequencies`.

    Returns
    -------
    ndarray of float32 of shape (height, width)
        ``image``.

    Examples
    --------
    >>> add_low_frequencies(np.zeros((2, 4), "float32"), np.array([[0.25, 0.5, 0.25], [0, 0, 0]]))
    array([[1. , 0.5, 0. , 0.5],
           [1. , 0.5, 0. , 0.5]], dtype=float32)
    """
    b = change.shape[0] - 1
    forward, backward = change[:, b:], change[:, b::-1]
    if _partial_is_cheaper(image.shape, b):
        cc, ss = (forward + backward).real, (backward - forward).real
        sc, cs = (forward + backward).imag, (forward - backward).imag
        coefficients = 0.5 * np.block([[cc, -cs], [-sc, ss]])
        rows, columns = (_fourier_bases(n, b, padding)[1] for n in image.shape)
        return _add_product(image, rows, coefficients, columns)
    height, width = (padded_length(n, padding) for n in image.shape)
    half_plane = np.zeros((height, width // 2 + 1), dtype=np.complex64)
    half_plane[-np.arange(b + 1), : b + 1] = backward.conj()
    half_plane[: b + 1, : b + 1] = forward
    added = scipy.fft.irfft2(half_plane, s=(height, width), norm="forward", overwrite_x=True)
    top, left = (_pad_width(n, padding) for n in image.shape)
    image += added[top : top + image.shape[0], left : left + image.shape[1]]
    return image


def low_cosines(image: np.ndarray, block: int, *, mask: np.ndarray | None = None) -> np.ndarray:
    """Top-left block of the orthonormal DCT-II, divided by the square root of the number of pixels.

    Parameters
    ----------
    image : ndarray of float32 of shape (height, width)
    block : int
        Coefficients along each side.
    mask : ndarray of bool of shape (height, width), optional
        As in :func:`low_frequencies`.

    Returns
    -------
    ndarray of float64 of shape (block, block)
        The first is the mean grey value. NaN where an image has fewer pixels along a side than ``block``.

    Examples
    --------
    >>> low_cosines(np.array([[1, 2], [1, 2]], dtype="float32"), 2).round(6) + 0.0
    array([[ 1.5, -0.5],
           [ 0. ,  0. ]])
    """
    mean = mean_inside(image, mask)
    share = 1.0 if mask is None else float(mask.mean())
    rows, columns = (_cosine_basis(n, block) for n in image.shape)
    coefficients = _project(image, rows / len(rows), columns / len(columns), mean, mask) / share
    coefficients = coefficients.astype(np.float64)
    coefficients[0, 0] += mean
    coefficients[image.shape[0] :] = np.nan
    coefficients[:, image.shape[1] :] = np.nan
    return coefficients


def add_low_cosines(image: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Add the image that a block of cosine coefficients stands for, in place: the inverse of :func:`low_cosines`."""
    rows, columns = (_cosine_basis(n, len(change)) for n in image.shape)
    return _add_product(image, rows, change, columns)


def padded_length(n: int, padding: str | None) -> int:
    """Length of a side with its mirrored ends."""
    return n + 2 * _pad_width(n, padding)


def _pad_width(n: int, padding: str | None) -> int:
    return 0 if padding is None else n // 4


def _pad(image: np.ndarray, padding: str | None) -> np.ndarray:
    if padding is None:
        return image
    return np.pad(image, [(_pad_width(n, padding),) * 2 for n in image.shape], mode="symmetric")


def _partial_is_cheaper(shape: tuple[int, ...], b: int) -> bool:
    return 2 * (b + 1) <= _COLUMNS_PER_LEVEL * np.log2(max(2, shape[0] * shape[1]))


@lru_cache(maxsize=16)
def _fourier_bases(n: int, b: int, padding: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of 0..b cycles, float32 of shape (n, 2 b + 2): to analyse with, and to add up with.

    Mirrored padding is linear, so it is folded into the basis and no padded image is ever made.
    """
    length, width = padded_length(n, padding), _pad_width(n, padding)
    # Angles are reduced modulo one turn in integers, which keeps them exact.
    angle = 2 * np.pi * (np.outer(np.arange(length), np.arange(b + 1)) % length) / length
    waves = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    analysis = np.zeros((n, 2 * b + 2))
    np.add.at(analysis, np.pad(np.arange(n), width, mode="symmetric"), waves / length)
    # A frequency and its negative are two, save for zero and half a cycle a pixel.
    frequency = np.tile(np.arange(b + 1), 2)
    count = np.where((frequency == 0) | (2 * frequency == length), 1.0, 2.0)
    return _constant(analysis), _constant(waves[width : width + n] * count)


@lru_cache(maxsize=16)
def _cosine_basis(n: int, block: int) -> np.ndarray:
    """Cosines of 0..block-1 half cycles of mean square one, float32 of shape (n, block); zero where n has no such."""
    order = np.arange(block)
    basis = np.cos(np.pi * np.outer(2 * np.arange(n) + 1, order) / (2 * n)) * np.where(order == 0, 1, np.sqrt(2))
    basis[:, n:] = 0.0
    return _constant(basis)


def _constant(basis: np.ndarray) -> np.ndarray:
    single = np.ascontiguousarray(basis, dtype=np.float32)
    single.setflags(write=False)
    return single


def _project(
    image: np.ndarray, rows: np.ndarray, columns: np.ndarray, mean: float, mask: np.ndarray | None
) -> np.ndarray:
    """``rows' (image - mean) columns``; taking the mean off first keeps a constant image free of rounding noise."""
    thin = np.empty((image.shape[0], columns.shape[1]), dtype=np.float32)
    centred = np.empty((min(_N_ROWS, image.shape[0]), image.shape[1]), dtype=np.float32)
    with _one_blas_thread:
        for start in range(0, image.shape[0], _N_ROWS):
            part = slice(start, start + _N_ROWS)
            step = centred[: len(image[part])]
            np.subtract(image[part], np.float32(mean), out=step)
            if mask is not None:
                step *= mask[part]
            np.matmul(step, columns, out=thin[part])
        return rows.T @ thin


def _add_product(image: np.ndarray, rows: np.ndarray, coefficients: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """``image + rows coefficients columns'``, in place."""
    across = np.ascontiguousarray(columns.T)
    added = np.empty((min(_N_ROWS, image.shape[0]), image.shape[1]), dtype=np.float32)
    with _one_blas_thread:
        down = rows @ coefficients.astype(np.float32)
        for start in range(0, image.shape[0], _N_ROWS):
            part = image[start : start + _N_ROWS]
            part += np.matmul(down[start : start + _N_ROWS], across, out=added[: len(part)])
    return image


class _OneBlasThread:
    """Context in which BLAS uses one thread; left as it was when the last of several concurrent users leaves.

    The products here are so short that waiting for a second thread costs more than it gains, and on a busy machine far
    more. Images, not products, are what to spread over cores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._limit = _blas().limit(limits=1)
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limit.restore_original_limits()


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


_one_blas_thread = _OneBlasThread()
