"""Talking to an OpenAI-compatible address: the local engine's or a private server's, with the same client."""
