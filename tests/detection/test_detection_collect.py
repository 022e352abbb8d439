"""The collectors of a similarity pass against float64 brute force, on banks where columns are dealt into groups."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.detection.collect import Covered, Guided, Nearest, candidates
from testbed.detection.similarity import fingerprint, run_pass


def unit(z):
    lengths = np.linalg.norm(z, axis=1, keepdims=True)
    return z / np.where(lengths > 0, lengths, 1.0)


def draw(seed, bank, query, width, close):
    """Bank and query; with `close`, many rows differ by less than float32 can tell, some are copies or zero."""
    rng = np.random.default_rng(seed)
    b, q = rng.normal(size=(bank, width)), rng.normal(size=(query, width))
    if close:
        b[: bank // 2] = b[0] + 1e-7 * rng.normal(size=(bank // 2, width))
        b[-1] = b[0]
        b[-2] = 0
        q[0] = b[0]
    return b, q


@given(st.integers(0, 10**6), st.integers(40, 700), st.integers(1, 12), st.integers(2, 9), st.booleans())
@settings(max_examples=60, deadline=None)
def test_nearest_and_guided_are_brute_force(seed, bank, k, width, close) -> None:
    b, q = draw(seed, bank, 7, width, close)
    weights = np.random.default_rng(seed).normal(1.0, 1.0, bank)
    distances, guided = run_pass(b, q, [Nearest(k), Guided(weights, k)])
    exact = np.linalg.norm(unit(q)[:, None] - unit(b), axis=2)
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :k], atol=1e-12)
    products = (unit(q) @ unit(b).T) * weights
    np.testing.assert_allclose(guided, np.sort(products, axis=1)[:, -k:].mean(axis=1), atol=1e-12)


@given(st.integers(0, 10**6), st.integers(20, 120), st.integers(1, 19))
@settings(max_examples=40, deadline=None)
def test_covered_is_the_first_level_with_enough_balls(seed, bank, needed) -> None:
    b, q = draw(seed, bank, 9, 5, close=False)
    squares = ((unit(q)[:, None] - unit(b)) ** 2).sum(2)
    radii = np.sort(np.random.default_rng(seed).uniform(0, 4, (6, bank)), axis=0)
    found = run_pass(b, q, [Covered(radii, needed)])[0]
    for row in range(9):
        enough = [(squares[row] <= level).sum() >= needed for level in radii]
        assert found[row] == (enough.index(True) if any(enough) else 6)


def test_candidates_hold_every_value_within_the_error() -> None:
    """Values within twice the error of the k-th largest are kept, those beyond are not."""
    values = np.linspace(0.0, 0.5, 400, dtype=np.float32)[None].copy()
    values[0, 100], values[0, 200], values[0, 300] = 0.9, 0.9 - 1.5e-3, 0.9 - 2.5e-3
    row, column = candidates(values, 1, error=1e-3)
    assert row.tolist() == [0, 0] and column.tolist() == [100, 200]


def test_fingerprints_tell_values_shapes_and_types_apart() -> None:
    base = np.arange(6.0)
    others = [base + 1e-12, base.reshape(2, 3), base.astype(np.float32), base[:5]]
    assert fingerprint(base) == fingerprint(np.arange(6.0)) == fingerprint(np.arange(12.0)[::2] / 2)
    assert len({fingerprint(a) for a in [base, *others]}) == 5
