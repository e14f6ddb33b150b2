"""The losses inside other distillation toolkits."""
