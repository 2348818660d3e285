from end2_tf.progress import Together


def test_progress_of_several_trainings_is_one():
    seen = []
    together = Together(lambda *report: seen.append(report), "training 4 members", before=1, total=4)
    first, second = "first", "second"
    together(first, "training", 7, 10, {"loss": 0.5})  # resumed
    together(second, "statistics", 3, 5, {})
    together(second, "training", 1, 10, {"loss": 0.6})
    together(first, "training", 8, 10, {"loss": 0.4})
    assert seen == [
        ("training 4 members", 17, 40, {"loss": 0.5}),
        ("training 4 members", 18, 40, {"loss": 0.6}),
        ("training 4 members", 19, 40, {"loss": 0.4}),
    ]


def test_progress_of_trainings_of_different_lengths():
    seen = []
    together = Together(lambda *report: seen.append(report[1:3]), "training", before=0, total=3)
    together("short", "training", 1, 10, {})
    together("long", "training", 5, 20, {})
    together("longest", "training", 2, 30, {})
    assert seen == [(1, 30), (6, 45), (8, 60)]


def test_figures_are_of_all_or_not_shown():
    seen = []
    together = Together(lambda *report: seen.append(report[3]), "training", 0, 2, shows_figures=False)
    together("first", "training", 1, 10, {"loss": 0.5})
    assert seen == [{}]
