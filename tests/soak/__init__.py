"""An hour of somebody at the viewer, without the window: `python -m tests.soak`, some minutes of computing."""
