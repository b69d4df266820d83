def check_pairs(p): pass
