"""Cards and the zoo's page: what a reader finds, and that the numbers are the results'."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from end2_tf.report.inputs import Evaluation
from end2_tf.zoo import cards
from end2_tf.zoo.failures import Failures

STUDENT, ENSEMBLE, SINGLE = (f"fashion_mnist_cnn_{m}" for m in ("end2_aux", "ensemble", "single"))
SECTIONS = (
    "Use",
    "Results",
    "How it was trained",
    "Intended use",
    "Known limits",
    "Known failures",
    "Licence and citation",
    "Reproduce",
)


def _card(zoo_dir, entry):
    return (zoo_dir / entry / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("entry", [STUDENT, ENSEMBLE, SINGLE, "spirals_mlp_end"])
def test_every_card_has_its_sections_and_existing_files(zoo_dir, entry):
    text = _card(zoo_dir, entry)
    assert text.startswith(f"# {entry}\n")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == list(SECTIONS)
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (zoo_dir / entry / link).exists(), link
    for block in re.findall(r"^\|.*?\n\n", text, flags=re.MULTILINE | re.DOTALL):
        widths = {line.count("|") for line in block.strip().splitlines()}
        assert len(widths) == 1, block
    assert "None" not in text
    assert "nan" not in text.lower().replace("finance", "")


def test_the_numbers_are_those_of_the_results(zoo_dir):
    with open(zoo_dir / "results.csv", encoding="utf-8") as file:
        rows = {(r["entry"], r["dataset"], r["metric"]): r for r in csv.DictReader(file)}
    text = _card(zoo_dir, STUDENT)
    own, teacher = rows[STUDENT, "test", "error"], rows[ENSEMBLE, "test", "error"]
    single = rows[SINGLE, "test", "error"]
    assert f"| **this: EnD² + AUX** | {100 * float(own['mean']):.2f} |" in text
    assert f"| Ensemble | {100 * float(teacher['mean']):.2f} |" in text
    assert f"| Single member | {100 * float(single['mean']):.2f} ± {100 * float(single['sd']):.2f} (3) |" in text


def test_the_code_on_a_card_runs(zoo_dir, monkeypatch):
    monkeypatch.setenv("END2_TF_ZOO", str(zoo_dir))
    for entry, shape in ((STUDENT, (2, 8, 8, 1)), (ENSEMBLE, (2, 8, 8, 1))):
        (code,) = re.findall(r"```python\n(.*?)```", _card(zoo_dir, entry), flags=re.DOTALL)
        names = {"inputs": np.zeros(shape, np.uint8)}
        exec(compile(code, "README.md", "exec"), names)  # the point is to run what readers copy
        assert "knowledge_uncertainty" in names["measures"]


def test_failures_are_the_ones_they_are_called(image_run):
    evaluation = Evaluation(image_run.evaluation)
    failures = Failures(evaluation, "end2_aux")
    probs, labels = evaluation.probs("end2_aux", "test"), evaluation.labels
    knowledge = evaluation.uncertainty("end2_aux", "test", "knowledge")
    assert set(failures.most_uncertain) == set(np.argsort(-knowledge)[:8])
    wrong = failures.confidently_wrong
    assert (probs[wrong].argmax(1) != labels[wrong]).all()
    others = np.setdiff1d(np.flatnonzero(probs.argmax(1) != labels), wrong)
    assert probs[others].max(initial=0) <= probs[wrong].max(1).min()
    case = failures.cases(wrong[:1])[0]
    assert case.label == evaluation.results["class_names"][labels[wrong[0]]]
    count, of = failures.among_the_surest()
    assert of == 6
    assert f"{count} of {of} predictions" in _limits(image_run)
    assert Failures(evaluation, "end").kind == "total"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("T-shirt/top", "T-shirt/top"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a|b [c](d) *e* `f`", r"a\|b \[c\](d) \*e\* \`f\`"),
        ("two\nlines", "two lines"),
    ],
)
def test_names_from_the_data_are_shown_as_they_are(zoo_dir, image_run, name, shown):
    text = _rendered(zoo_dir, image_run, STUDENT, classes=[name, "b", "c"])
    assert f"Classes, in order: {shown}, b, c." in text


def _limits(run, rows=()):
    evaluation = Evaluation(run.evaluation)
    failures = Failures(evaluation, "end2_aux")
    meta = {"entry": "e", "kind": "student", "num_seeds": 3}
    text = " ".join(cards.limits(meta, cards.Results(rows, {"e": "e"}), failures))
    assert "this file is seed 0, chosen before results were known" in text
    return text


def test_a_control_is_no_limit(image_run, zoo_dir):
    def row(dataset, metric, mean):
        return {"entry": "e", "dataset": dataset, "metric": metric, "mean": mean, "sd": "", "n": "1"}

    rows = [row(name, "ood_auroc_total", mean) for name, mean in (("jpeg", "0.5"), ("far", "0.7"), ("near", "0.6"))]
    text = _limits(image_run, [*rows, row("jpeg", "error", "0.1")])
    assert "it tells near from test inputs with an AUROC of 60.0 %" in text
    assert "jpeg" not in text
    text = _card(zoo_dir, STUDENT)
    assert "| jpeg (control), total | jpeg (control), knowledge |" in text
    assert "a control is the test set itself" in text
    assert "tells jpeg" not in text
    assert "control" not in _card(zoo_dir, "spirals_mlp_end")
    assert (zoo_dir / "README.md").read_text(encoding="utf-8").count("A control is the test set itself") == 1


def _rendered(zoo_dir, run, entry, **changes):
    meta = json.loads((zoo_dir / entry / "metadata.json").read_text(encoding="utf-8")) | changes
    evaluation = Evaluation(run.evaluation)
    return cards.card(meta, [], Failures(evaluation, "end"), [])


def test_a_network_on_labels_is_introduced_as_one(zoo_dir, image_run):
    text = _rendered(zoo_dir, image_run, "fashion_mnist_cnn_end", method="single_mixup", on_labels=True)
    assert "trained on labels as long as the students of the [ensemble]" in text
    assert "a student of" not in text


def test_a_student_of_some_members_is_introduced_as_one(zoo_dir, image_run):
    for entry in ("fashion_mnist_cnn_end", STUDENT):
        text = _rendered(zoo_dir, image_run, entry, num_taught=2)
        assert "[the first 2 of 3 networks](../fashion_mnist_cnn_ensemble/README.md)" in text


@pytest.mark.parametrize(
    ("entry", "seconds", "words"),
    [
        ("fashion_mnist_cnn_end", 0.0123, "Training took 0.012 s."),
        ("fashion_mnist_cnn_end", 12345.6, "Training took 12,000 s."),
        (SINGLE, 0.3, "Its share of the ensemble's training time is 0.30 s."),
        (ENSEMBLE, None, ""),
    ],
)
def test_how_long_training_took(zoo_dir, image_run, entry, seconds, words):
    text = _rendered(zoo_dir, image_run, entry, training_seconds=seconds)
    assert words in text
    assert (" s. [config.json]" in text) == bool(words)


@pytest.mark.parametrize(("change", "words"), [(0.000104, "0.0002"), (0.00099, "0.001"), (4e-4 - 1e-9, "0.0004")])
def test_what_rounding_changes_is_rounded_up(zoo_dir, image_run, change, words):
    weights = {"dtype": "float16", "mantissa_bits": 10, "parameters": 7, "largest_change": change}
    text = _rendered(zoo_dir, image_run, STUDENT, weights=weights)
    assert f"changes no probability and no uncertainty (nats) by more than {words}." in text


def test_an_unknown_commit_is_said_to_be_unknown(zoo_dir, image_run):
    assert "Commit unknown. Versions:" in _rendered(zoo_dir, image_run, STUDENT, commit=None)


def test_results_over_seeds_have_their_spread(zoo_dir):
    line = next(line for line in _card(zoo_dir, "spirals_mlp_end2_aux").splitlines() if "**this" in line)
    assert re.search(r"\d\.\d\d ± \d+\.\d\d \(3\)", line)
    assert "The results are means over 3 seeds; this file is seed 0" in _card(zoo_dir, "spirals_mlp_end2_aux")


@pytest.mark.parametrize(
    ("num_wrong", "words"),
    [
        (0, "with the 8 most uncertain test inputs."),
        (1, "with the 8 most uncertain test inputs and the 1 wrong prediction of highest confidence."),
        (5, "with the 8 most uncertain test inputs and the 5 wrong predictions of highest confidence."),
    ],
)
def test_a_caption_counts_what_is_marked(plane_run, num_wrong, words):
    evaluation = Evaluation(plane_run.evaluation)
    failures = Failures(evaluation, "end2_aux")
    failures.is_wrong = np.arange(len(failures.labels)) < num_wrong
    (picture,) = failures.pictures(plane_run.data.test.inputs)
    assert picture.caption.endswith(words)


@pytest.mark.parametrize("channels", [2, 5])
def test_images_of_any_channels_and_names_are_pictured(image_run, channels):
    failures = Failures(Evaluation(image_run.evaluation), "end2_aux")
    failures.names = ["$10% of $20", "_x", "$"]
    inputs = np.repeat(image_run.data.test.inputs, channels, axis=3)
    assert [picture.name for picture in failures.pictures(inputs)] == ["most_uncertain.png", "confidently_wrong.png"]


def test_pictures_are_small_images(zoo_dir):
    for path in zoo_dir.glob("*/*.png"):
        assert path.stat().st_size < 100_000
        with Image.open(path) as image:
            assert min(image.size) > 200
    assert {p.name for p in (zoo_dir / "spirals_mlp_end").glob("*.png")} == {"failures.png"}


def test_the_page_of_the_zoo(zoo_dir):
    text = (zoo_dir / "README.md").read_text(encoding="utf-8")
    index = json.loads((zoo_dir / "index.json").read_text())["entries"]
    for name, record in index.items():
        assert f"| [{name}]({name}/README.md) | {record['bytes'] / 1e6:.1f} | {record['summary']} |" in text
    assert "[What pays](pages/study.md)" in text
    assert "### fashion_mnist_cnn" in text
    assert 'end2_tf.zoo.load("fashion_mnist_cnn_end2_aux")' in text
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (zoo_dir / link).exists(), link


def test_an_empty_zoo_has_a_page(tmp_path):
    text = cards.readme([], [], {}, tmp_path)
    assert text.startswith("# Zoo")
    assert "0.0 MB in all" in text
