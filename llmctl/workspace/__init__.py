"""What llmctl does: look at the machine, choose, plan, fetch, measure. The command line only speaks for it."""
