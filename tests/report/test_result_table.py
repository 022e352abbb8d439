"""Rows become tables: what stands where, and what is never lost."""

import pytest

from testbed.report.load import read_run
from testbed.report.table import Number, interval, number, pivot, shown, spell, tables


def row(**more: object) -> dict[str, object]:
    """One accuracy row; `more` overrides its columns."""
    base = {"dataset": "d", "protocol": "", "model": "net", "condition": "clean", "kind": "clean", "calibrator": "none"}
    return base | {"metric": "accuracy", "value": 0.5, "status": "ok", "n": 10, "digest": "x"} | more


def test_model_and_calibrator_down_condition_and_metric_across() -> None:
    fog = {"condition": "fog", "kind": "shift"}
    rows = [row(), row(metric="ece", value=0.1), row(**fog, severity=3.0, value=0.3), row(calibrator="temperature")]
    (table,) = tables(rows)
    assert table.stub == ("model", "calibrator")
    assert table.rows == (("net", "none"), ("net", "temperature"))
    assert table.columns == (("clean", "accuracy"), ("clean", "ece"), ("fog s3", "accuracy"))
    assert table.get(("net", "none"), ("fog s3", "accuracy")).value == 0.3
    assert table.get(("net", "temperature"), ("clean", "ece")) is None


def test_conditions_stand_clean_first_then_by_strength_whatever_the_row_order() -> None:
    eps = [row(condition="pgd", kind="attack", norm="linf", eps=e) for e in (0.3, 0.1, 0.2)]
    severities = [row(condition="fog", kind="shift", severity=s) for s in (5.0, 1.0)]
    (table,) = tables([*eps, row(), *severities])
    order = [over for over, _ in table.columns]
    assert order == ["clean", "pgd linf 0.1", "pgd linf 0.2", "pgd linf 0.3", "fog s1", "fog s5"]


def test_data_sets_and_protocols_are_never_joined() -> None:
    found = tables([row(), row(dataset="e"), row(protocol="openood-1.5")])
    assert [table.title for table in found] == ["d", "e", "d · openood-1.5"]
    assert all(len(table.cells) == 1 for table in found)


def test_detection_has_a_table_of_its_own() -> None:
    ood = {"detector": "msp", "ood_set": "gaussian", "metric": "auroc", "ood_condition": "clean"}
    attacked = ood | {"ood_condition": "pgd linf 0.1"}
    quality, detection = tables([row(**ood), row(), row(**attacked)])
    assert quality.stub[0] == "model" and detection.stub == ("model", "condition", "detector")
    assert detection.columns == (("gaussian", "auroc"), ("gaussian · pgd linf 0.1", "auroc"))


def test_labels_that_differ_get_a_column_and_others_none() -> None:
    (table,) = tables([row(train_seed=0), row(train_seed=1, value=0.6)])
    assert table.stub == ("model", "calibrator", "train_seed")
    assert [table.get(r, ("clean", "accuracy")).value for r in table.rows] == [0.5, 0.6]
    (table,) = tables([row(fit=None), row(calibrator="temperature", fit="clean")])
    assert "fit" not in table.stub


def test_two_conventions_of_a_metric_are_two_columns() -> None:
    (table,) = tables([row(convention="guo"), row(convention="kumar")])
    assert table.metrics == ("accuracy (guo)", "accuracy (kumar)")


def test_a_failed_cell_stays_with_its_reason_and_no_value() -> None:
    bad = row(condition="pgd", status="failed", error="PluginViolation: left the ball", value=0.99)
    (table,) = tables([row(), bad])
    cell = table.get(("net", "none"), ("pgd", "accuracy"))
    assert cell.value is None and cell.failed
    assert table.failures() == ("net, pgd: failed: PluginViolation: left the ball",)


def test_a_cell_that_is_not_made_yet_has_not_failed() -> None:
    (table,) = tables([row(status="missing", value=None)])
    assert not table.failures() and shown(next(iter(table.cells.values()))) == "missing"


