import pytest

from apelr_cli.near_names import did_you_mean, nearest_name

TRAIN = ["lr", "lr_schedule", "min_lr_ratio", "batch_size", "max_steps", "warmup_steps", "grad_clip", "out_dir"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("learning_rate", "lr"),
        ("LR", "lr"),
        ("batch-size", "batch_size"),
        ("batch", "batch_size"),
        ("steps", "max_steps"),
        ("max_step", "max_steps"),
        ("gradclip", "grad_clip"),
        ("outdir", "out_dir"),
        ("colour", None),
        ("", None),
    ],
)
def test_nearest_name(name, near):
    assert nearest_name(name, TRAIN) == near


def test_did_you_mean_is_the_end_of_a_message():
    assert did_you_mean("batch", TRAIN) == "; did you mean batch_size?"
    assert did_you_mean("colour", TRAIN) == ""
