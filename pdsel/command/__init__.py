"""The console command `pdsel`: select, check, report.

What may live here: the parser of the command line, running notebook 07 on a user's file, and executed notebooks as pages of
HTML. Nothing here computes: whatever the command finds, the notebook finds as well. Other rooms do not import this one.
"""
