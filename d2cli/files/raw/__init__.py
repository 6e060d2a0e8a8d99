"""Numbers that lie in files as in memory: read and written in ranges, never mapped.

Pages of a mapped file count as memory of the process.
"""
