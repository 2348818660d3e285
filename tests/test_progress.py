from end2_tf.progress import Progress, Together


def test_progress_of_several_trainings_is_one():
    seen = []
    together = Together(lambda *report: seen.append(report), "training 4 members", before=1, total=4)
    first, second = "first", "second"
    together(first, "training", 7, 10, {"loss": 0.5})  # resumed
    together(second, "statistics", 3, 5, {})
    together(second, "training", 1, 10, {"loss": 0.6})
    together(first, "training", 8, 10, {"loss": 0.4})
    assert seen == [
        ("training 4 members", 17, 40, {"loss": 0.5, "before": 16}),
        ("training 4 members", 18, 40, {"loss": 0.6, "before": 16}),
        ("training 4 members", 19, 40, {"loss": 0.4, "before": 16}),
    ]


def test_progress_of_trainings_of_different_lengths():
    seen = []
    together = Together(lambda *report: seen.append(report[1:3]), "training", before=0, total=3)
    together("short", "training", 1, 10, {})
    together("long", "training", 5, 20, {})
    together("longest", "training", 2, 30, {})
    assert seen == [(1, 30), (6, 45), (8, 60)]


def test_lengths_that_are_known_count_before_their_training_begins():
    seen = []
    lengths = {"long": 20, "short": 10, "shorter": 5}
    together = Together(lambda *report: seen.append(report[1:3]), "training", before=0, total=3, lengths=lengths)
    together("long", "training", 1, 20, {})
    together("short", "training", 1, 12, {})  # what a training says of itself counts
    assert seen == [(1, 35), (2, 37)]


def test_figures_are_of_all_or_not_shown():
    seen = []
    together = Together(lambda *report: seen.append(report[3]), "training", 0, 2, shows_figures=False)
    together("first", "training", 1, 10, {"loss": 0.5})
    assert seen == [{"before": 0}]


def _lines(capsys, monkeypatch, calls):
    """What a terminal is shown of (seconds, what, done, of)."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress()
    for seconds, what, done, of, *before in calls:
        now[0] += seconds
        progress(what, done, of, {"before": before[0]} if before else {})
    return [line for line in capsys.readouterr().err.split("\r\033[K") if line]


def test_the_time_left_is_told_from_what_was_seen(capsys, monkeypatch):
    calls = [(0, "training", 0, 4), (10, "training", 1, 4), (20, "training", 2, 4), (60, "training", 4, 4)]
    told = ["training: 0/4", "training: 1/4", "training: 2/4, 40 s left", "training: 4/4, 1.5 min"]
    assert _lines(capsys, monkeypatch, calls) == [f"  {line}" for line in told]


def test_a_resumed_task_tells_once_a_second_unit_is_done(capsys, monkeypatch):
    calls = [(0, "training", 0, 0), (25, "training", 57, 288, 56), (10, "training", 58, 288, 56)]
    told = ["training …", "training: 57/288", "training: 58/288, 38.3 min left"]
    assert _lines(capsys, monkeypatch, calls) == [f"  {line}" for line in told]


def test_a_first_unit_that_took_long_tells_of_the_others(capsys, monkeypatch):
    assert _lines(capsys, monkeypatch, [(0, "training", 0, 4), (90, "training", 1, 4)]) == [
        "  training: 0/4",
        "  training: 1/4, 4.5 min left",
    ]


def test_what_a_first_unit_took_before_it_was_told_says_nothing(capsys, monkeypatch):
    assert _lines(capsys, monkeypatch, [(9, "recording", 5, 20), (6, "recording", 8, 20)]) == [
        "  recording: 5/20",
        "  recording: 8/20, 24 s left",
    ]


def test_a_second_task_of_the_same_name_begins_anew(capsys, monkeypatch):
    calls = [(0, "recording", 0, 9), (90, "recording", 9, 9), (1, "recording", 2, 6), (3, "recording", 4, 6)]
    told = ["recording: 0/9", "recording: 9/9, 1.5 min", "recording: 2/6", "recording: 4/6, 3 s left"]
    assert _lines(capsys, monkeypatch, calls) == [f"  {line}" for line in told]


def test_what_other_processes_did_earlier_says_nothing_of_the_time_left(capsys, monkeypatch):
    calls = [(0, "training", 7, 24, 6), (1, "training", 13, 24, 11), (9, "training", 14, 24, 11)]
    told = ["training: 7/24", "training: 13/24, 6 s left", "training: 14/24, 33 s left"]
    assert _lines(capsys, monkeypatch, calls) == [f"  {line}" for line in told]


def test_what_cannot_be_counted_is_named(capsys, monkeypatch):
    assert _lines(capsys, monkeypatch, [(0, "starting TensorFlow", 0, 0)]) == ["  starting TensorFlow …"]
