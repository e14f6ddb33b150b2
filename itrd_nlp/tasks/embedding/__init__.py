"""Embeddings: an encoder without a head gives each text one vector, and near vectors mean alike texts.

Two tasks live here, which differ in what they are judged by: finding the passage of a query, and the similarity of two
texts. Cross-encoders, which read both texts at once, live in `itrd_nlp.tasks.reranking`.
"""
