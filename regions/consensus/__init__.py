"""Adapters of the port `ConsensusGroup`: a group of one on the region's own Postgres, and etcd."""
