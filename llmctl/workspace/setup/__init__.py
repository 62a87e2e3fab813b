"""The first time on a machine: the steps of a set-up, what is said in answer to them, and what they do."""
