"""What speaks against a fit goes to the flags of rows, and not to the user's terminal as well."""

import warnings

import numpy as np
import pytest

from testbed.calibration.inputs import CalibrationWarning
from testbed.calibration.temperature import Temperature
from testbed.runner.operations.fits import calibrate
from testbed.store import Store
from testbed.types import Job

CALIBRATOR = {"use": "temperature", "params": {}}


@pytest.fixture
def fitted(tmp_path):
    """A function that fits on a set of which every example is right, as a job does, and gives what it wrote of it."""

    def fit():
        store = Store(tmp_path / "store")
        y = np.arange(40) % 2
        outputs = Job("a" * 20, "forward", {})
        with store.writer(outputs) as writer:
            writer.tensors("outputs-0", {"logits": 4.0 * np.eye(2)[y], "y": y, "ids": np.arange(40)}, role="outputs")
        job = Job("b" * 20, "calibrate", {"calibrator": CALIBRATOR}, {"outputs": (outputs.digest,)})
        with store.writer(job) as writer:
            calibrate(job, store, writer)
        return store.require(job.digest).meta

    return fit


def test_a_fit_at_its_bound_is_a_flag_and_no_warning_of_the_whole_fit_or_a_fold(fitted):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        meta = fitted()
    assert meta["flags"] == ["fit:at_bound"] and meta["held_out"]["n"] == 40  # the folds were fitted too
    assert not caught


def test_another_warning_of_a_fit_still_reaches_the_user(fitted, monkeypatch):
    plain = Temperature._fit

    def loud(self, x, y, **given):
        warnings.warn("not of the calibration", UserWarning, stacklevel=2)
        return plain(self, x, y, **given)

    monkeypatch.setattr(Temperature, "_fit", loud)
    with pytest.warns(UserWarning, match="not of the calibration") as caught:
        meta = fitted()
    assert not [one for one in caught if issubclass(one.category, CalibrationWarning)]
    assert "fit:UserWarning" in meta["flags"]
