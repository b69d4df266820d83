"""Mutation testing: is every small fault in the lesson, the evaluation and the rules noticed by a test? `make mutants`.

`mutate` draws faults with mutmut's operators, `survey` runs the tests that cover the faulty module, `__main__` counts.
"""
