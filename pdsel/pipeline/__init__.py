"""What `make` needs: profiles, costs, reports, text and commands."""
