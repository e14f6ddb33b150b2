"""No folder of a user or a machine in a text that others will read."""

import pytest

from itrd_nlp.publish.report.paths import base_names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/teacher", "teacher"),
        ("/home/ada/teacher/", "teacher"),
        ("~/teacher", "teacher"),
        ("~ada/my/teacher", "teacher"),
        (r"C:\Users\ada\teacher", "teacher"),
        ("//server/share/teacher", "teacher"),
        ("file:///home/ada/teacher", "teacher"),
        ("--teacher /home/ada/t1 --out=/tmp/x/o", "--teacher t1 --out=o"),
        ("--teacher '/home/Ada Byron/t1' --seed 0", "--teacher 't1' --seed 0"),
        ("teacher: /home/Ada Byron/t1  # mine\nseed: 0", "teacher: t1  # mine\nseed: 0"),
        ("files:\n  - /home/Ada Byron/a.json\n", "files:\n  - a.json\n"),
        ('["/home/ada/x", "/home/b c/y"]', '["x", "y"]'),
        ("[/home/ada/x, /home/b/y]", "[x, y]"),
        ("in (/home/ada/x)", "in (x)"),
    ],
)
def test_of_an_absolute_path_the_last_part_stays(text, expected):
    assert base_names(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "runs/my_student ./x ../y assets/squad/train-v1.1.json",
        "https://huggingface.co/datasets/squad and/or 1/2",
        "task / KD: 1 / 2",
        "1:4 2:8, 3e-4 it's",
        "",
    ],
)
def test_everything_else_stays_as_it_is(text):
    assert base_names(text) == text
