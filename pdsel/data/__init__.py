"""Bytes to tables and back.

What may live here: the layouts of files and how to read them, cleaning, public sources at pinned commits, subsets and
conflict levels, the text in a message, evaluation prompts, outputs, export, and where large or computed tables are kept.
Nothing here knows a reward, a divergence, a rule or a policy; of the other rooms it may only ask `notesworld` for prompts.
"""
