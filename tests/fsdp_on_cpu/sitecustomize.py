"""For a job under accelerate launch: FSDP on processes of the CPU, over gloo, where torch has it and accelerate does not.

Nothing else is changed: the shipped config, the launcher, the trainer, the sharding and the saving are the real ones.
"""

import os

if os.environ.get("ACCELERATE_USE_FSDP") == "true":
    from accelerate import state

    original = state.PartialState.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if self.distributed_type is state.DistributedType.MULTI_CPU:
            self.distributed_type = state.DistributedType.MULTI_GPU

    state.PartialState.__init__ = init
