"""The Arrow files of a graph: one file, or a folder of parts."""
