"""Tells a model's thoughts from its answer: the marks that models use, and the splitter of a stream of text."""
