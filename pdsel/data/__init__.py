"""Bytes to tables and back.

What may live here: the layouts of files and how to read them, cleaning, public sources at pinned commits, subsets and
conflict levels, the text in a message, evaluation prompts, outputs, export, and where large or computed tables are kept.
Nothing here knows about rewards, divergences, rules or policies; from the other rooms, only `notesworld` may be imported.
"""
