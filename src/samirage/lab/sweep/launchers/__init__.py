"""Where the tasks of a sweep run, one launcher a module: this process, processes on this machine, or a Ray cluster."""
