"""Reports: from folders of runs to tables and figures with error bars. They read run directories and nothing else."""
