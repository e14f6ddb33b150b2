import pytest
import torch

from itrd_nlp.question_answering.data import DataArguments, load_evaluation_data
from itrd_nlp.question_answering.workflows import evaluate_model
from itrd_nlp.training_args import FineTuningArguments


@pytest.fixture
def model(bert_tokenizer, make_bert):
    sizes = {"vocab_size": len(bert_tokenizer), "max_position_embeddings": 512}
    return make_bert(2, seed=0, **sizes).eval()


def test_evaluating_a_model_leaves_it_as_it_was(model, bert_tokenizer, write_squad, tmp_path):
    data = DataArguments(validation_file=str(write_squad()), max_length=128, doc_stride=32)
    evaluation = load_evaluation_data(data, bert_tokenizer)
    args = FineTuningArguments(output_dir=str(tmp_path / "out"), bf16=True, report_to="none")
    ids = torch.arange(8)[None]
    before = model(ids)
    results = evaluate_model(model, evaluation, bert_tokenizer, args)
    assert 0 <= results["exact_match"] <= results["f1"] <= 100
    assert results["questions"] == len(evaluation.examples) == len(evaluation.metrics.predictions)
    model.eval()
    after = model.to(torch.bfloat16)(ids, output_hidden_states=[1], return_dict=True)
    assert after.start_logits.dtype == torch.bfloat16  # not turned into fp32
    assert torch.equal(
        model.float()(ids).start_logits.bfloat16().argmax(), before.start_logits.argmax()
    )


def test_the_signature_is_that_of_questions_windows_and_decoding(bert_tokenizer, write_squad):
    def signature(path, **kwargs):
        data = DataArguments(
            validation_file=str(path), **({"max_length": 128, "doc_stride": 32} | kwargs)
        )
        return load_evaluation_data(data, bert_tokenizer).signature

    first = write_squad(name="a.json", seed=0)
    assert signature(first) == signature(write_squad(name="b.json", seed=0))
    others = [
        signature(write_squad(name="c.json", seed=1)),
        signature(first, max_length=96),
        signature(first, max_answer_length=5),
        signature(first, max_eval_samples=3),
    ]
    assert len({signature(first), *others}) == 5
