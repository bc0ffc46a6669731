"""The web page: its sources (`source/`, which need Node), what is built of them (`bundle/`), and what serves that."""
