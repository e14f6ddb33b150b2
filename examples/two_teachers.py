"""Let two teachers teach one student: KD learns from the mean of their predictions.

    python examples/two_teachers.py

The losses between hidden states read the first teacher alone. Both teachers need the same token ids and labels; depth
and width may differ.
"""

import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, DataCollatorWithPadding

from itrd_nlp import ITRDTrainer, ITRDTrainingArguments, build_student
from itrd_nlp.losses import mean_prediction

words = "[PAD] [UNK] [CLS] [SEP] [MASK] a good bad long short film book".split()
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})


def teacher(seed: int, layers: int, width: int) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(  # weights larger than usual, so that the two do not agree
        vocab_size=len(words), hidden_size=width, num_hidden_layers=layers, num_attention_heads=4, initializer_range=0.2
    )
    return BertForSequenceClassification(config).eval()


first, second = teacher(1, layers=4, width=64), teacher(2, layers=2, width=32)
student = build_student(first, num_layers=2)

texts = ["a good film", "a bad film", "a long good book", "a short bad book"] * 16
data = Dataset.from_dict(dict(tokenizer(texts)))  # no labels: w_task is 0
quiet = {"logging_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
args = ITRDTrainingArguments("out/two", w_task=0, learning_rate=2e-3, num_train_epochs=8, **quiet)
collator = DataCollatorWithPadding(tokenizer)
trainer = ITRDTrainer(student, first, args, more_teachers=[second], train_dataset=data, data_collator=collator)
trainer.train()

batch = tokenizer(texts[:4], padding=True, return_tensors="pt")
with torch.no_grad():
    logits = [model.eval()(**batch).logits for model in (first, second, student)]
both = mean_prediction(logits[:2], temperature=2.0)
distances = [float((one / 2).softmax(-1).sub((both / 2).softmax(-1)).abs().mean()) for one in logits]
shown = ", ".join(f"{distance:.3f}" for distance in distances)
print(f"distance of first teacher, second teacher and student to the mean prediction: {shown}")
