"""torch and TRL: models, scoring, trainers, a training run and its folder. Knows no PD, no rule and no experiment."""
