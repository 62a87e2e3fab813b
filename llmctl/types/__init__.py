"""The data that flows, as frozen structs. No I/O, no imports from the rest of llmctl.

Field names that leave the program in JSON are the contract's own, so that rendering is mechanical.
"""
