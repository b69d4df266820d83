"""Bytes to tables and back: layouts, cleaning, sources, subsets and conflict levels, messages, prompts, outputs, export."""
