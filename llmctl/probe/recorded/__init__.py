"""A machine as a folder: recorded, scrubbed, and read again in its place."""
