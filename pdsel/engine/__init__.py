"""torch and TRL: everything that touches a model.

What may live here: loading models, reading texts with them (log-probabilities, rewards, features), TRL's trainers and our
changes to them, a training run with its folder, checkpoints and errors, processes under `accelerate launch`, and progress
bars. Nothing here knows about PD, rules or experiments: the engine takes pairs and numbers, and returns models and numbers.
"""
