"""Sizes of blocks, and the numbers that stand for codes and bounds. No compiler is loaded."""

#: Points of a block. They are stored side by side, as vector instructions read them.
LANES = 32
#: Dimensions of a point that are stored together: what one instruction multiplies and adds up.
GROUP = 4
#: Rows that are compared with a block at a time.
QUERIES = 4
#: Rows are stored as uint8, code + BIAS: x86 instructions multiply unsigned by signed numbers.
BIAS = 128
#: The largest code; codes are -LARGEST … LARGEST.
LARGEST = 127
#: The most dimensions. Any sum of two halves, bounds or scores is then an int32.
MOST_DIMENSIONS = 1024
#: A bound that no score exceeds; also what `halves` holds at places without a point.
NEVER = 2**30 - 1
#: A bound that every score of a point exceeds, and no place without a point.
ALWAYS = -(10**9)
#: Numbers that one mask tells of.
MASKED = 64
