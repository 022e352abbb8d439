"""What a run found, to look at: tables for a terminal, Markdown and LaTeX, and one HTML page that opens offline.

Reads a run folder (plan.json, results.parquet, samples.parquet, jobs.parquet, images/) and nothing else; never torch.

    testbed.report.load.read_run(folder)        the run
    testbed.report.terminal.show(run, console)  its tables on a terminal
    testbed.report.page.write_page(run)         report.html in its folder
    testbed.report.images.write_strip(...)      what the runner leaves in images/
"""
