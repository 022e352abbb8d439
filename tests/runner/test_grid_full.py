"""experiments/full.yaml, the grid that shows the feel: it plans as it is, and a small version of it runs."""

from pathlib import Path

import pytest

from testbed.grid.planner import plan
from testbed.runner.run import Settings, run_plan

FULL = Path(__file__).parents[2] / "experiments" / "full.yaml"

#: The same grid on a handful of examples, with two short training runs and a cascade that does not go through.
SMALL = [
    'data=[{use: digits, train: 600, calibration: 150, test: 60}]',
    "models.0.train.epochs=2", "models.1.train.epochs=2", "train_seeds=[0]", "intervals.replicates=20",
    'conditions.2.attack=[fgsm, {use: pgd, steps: 3}, {use: autoattack, steps: 5, queries: 20, targets: 2}]',
    'conditions.5.attack={use: autoattack, steps: 5, queries: 20, targets: 2}',
    'ood.1.condition.attack={use: pgd, steps: 3}', 'ood.1.limit=40', 'ood.2.limit=40',
]  # fmt: skip


def test_the_grid_plans_and_spells_everything_out():
    planned = plan(FULL)
    rows = [cell.row for cell in planned.cells]
    assert {r["condition"] for r in rows} == {
        "clean", "gaussian_noise", "fog", "motion_blur", "fgsm", "pgd", "autoattack", "shrink", "fog then pgd", "worst",
    }  # fmt: skip
    assert {r["train_seed"] for r in rows} == {0, 1, 2, None}  # None: over the training seeds
    assert {r.get("detector") for r in rows} >= {"energy", "vim"}
    assert {r["fit"] for r in rows if r.get("calibrator") == "isotonic@gaussian_noise s3"} >= {"gaussian_noise s3"}
    assert "pgd linf 0.1 on detector:energy" in {r.get("ood_condition") for r in rows}
    assert not [r for r in rows if r["model"] == "standard" and r["condition"] == "fog then pgd"]
    assert planned.cost()["gradient"] > 1_000_000


@pytest.mark.slow
def test_a_small_version_runs(shared_store, tmp_path):
    finished = run_plan(
        plan(FULL, SMALL), Settings(out=tmp_path, executor="serial", page=False, store=str(shared_store))
    )
    assert finished.outcome.ok, finished.outcome.errors()
    assert {row["status"] for row in finished.table.to_pylist()} == {"ok"}
