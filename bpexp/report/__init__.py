"""Reports: what MLflow holds of a sweep, turned into figures and a page.  `python -m bpexp.report` is the command.

`selection` says what a study is about, `figures` lists the pictures, `page` writes them down.
"""
