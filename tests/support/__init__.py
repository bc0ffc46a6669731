"""What tests share: real servers, schemas, probes."""
