"""The gateway: this machine's models for programs that speak OpenAI's or Anthropic's HTTP API."""
