"""The answer in words follows the differences."""

import dataclasses

import pytest
from synthetic_runs import QUESTION, compared, full, model, write

from end2_tf.compare import answer, runs
from end2_tf.compare.differences import BEST, TO_LABELS, Difference


def test_without_the_two_methods_there_is_no_answer(tmp_path):
    run, found = compared(tmp_path, {"ensemble": full()["ensemble"], "end": full()["end"]})
    assert not found
    assert answer.overall([(run, [])]) == ["No run has both EnD and EnD², so there is nothing to answer."]


def _question(outcomes, metric="ood_auroc", score=BEST):
    signs = {"wins": 0.03, "loses": -0.03, "ties": 0.03, "unknown": 0.03}
    better = 1 if metric == "ood_auroc" else -1
    return [
        Difference(
            QUESTION,
            f"set_{i}" if score else "test",
            metric,
            score,
            better * signs[o],
            *sorted((better * signs[o] / 2, better * signs[o] * 2)),
            {"ties": 1.0, "unknown": None}.get(o, 0.0),
        )
        for i, o in enumerate(outcomes)
    ]


@pytest.mark.parametrize(
    ("ood", "accuracy", "starts", "ends"),
    [
        (["wins", "wins"], ["ties"], "Yes: ", "differ by no more than noise, or by too little to matter."),
        (["wins", "ties"], ["wins"], "In part: ", "it has the lower error and NLL in every comparison."),
        (["wins", "loses"], ["wins", "ties"], "It depends: ", "lower in some comparisons and higher in none."),
        (["ties", "ties"], ["wins", "loses"], "No: at telling", "lower in some comparisons and higher in others."),
        (
            ["loses", "ties"],
            ["loses"],
            "No: EnD², by knowledge uncertainty, tells OOD inputs worse",
            "higher in some comparisons and lower in none.",
        ),
        (["unknown"], ["unknown"], "Not known yet: ", "error and NLL can't be told either."),
        (
            ["wins", *["unknown"] * 9],
            ["ties"],
            "In part: EnD², by knowledge uncertainty, tells OOD inputs better than EnD, by total, in some comparisons "
            "and worse in none (of those that can be told, 1 of 10);",
            "too little to matter.",
        ),
        (["wins", "wins"], ["wins", "unknown"], "Yes: ", "higher in none (of those that can be told, 1 of 2)."),
        ([], ["ties"], "No OOD set was measured; ", "too little to matter."),
    ],
)
def test_the_headline_follows_the_outcomes(tmp_path, ood, accuracy, starts, ends):
    run = runs.Finished(write(tmp_path, full())).run
    headline = answer.overall([(run, _question(ood) + _question(accuracy, "error", ""))])[0]
    assert headline.startswith(starts)
    assert headline.endswith(ends)


def test_the_tally_counts_and_averages(tmp_path):
    run = runs.Finished(write(tmp_path, full())).run
    five = _question(["wins", "wins", "loses", "ties", "unknown"])
    lines = answer.overall([(run, five + _question(["ties"], "error", ""))])
    assert (
        "EnD² wins 2 of 5 comparisons, ties in 1 and loses 1 (1 of one seed aren't told): +1.8 points on average "
        "over all." in lines[1]
    )


def test_words_about_one_data_set(tmp_path):
    run, found = compared(tmp_path, full())
    lines = answer.of_run(run, list(found.values()))
    gain = 100 * found[QUESTION, "ring_410", "ood_auroc", BEST].value
    far = 100 * found[QUESTION, "ring_800", "ood_auroc", BEST].value
    assert lines[0] == (
        "Without auxiliary data, EnD² against EnD: ties on error (0.00 points) and NLL (0.000 nats); by total "
        "uncertainty it ties on ring_410 (near, 0.0 points) and ring_800 (far, 0.0 points); by knowledge against total "
        f"uncertainty it wins on ring_410 (near, +{gain:.1f} points) and ring_800 (far, +{far:.1f} points)."
    )
    control = next(line for line in lines if "against the same network trained on labels alone" in line)
    assert "wins on error (−4.00 points)" in control


ALONE = "the same network trained on labels alone"
MIXED_UP = f"{ALONE} but on the students' inputs"


@pytest.mark.parametrize(
    ("controls", "verdict"),
    [
        (
            {"single_mixup": model(0.12, 1.0)},
            f"EnD² + AUX beats {ALONE} and {MIXED_UP} in NLL and OOD detection. So its gain is distillation's, not "
            "that of its size, training or in-domain inputs.",
        ),
        (
            {},
            f"EnD² + AUX beats {ALONE} in NLL and OOD detection. So its gain isn't that of its size or training "
            "alone; but that network has the members' inputs, not the students', so a part of it may be the inputs'.",
        ),
        (
            {"single_mixup": model(0.05, 1.0)},
            f"Not all that EnD² + AUX gains is distillation's: {MIXED_UP} beats it on NLL.",
        ),
        (
            {"single_matched": model(0.10, 1.0), "single_mixup": model(0.05, 2.49, 2.49)},
            f"Not all that EnD² + AUX gains is distillation's: {MIXED_UP} beats it on NLL.\n"
            f"Not all that EnD² + AUX gains is shown to be distillation's: on NLL it can't be told from {ALONE}; on "
            f"ring_410 and ring_800 it can't be told from {MIXED_UP}.",
        ),
        ({"single_mixup": model(0.12, 1.0, seeds=1)}, None),  # the one control that decides can't be told
    ],
)
def test_the_gain_is_distillations_only_if_no_control_has_it_too(tmp_path, controls, verdict):
    run, found = compared(tmp_path, full(**controls))
    lines = answer.of_run(run, list(found.values()))
    told = [line for line in lines if " gain" in line]
    assert told == (verdict.split("\n") if verdict else [])
    assert any(f"against {MIXED_UP}:" in line for line in lines) == ("single_mixup" in controls)


def test_where_both_are_near_the_best_there_is_the_gain_isnt_in_doubt(tmp_path):
    run = runs.Finished(write(tmp_path, full())).run
    nll = Difference(TO_LABELS, "test", "nll", "", -0.1, -0.2, -0.05, 0.01)
    near, far = (
        Difference(TO_LABELS, name, "ood_auroc", BEST, value, value / 2, value * 2, value / 10)
        for name, value in (("ring_410", 0.3), ("ring_800", 0.0002))
    )
    assert far.outcome == "ties"
    assert answer.of_run(run, [nll, near, far])[-1].startswith(f"EnD² + AUX beats {ALONE} in NLL and OOD detection.")
    level = dataclasses.replace(nll, value=-0.0001, low=-0.0002, high=-0.00005, spread=0.0)
    assert answer.of_run(run, [level, near, far])[-1].endswith(f"on NLL it can't be told from {ALONE}.")


def test_the_best_score_of_two_models_without_knowledge_is_total_and_said_once(tmp_path):
    run, found = compared(tmp_path, {"end": model(0.1, 1.0), "end2": model(0.1, 2.0)})
    (line,) = answer.of_run(run, list(found.values()))
    assert line.count("by total uncertainty") == 1
    assert "knowledge" not in line
