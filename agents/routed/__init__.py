"""The stages as they run in partitions: the same handlers, with what waits in between (protocol).

`lane` (intake), `keeper` (dedup), `writer` (identity), `home` (profile), `desk`
(delivery); usage needs nothing more.
"""
