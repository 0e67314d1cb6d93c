"""Pure decisions: no clock, no IO, no logging, no randomness.

Time arrives as `now_s`; an answer is a frozen value with its reason. Shells in the rooms above act on it.
"""
