"""The rooms behind `scripts/chaos`: a plan, a stage to play it on, and a judge."""
