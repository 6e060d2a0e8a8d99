"""Filtering of image-caption pairs: what a small CLIP model learns from what each method keeps."""
