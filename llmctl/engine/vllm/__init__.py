"""vLLM with a model's original weights, as a child of a gateway."""
