import pytest

from itrd_nlp.distillation.layer_map import layer_pairs
from itrd_nlp.errors import UserError


def resolve(layer_map, student=3, teacher=12, **kwargs):
    pairs = layer_pairs(layer_map, student_layers=student, teacher_layers=teacher, **kwargs)
    return [tuple(pair) for pair in pairs]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (6, 12, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12)]),  # T6 of the paper
        (3, 12, [(1, 4), (2, 8), (3, 12)]),  # T3 of the paper
        (3, 6, [(1, 2), (2, 4), (3, 6)]),
        (2, 2, [(1, 1), (2, 2)]),
    ],
)
def test_uniform_spreads_the_teacher_layers_and_ends_at_the_last(student, teacher, expected):
    assert resolve("uniform", student, teacher) == expected


def test_last_pairs_the_last_layers_only():
    assert resolve("last") == [(3, 12)]


def test_pairs_can_be_tuples_or_what_a_command_line_gives():
    assert resolve([(1, 4), (3, 12)]) == resolve(["1:4", "3:12"]) == [(1, 4), (3, 12)]
    assert resolve(["uniform"]) == resolve("uniform")


def test_embeddings_are_layer_0_and_come_first_if_asked():
    assert resolve("last", include_embeddings=True) == [(0, 0), (3, 12)]
    assert resolve(["0:0", "3:12"], include_embeddings=True) == [(0, 0), (3, 12)]


@pytest.mark.parametrize(
    ("layer_map", "sentence"),
    [
        (
            ["1:13"],
            "layer_map pair 1:13 names teacher layer 13, but the teacher has layers 1 to 12",
        ),
        (["4:12"], "names student layer 4, but the student has layers 1 to 3"),
        (["-1:12"], "names student layer -1"),
        ("top", "layer_map is 'top', but must be uniform or last or pairs"),
        (["1-4"], "'1-4' is not a pair"),
        (["1:x"], "'1:x' is not a pair"),
        (["1:2:3"], "'1:2:3' is not a pair"),
        ([(1,)], "is not a pair"),
        ([], "is empty"),
        (["1:4", "1:4"], "names the pair 1:4 more than once"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused_by_name(layer_map, sentence):
    with pytest.raises(UserError, match=sentence):
        resolve(layer_map)
