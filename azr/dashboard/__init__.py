"""SHOWN: the live dashboard. Reads the store and the training's live stream; never writes, and never imports torch.

- `stream`: inside the training process: progress and the JSON interface on the training port
- `server`: the dashboard's own process: page, JSON interface and event stream on the dashboard port
- `library`, `columns`, `queries`: the store as JSON; `api`: the routes that both ports serve
- `hub`: which training is followed, and what state it is in
- `events`: server-sent events with resume; `guard`: who may read
- `page/`: the page, plain modules without a build step; charts by uPlot, from the PyPI package `uplot-python`
"""
