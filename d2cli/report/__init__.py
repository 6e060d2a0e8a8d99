"""The report as a page: figures, thumbnails and words, without reading or writing a file."""
