"""The recipe of sentence-transformers for fewer layers, to compare with."""
