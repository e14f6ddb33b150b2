import json

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    CanineTokenizer,
    EvalPrediction,
)

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.classification.features import (
    classification_features,
    collator,
    judged_positions,
)
from itrd_nlp.tasks.classification.task import Classification
from itrd_nlp.tasks.task import signature_of

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rhine", "flow", "##s", "past", "bonn"]
LABELS = {"no": 0, "yes": 1}


def tiny(**labels):
    """A model that takes 512 tokens, of no head: its labels alone are read."""
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return BertModel(BertConfig(**shape, vocab_size=len(TOKENS), intermediate_size=8, **labels))


@pytest.fixture
def tokenizer():
    return BertTokenizerFast(vocab={token: i for i, token in enumerate(TOKENS)})


def test_a_pair_is_one_input_with_the_id_of_its_label(tokenizer):
    rows = [{"text": "rhine", "text_pair": "flows past", "label": "yes"}]
    (found,) = classification_features(rows, tokenizer, LABELS)
    assert tokenizer.convert_ids_to_tokens(found["input_ids"]) == [
        *("[CLS]", "rhine", "[SEP]", "flow", "##s", "past", "[SEP]")
    ]
    assert found["label"] == 1
    assert found["length"] == 7


def test_the_first_part_of_a_word_has_its_label_and_nothing_else_has_one(tokenizer):
    rows = [{"tokens": ["rhine", "flows", "past"], "labels": [None, "yes", "no"]}]
    (found,) = classification_features(rows, tokenizer, LABELS)
    assert found["labels"] == [IGNORED, IGNORED, 1, IGNORED, 0, IGNORED]


def test_a_text_without_a_second_one_is_read_alone_whatever_stands_beside_it(tokenizer):
    alone = {"text": "rhine", "label": "yes"}
    pair = {"text": "rhine", "text_pair": "bonn", "label": "no"}
    (by_itself,) = classification_features([alone], tokenizer, LABELS)
    beside = classification_features([pair, alone], tokenizer, LABELS)[1]
    assert beside["input_ids"] == by_itself["input_ids"]
    assert beside["token_type_ids"] == by_itself["token_type_ids"]


def test_words_that_a_model_does_not_read_have_no_position(tokenizer):
    tokens = ["rhine", "\u200b", "flows", "past", "bonn"]
    rows = [{"tokens": tokens, "labels": ["no", "yes", "no", None, "yes"]}]
    # [CLS] rhine flow ##s past [SEP]: of the second word nothing is left, the last one is cut off.
    assert judged_positions(rows, tokenizer, 6) == [[1, None, 2, None]]
    (found,) = classification_features(rows, tokenizer, LABELS, max_length=6)
    assert found["labels"] == [IGNORED, 0, 0, IGNORED, IGNORED, IGNORED]
    assert judged_positions([{"text": "rhine", "label": "yes"}], tokenizer, 6) is None


def test_labels_of_tokens_need_a_tokenizer_that_knows_its_words_and_texts_do_not():
    slow = CanineTokenizer()
    with pytest.raises(UserError, match="CanineTokenizer is no fast tokenizer"):
        classification_features([{"tokens": ["a"], "labels": ["yes"]}], slow, LABELS)
    (found,) = classification_features([{"text": "ab", "label": "yes"}], slow, LABELS)
    assert found["input_ids"][1:-1] == [ord("a"), ord("b")]


def test_long_texts_are_cut(tokenizer):
    rows = [{"tokens": ["rhine"] * 30, "labels": ["no"] * 30}]
    (found,) = classification_features(rows, tokenizer, LABELS, max_length=12)
    assert len(found["input_ids"]) == len(found["labels"]) == found["length"] == 12


def test_batches_are_padded_to_a_multiple_of_8_and_padding_has_no_label(tokenizer):
    rows = [{"tokens": ["rhine"] * n, "labels": ["no"] * n} for n in (3, 9)]
    features = classification_features(rows, tokenizer, LABELS).remove_columns("length").to_list()
    batch = collator(rows, tokenizer)(features)
    assert batch["input_ids"].shape == (2, 16)
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all()
    texts = [{"text": "rhine", "label": "yes"}]
    features = classification_features(texts, tokenizer, LABELS).remove_columns("length").to_list()
    assert torch.equal(collator(texts, tokenizer)(features)["labels"], torch.tensor([1]))


def test_a_label_that_the_model_does_not_know_is_refused(tokenizer):
    with pytest.raises(UserError, match="label 'maybe' is in the data and not known"):
        classification_features([{"text": "rhine", "label": "maybe"}], tokenizer, LABELS)


@pytest.mark.parametrize("side", ["right", "left"])
def test_perfect_tags_score_100_whichever_side_the_tokenizer_padded(tokenizer, tmp_path, side):
    rows = [
        {"tokens": ["rhine", "flows"], "labels": ["B-R", "O"]},
        {"tokens": [*["past"] * 9, "bonn"], "labels": [*["O"] * 9, "B-R"]},
    ]
    path = tmp_path / "tags.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    tokenizer.padding_side = side
    data = Classification(TextArguments(validation_file=str(path))).load(
        tokenizer, tiny(id2label={0: "B-R", 1: "O"}, label2id={"B-R": 0, "O": 1}), training=False
    )
    labels = data.collator(data.evaluation.remove_columns("length").to_list())["labels"].numpy()
    found = np.where(labels == IGNORED, 1, labels)
    assert data.judge(EvalPrediction(predictions=found, label_ids=labels))["entity_f1"] == 100
    assert tokenizer.padding_side == "right"  # and is saved so


def test_another_positive_label_is_another_evaluation_and_none_is_that_of_before(
    tokenizer, tmp_path
):
    rows = [{"text": "rhine", "label": "yes"}, {"text": "bonn", "label": "no"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    model = tiny(id2label={0: "no", 1: "yes"}, label2id=LABELS)

    def signature(label):
        metrics = ["accuracy"] if label is None else ["positive_f1"]
        args = TextArguments(validation_file=str(path), metrics=metrics, positive_label=label)
        return Classification(args).load(tokenizer, model, training=False).signature

    read = signature_of([384, ["no", "yes"], rows])
    assert signature(None) == read
    assert len({read, signature("yes"), signature("no")}) == 3
