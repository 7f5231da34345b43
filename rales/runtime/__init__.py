"""The process and its threads: clock, loops, worker process, signals, systemd."""
