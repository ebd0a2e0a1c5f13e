//! The live counters as Prometheus metrics, summed over cores when somebody asks.
