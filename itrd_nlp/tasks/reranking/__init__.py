"""Reranking: a cross-encoder reads a query with each of its passages and gives every pair one score.

The data, the losses over lists, the metrics and the answers live here. Encoders without a head live in
`itrd_nlp.tasks.embedding`.
"""
