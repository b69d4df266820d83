"""Questions asked of many runs: the grid, the league, studies of proxies, the claims, human ratings."""
