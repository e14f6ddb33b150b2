"""See which layers of a student are like which layers of its teacher.

    python examples/compare_layers.py

Linear CKA is 1 for layers that are the same up to rotation and scale, and near 0 for layers that share nothing. The
report of a run draws the same numbers before and after the training.
"""

import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel, BertTokenizerFast, DataCollatorWithPadding

from itrd_nlp import build_student
from itrd_nlp.models.similarity import layer_similarity

torch.manual_seed(0)
words = "[PAD] [UNK] [CLS] [SEP] [MASK] the a good bad long short film book play was is very not".split()
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
tiny = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "initializer_range": 0.2}
config = BertConfig(vocab_size=len(words), **tiny)
teacher = BertModel(config)  # yours: AutoModel.from_pretrained("my-teacher")
student = build_student(teacher, num_layers=2, init="uniform")  # layers 2 and 4 of the teacher

texts = [f"the {a} {b} was not very {c}" for a in words[7:11] for b in words[11:14] for c in words[7:11]]
rows = [tokenizer(text) for text in texts]
batches = DataLoader(rows, batch_size=16, collate_fn=DataCollatorWithPadding(tokenizer))
similarity = layer_similarity(student, teacher, batches)

print("student layer | teacher layer 0     1     2     3     4")
for layer, row in enumerate(similarity["cka"]):
    print(f"{layer:13} |            " + "  ".join(f"{value:.2f}" for value in row))
