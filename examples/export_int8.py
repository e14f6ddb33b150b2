"""Export a student to ONNX and to int8, and run it without torch.

    python examples/export_int8.py

It needs `pip install "itrd_nlp[export]"`. `itrd-nlp export-onnx` does the same for a folder, and removes an int8 model
that loses more than `--max_f1_drop` points.
"""

import numpy as np
import onnxruntime
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from itrd_nlp.models.onnx_export import export_onnx, quantize_int8

torch.manual_seed(0)
words = "[PAD] [UNK] [CLS] [SEP] [MASK] a good bad long short film book".split()
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
tiny = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2}
config = BertConfig(vocab_size=len(words), **tiny)
student = BertForSequenceClassification(config).eval()  # yours: ....from_pretrained("runs/my_student")

difference = export_onnx(student, tokenizer, "out/onnx")  # refused if it were above 1e-4
quantize_int8("out/onnx", "out/onnx_int8")

session = onnxruntime.InferenceSession("out/onnx_int8/model_int8.onnx", providers=["CPUExecutionProvider"])
names = {value.name for value in session.get_inputs()}
batch = tokenizer(["a good film", "a long bad book"], padding=True, return_tensors="np")
(logits,) = session.run(None, {name: batch[name].astype(np.int64) for name in names})
expected = student(**batch.convert_to_tensors("pt")).logits
drift = float(np.abs(logits - expected.detach().numpy()).max())
print(f"fp32 logits differ from torch's by {difference:.0e}, those of int8 by {drift:.0e}")