def test_an_audit_marks_the_numbers_it_doubts_and_is_no_column() -> None:
    (table,) = tables([row(flags="audit:fail(gradient_masking)"), row(metric="audit", value=0.0)])
    assert table.metrics == ("accuracy",)
    assert shown(table.get(("net", "none"), ("clean", "accuracy"))) == "0.500 †"
    assert any("audit" in note for note in table.notes())


def test_notes_say_n_and_conventions() -> None:
    (table,) = tables([row(convention="exact"), row(condition="fog", n=20, convention="exact")])
    assert table.notes() == ("n = 10 to 20; [low, high] is the confidence interval", "accuracy: exact")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.000"), (-0.1234, "-0.123"), (9.9996, "10.000"), (55.556, "55.56"), (float("inf"), "inf")],
)
def test_spelling(value, text) -> None:
    assert spell(value) == text


def test_interval_needs_both_ends() -> None:
    assert interval(Number(0.5, 0.4, None)) == "" and interval(Number(0.5, 0.4, 0.6)) == "[0.400, 0.600]"


def test_every_number_of_a_run_stands_in_a_table(synthetic_run) -> None:
    run = read_run(synthetic_run)
    placed = [cell.digest for table in tables(run.rows) for cell in table.cells.values()]
    assert sorted(placed) == sorted(r["digest"] for r in run.rows)


def test_pivot_and_number_keep_what_a_row_says(synthetic_run) -> None:
    run = read_run(synthetic_run)
    one = next(
        r for r in run.rows if r["metric"] == "ece" and r["calibrator"] == "isotonic" and r["condition"] == "fog"
    )
    table = pivot([r for r in run.rows if r["ood_set"] is None], "", "mnist5k", "")
    assert table.get((one["model"], "isotonic"), ("fog s1", "ece")) == number(one)


def test_means_and_pooled_sets_share_the_columns_of_single_sets() -> None:
    """What was averaged or pooled is said by the labels, so it does not make another convention of the metric."""
    plain = "ood positive; ties half; delong-gamma 95%"
    shared = {"metric": "auroc", "detector": "knn", "ood_condition": "clean"}
    rows = [
        row(**shared, ood_set="gaussian", convention=plain),
        row(**shared, ood_set="mean(far)", convention=f"unweighted mean over 2 OOD sets; {plain}"),
        row(**shared, ood_set="gaussian", condition="full_spectrum", kind="full_spectrum",
            convention=f"ID pooled over 3 sets, examples as clusters; {plain}"),
    ]  # fmt: skip
    (table,) = tables(rows)
    assert table.columns == (("gaussian", "auroc"), ("mean(far)", "auroc"))
    assert len(table.rows) == 2


def test_many_intervals_say_how_many_are_wrong_and_few_say_nothing() -> None:
    rows = [row(condition=f"c{i}", kind="shift", ci_low=0.4, ci_high=0.6) for i in range(40)]
    (many,), (few,) = tables(rows), tables(rows[:5])
    assert "of 40 some 2 are not; `testbed compare` tests differences" in many.notes()[0]
    assert few.notes()[0] == "n = 10; [low, high] is the confidence interval"


@pytest.mark.parametrize(
    ("metric", "low", "high", "text"),
    [
        ("accuracy", 0.2, 0.7, "0.500 ‡"),
        ("accuracy", 0.3, 0.79, "0.500"),
        ("augrc", 0.2, 0.46, "0.500 ‡"),
        ("nll", 0.1, 9.0, "0.500"),
        ("accuracy:seed_mean", 0.0, 1.0, "0.500 ‡"),
    ],
)
def test_an_interval_over_half_of_the_range_says_that_n_is_too_small(metric, low, high, text) -> None:
    (table,) = tables([row(metric=metric, ci_low=low, ci_high=high)])
    ((_, cell),) = table.cells.items()
    assert shown(cell) == text
    assert any("n too small" in note for note in table.notes()) == text.endswith("‡")
