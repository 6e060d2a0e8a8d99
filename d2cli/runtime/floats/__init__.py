"""Floating-point numbers: matrix products, and float16 as float32."""
