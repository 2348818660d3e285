from end2_tf import errors


def test_unknown_is_one_line_with_value_suggestion_and_choices():
    message = errors.unknown("student.loss", "dirichlet_nl", "a loss", ["b", "dirichlet_nll"], "Add one.")
    assert message == (
        "student.loss is 'dirichlet_nl', which isn't a loss. Did you mean 'dirichlet_nll'? "
        "Losses: b, dirichlet_nll. Add one."
    )


def test_nothing_near_suggests_nothing():
    assert "Did you mean" not in errors.unknown("x", "zzz", "a loss", ["dirichlet_nll"])
    assert errors.unknown("x", "y", "a stage", []).endswith("Stages: none.")


def test_plurals_and_verbs():
    assert errors.unknown("x", "y", "a study", ["a"], verb="has") == "x has 'y', which isn't a study. Studies: a."
    assert errors.unknown("x", "y", "an index key", ["a"]).endswith("Index keys: a.")
    assert errors.unknown("x", "y", "a class", ["a"]).endswith("Classes: a.")


def test_the_beginning_of_a_name_is_near():
    assert errors.suggestion("brier", ["hydra", "brier_distillation"]) == "Did you mean 'brier_distillation'? "


def test_exit_codes_tell_input_workdir_and_training_apart():
    codes = {c.exit_code for c in (errors.ConfigError, errors.WorkdirError, errors.TrainingError)}
    assert len(codes) == 3
    assert 0 not in codes


def test_a_message_is_one_plain_line():
    said = str(errors.WorkdirError("can't read a\nb\x1b[2J\u202ec\udc80"))
    assert said == "can't read a\\nb\\x1b[2J\\u202ec\\udc80"
    said.encode()
    assert str(errors.ConfigError("“ü” × 3 …")) == "“ü” × 3 …"


def test_of_a_long_message_the_middle_is_left_out():
    said = str(errors.DataError(f"begins {'x' * 100_000} ends"))
    assert len(said) < 4_100
    assert said.startswith("begins xx")
    assert said.endswith("xx ends")
    assert " … " in said
