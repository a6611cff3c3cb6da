"""From records of runs to tables, figures and a page. Imports neither torch nor Lightning."""
