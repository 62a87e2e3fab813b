"""Separates a model's thoughts from its answer: the marks that models use, and a splitter of a stream of text."""
