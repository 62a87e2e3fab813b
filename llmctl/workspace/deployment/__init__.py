"""Deployments for other programs: what a plan says, in the form that they read."""
