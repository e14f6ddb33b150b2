"""Learn from a teacher that transformers does not know: an adaptor says what its hidden states are.

    python examples/own_hidden_states.py

The teacher is an LSTM, the student a narrower BERT. A student of your own takes `student_adaptor`.
"""

from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, DataCollatorWithPadding

from itrd_nlp import ITRDTrainer, ITRDTrainingArguments
from itrd_nlp.models.adaptor import Reading


class Recurrent(nn.Module):
    """Embeddings, two recurrent layers both ways, and a head on the mean."""

    def __init__(self, vocabulary: int, width: int = 24) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(nn.LSTM(width, width // 2, bidirectional=True, batch_first=True) for _ in "12")
        self.head = nn.Linear(width, 2)


def read(model: Recurrent, inputs: dict[str, Any]) -> Reading:
    """Logits and the states of layer 0, the embeddings, and of layers 1 and 2. The mask says which tokens count."""
    mask = inputs["attention_mask"]
    states = [model.embeddings(inputs["input_ids"])]
    for layer in model.layers:
        states.append(layer(states[-1])[0])
    mean = (states[-1] * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    return Reading(model.head(mean), states, mask)


torch.manual_seed(0)
words = "[PAD] [UNK] [CLS] [SEP] [MASK] a good bad long short film book".split()
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
texts = ["a good film", "a bad film", "a long good book", "a short bad book"] * 16
data = Dataset.from_dict({**tokenizer(texts), "labels": [1, 0, 1, 0] * 16})
collator = DataCollatorWithPadding(tokenizer)
batch = collator(data.to_list())

teacher = Recurrent(len(words))
optimizer = torch.optim.AdamW(teacher.parameters(), 1e-2)
for _ in range(60):
    nn.functional.cross_entropy(read(teacher, batch).logits, batch["labels"]).backward()
    optimizer.step()
    optimizer.zero_grad()

config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
student = BertForSequenceClassification(config)
quiet = {"logging_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
args = ITRDTrainingArguments("out/own_states", w_task=0, alpha=1.5, num_train_epochs=12, learning_rate=4e-3, **quiet)
ITRDTrainer(student, teacher, args, train_dataset=data, data_collator=collator, teacher_adaptor=read).train()
agreement = (student.eval()(**batch).logits.argmax(-1) == read(teacher, batch).logits.argmax(-1)).float().mean()
print(f"without a label, the student agrees with an LSTM on {100 * agreement:.0f} % of the texts")
